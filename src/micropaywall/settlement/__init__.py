"""From what the book owes to what the rails say: immediate settlements, background work, confirmation, recovery."""
