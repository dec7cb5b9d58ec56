"""The buyer's journal and budgets: one SQLite file, shared by all programs of a user."""
