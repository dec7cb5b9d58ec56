"""The flows and tables of a paid request, without I/O: time, ids and answers arrive as values."""
