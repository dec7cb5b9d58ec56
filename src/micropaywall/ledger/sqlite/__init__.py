"""The book in one SQLite file."""

from __future__ import annotations

from micropaywall.ledger.sqlite.ledger import SqliteLedger

__all__ = ["SqliteLedger"]
