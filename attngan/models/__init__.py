"""The networks: nine of them, two encoders, F_ca, three stages and three discriminators."""
