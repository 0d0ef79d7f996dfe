"""Data: readers of sources, captions and vocabulary, pictures, the packed dataset, and the drawn birds."""
