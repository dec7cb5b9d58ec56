"""The file of the sandbox chain: schema, connection, transactions. SQLite in WAL mode, shared by any number of processes.

``synchronous=NORMAL``: a commit survives the death of the process, but not always that of the machine. What a power cut takes
are the newest blocks, which to a seller is a reorganisation, and sellers must live through those anyway (their settlement
worker submits again). A block is called final only once it is on the disk (`Store.make_durable`), so that what is final
stays. With FULL every settlement would wait for the disk once more, for money that is worth nothing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from micropaywall import limits
from micropaywall.errors import RailError, Unavailable

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE chain (
    one                INTEGER PRIMARY KEY CHECK (one = 1),
    number             INTEGER NOT NULL CHECK (number >= 0),
    time_ms            INTEGER NOT NULL,
    fork               INTEGER NOT NULL,
    initial_balance    INTEGER NOT NULL CHECK (initial_balance >= 0),
    automine           INTEGER NOT NULL CHECK (automine IN (0, 1)),
    block_interval_ms  INTEGER NOT NULL CHECK (block_interval_ms >= 0),
    finality_depth     INTEGER NOT NULL CHECK (finality_depth >= 1)
) STRICT;

-- From which block on a reorganisation replaced the branch; a block's hash depends on it.
CREATE TABLE forks (
    fork  INTEGER PRIMARY KEY,
    base  INTEGER NOT NULL
) STRICT;

-- Only addresses that were used; every other one has chain.initial_balance. `granted` is what this one began with.
CREATE TABLE accounts (
    address  BLOB PRIMARY KEY CHECK (length(address) = 20),
    balance  INTEGER NOT NULL CHECK (balance >= 0),
    granted  INTEGER NOT NULL CHECK (granted >= 0)
) STRICT, WITHOUT ROWID;

-- What was mined. `attempt` is 0 for the transaction that took effect, which the unique key allows once per
-- authorization; reverted ones count up from 1. `reason` names the revert, or is ''. The hash holds the id.
CREATE TABLE transactions (
    id            INTEGER PRIMARY KEY,
    hash          BLOB NOT NULL CHECK (length(hash) = 32),
    kind          INTEGER NOT NULL,
    sender        BLOB NOT NULL CHECK (length(sender) = 20),
    recipient     BLOB NOT NULL CHECK (length(recipient) = 20),
    value         INTEGER NOT NULL CHECK (value >= 0),
    nonce         BLOB NOT NULL CHECK (length(nonce) = 32),
    valid_after   INTEGER NOT NULL,
    valid_before  INTEGER NOT NULL,
    block         INTEGER NOT NULL,
    time_s        INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    reason        TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX transactions_authorization ON transactions (sender, nonce, attempt);
CREATE INDEX transactions_block ON transactions (block);

-- What waits for a block, in order; `not_before` is the first block that may take it.
CREATE TABLE pending (
    id            INTEGER PRIMARY KEY,
    hash          BLOB NOT NULL,
    kind          INTEGER NOT NULL,
    sender        BLOB NOT NULL,
    recipient     BLOB NOT NULL,
    value         INTEGER NOT NULL,
    nonce         BLOB NOT NULL,
    valid_after   INTEGER NOT NULL,
    valid_before  INTEGER NOT NULL,
    not_before    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX pending_authorization ON pending (sender, nonce);

-- Trouble on request: what a payment (by replay key) asked for, and how often each fault has struck it.
CREATE TABLE faults (
    key       BLOB NOT NULL CHECK (length(key) = 32),
    name      TEXT NOT NULL,
    argument  TEXT NOT NULL,
    struck    INTEGER NOT NULL DEFAULT 0,
    asked     INTEGER NOT NULL CHECK (asked IN (0, 1)),
    PRIMARY KEY (key, name)
) STRICT;
"""


class Store:
    """One file. A connection per process (made anew after a fork), used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._durable_block = -1

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the chain. Raises Unavailable."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """All of the block or nothing, alone among all processes. Raises Unavailable."""
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                db = self._connection()
                db.execute(begin)
                try:
                    yield db
                except BaseException:
                    db.execute("ROLLBACK")
                    raise
                db.execute("COMMIT")
            except (sqlite3.OperationalError, OSError) as error:
                self._discard_broken_transaction()
                raise Unavailable(
                    f"the sandbox network's file cannot be used right now: {error}", received=str(self.path)
                ) from error
            except sqlite3.DatabaseError as error:
                self._discard_broken_transaction()
                if type(error) is not sqlite3.DatabaseError:  # a defect of ours, like a constraint that does not hold
                    raise
                raise RailError(
                    f"the sandbox network's file is damaged, or not one: {error}",
                    received=str(self.path),
                    hint="Nothing in it has value: delete it and start again.",
                ) from error

    def make_durable(self, block: int) -> bool:
        """Whether everything up to the final ``block`` is on the disk; tries to bring it there."""
        with self._lock:
            if block <= self._durable_block:
                return True
            try:
                busy, frames, written = self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            except sqlite3.Error:
                return False
            # Only a complete checkpoint says that log and file were synced; with a reader in the way, next time.
            if busy == 0 and frames == written:
                self._durable_block = block
            return block <= self._durable_block

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._db is not None and self._pid == os.getpid():
                self._db.close()
            self._db = None

    # -- connection ---------------------------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        if self._db is None or self._pid != os.getpid():
            # After a fork the parent's connection must be neither used nor closed (sqlite.org/howtocorrupt.html, 2.6).
            self._db, self._pid = _connect(self.path), os.getpid()
        return self._db

    def _discard_broken_transaction(self) -> None:
        db = self._db
        if db is not None and self._pid == os.getpid() and db.in_transaction:
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error:
                self._db = None


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(
        path, timeout=limits.SANDBOX_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    _set_wal(db)
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA temp_store = MEMORY")
    version = _create(db)
    if version != SCHEMA_VERSION:
        db.close()
        raise RailError(
            "the sandbox network's file was written by another version of micropaywall",
            expected=SCHEMA_VERSION,
            received=version,
            hint=f"Nothing in it has value: delete {path} and start again.",
        )
    return db


def _set_wal(db: sqlite3.Connection) -> None:
    """Several processes may open a new file at once; SQLite does not wait for them when it changes the journal mode."""
    deadline = time.monotonic() + limits.SANDBOX_BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _create(db: sqlite3.Connection) -> int:
    """Make the tables unless somebody did; the version of the schema."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version:
        return version
    db.execute("BEGIN IMMEDIATE")
    try:
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if not version:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            version = SCHEMA_VERSION
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return version
