"""How much faster each part is than the plain way of the released code: `make bench`."""
