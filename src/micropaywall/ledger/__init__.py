"""The book: who paid what for which delivery, in double entry, on SQLite (and, by the same port, PostgreSQL)."""
