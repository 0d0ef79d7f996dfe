"""The losses: plain functions of tensors and numbers."""
