"""A book to oneself, for what cannot share it: restoring, archiving, migrating."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from micropaywall.errors import ConfigurationError, LedgerInUse, StoreUnavailable
from micropaywall.ledger.sqlite import files

__all__ = ["alone", "check_ours"]


@contextmanager
def alone(path: Path, now_ms: int) -> Iterator[sqlite3.Connection]:
    """A connection to the book at ``path`` that keeps everybody else out until it is closed.

    Raises LedgerInUse when any other connection is open, or another host has been seen lately; ConfigurationError when it
    is no book, StoreUnavailable when the file cannot be opened; sqlite3.DatabaseError when it is no database.

    While its log is in use, every connection holds a lock on a SQLite file, so a book cannot leave the log behind as long
    as anybody has it open; whoever has done it has the book alone, and finds everything committed in the one file.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0.0)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be opened: {error}") from error
    try:
        check_ours(connection, path)  # before anything of another program's database is changed
        _claim(connection, path)
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'writers'").fetchone():
            files.refuse_other_hosts(connection, path, files.this_host(), now_ms, 0)
        yield connection
    finally:
        connection.close()


def _claim(connection: sqlite3.Connection, path: Path) -> None:
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN EXCLUSIVE")  # with this locking mode, the lock outlives the transaction
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise StoreUnavailable(f"the book {path} cannot be opened: {error}") from error
        raise LedgerInUse(
            f"a program has the book {path} open",
            expected="a book that nobody uses",
            hint="Stop all servers and workers that use this book, then run the command again.",
        ) from error


def check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not a book, with ConfigurationError."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    if found != files.APPLICATION_ID:
        raise ConfigurationError("the file is not a book of micropaywall", received=str(path))
