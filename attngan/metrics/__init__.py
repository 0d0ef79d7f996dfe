"""Measures of pictures and of retrieval: pure functions on arrays, and their names. Imports nothing of attngan."""
