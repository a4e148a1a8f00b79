"""Records as rows and columns, kept as an index."""
