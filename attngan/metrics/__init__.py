"""The metrics, one file each; they take tensors and plain numbers."""
