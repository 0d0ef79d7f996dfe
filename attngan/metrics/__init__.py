"""Measures of pictures and of retrieval: pure functions on arrays. Imports nothing of attngan."""
