"""The tables of `spending.db`, and opening them.

    purchase     one row per payment: reserved, then signed and journaled, then what became of it
    tally        what was spent per hour, so that a rolling budget is a sum over hours and one partial hour
    budget       limits that hold for every program of the user
    known        payees that hosts were paid at
    assets, meta

Times are Unix milliseconds of a clock that never runs backwards (`meta.clock_ms`), so that a machine's clock that is set
back frees no budget. Amounts in `tally` are units of at most nine decimals, rounded up: 64 bits hold nine billion dollars.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Final

from micropaywall.errors import StoreUnavailable

__all__ = ["HOUR_MS", "UNIT_DECIMALS_MAX", "VERSION", "open_database"]

VERSION: Final = 1
HOUR_MS: Final = 3_600_000
UNIT_DECIMALS_MAX: Final = 9
_BUSY_MS: Final = 15_000
"""How long a process waits for others to finish their commits, each of which takes some milliseconds."""
_WAL_ATTEMPTS: Final = 200
_WAL_PAUSE_S: Final = 0.02

_SCHEMA: Final = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE assets (
    id TEXT PRIMARY KEY, symbol TEXT NOT NULL, decimals INTEGER NOT NULL CHECK (decimals BETWEEN 0 AND 77), fiat TEXT NOT NULL
) STRICT;

CREATE TABLE purchase (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    state TEXT NOT NULL CHECK (state IN
        ('reserved', 'signed', 'sent', 'unknown', 'served', 'rejected', 'expired', 'released')),
    agent TEXT NOT NULL,
    call_key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    endpoint TEXT NOT NULL,
    origin TEXT NOT NULL,
    authority TEXT NOT NULL,
    host TEXT NOT NULL,
    realm TEXT NOT NULL CHECK (realm IN ('live', 'test')),
    scheme TEXT NOT NULL,
    network TEXT NOT NULL,
    asset TEXT NOT NULL REFERENCES assets (id),
    amount INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 4611686018427387903),
    units INTEGER NOT NULL CHECK (units > 0),
    payer TEXT NOT NULL,
    payee TEXT NOT NULL,
    dialect TEXT NOT NULL,
    created_ms INTEGER NOT NULL CHECK (created_ms > 0),
    lease_until_ms INTEGER NOT NULL,
    key BLOB CHECK (length(key) = 32),
    payment_id TEXT,
    header_name TEXT,
    header_value TEXT,
    valid_before_ms INTEGER NOT NULL DEFAULT 0,
    signed_ms INTEGER,
    concluded_ms INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    money_moved TEXT NOT NULL DEFAULT 'no' CHECK (money_moved IN ('yes', 'no', 'unknown')),
    reason TEXT NOT NULL DEFAULT '',
    response_status INTEGER,
    transaction_id TEXT NOT NULL DEFAULT '',
    -- What is signed is journaled: nothing past 'reserved' and 'released' without its credential.
    CHECK (state IN ('reserved', 'released') OR (key IS NOT NULL AND header_value IS NOT NULL))
) STRICT;

-- One payment at a time for a logical call.
CREATE UNIQUE INDEX purchase_open_call ON purchase (agent, call_key)
    WHERE call_key <> '' AND state IN ('reserved', 'signed', 'sent', 'unknown');
CREATE INDEX purchase_call ON purchase (agent, call_key, seq) WHERE call_key <> '';
CREATE UNIQUE INDEX purchase_key ON purchase (key) WHERE key IS NOT NULL;
CREATE INDEX purchase_open ON purchase (state, seq) WHERE state IN ('reserved', 'signed', 'sent', 'unknown');
CREATE INDEX purchase_created ON purchase (created_ms);

CREATE TABLE tally (
    hour INTEGER NOT NULL,
    realm TEXT NOT NULL,
    agent TEXT NOT NULL,
    host TEXT NOT NULL,
    payee TEXT NOT NULL,
    asset TEXT NOT NULL,
    counted INTEGER NOT NULL CHECK (counted >= 0),
    signed INTEGER NOT NULL CHECK (signed >= counted),
    PRIMARY KEY (hour, realm, agent, host, payee, asset)
) STRICT, WITHOUT ROWID;

CREATE TABLE budget (
    seq INTEGER PRIMARY KEY,
    value TEXT NOT NULL,
    unit TEXT NOT NULL,
    period TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;

CREATE TABLE known (
    authority TEXT NOT NULL, network TEXT NOT NULL, payee TEXT NOT NULL, since_ms INTEGER NOT NULL,
    PRIMARY KEY (authority, network, payee)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = {VERSION};
"""


def open_database(path: Path) -> sqlite3.Connection:
    """A connection to the store at ``path``, made when there is none. Raises StoreUnavailable.

    Usable from any thread, one at a time. Commits survive a power cut.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(path)
        connection = sqlite3.connect(path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection, path)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(
            f"the spending store cannot be opened: {error}",
            received=str(path),
            hint="Set MICROPAYWALL_HOME to a directory that this user may write.",
        ) from None
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log. SQLite does not wait for others here, so several first openers must take turns."""
    for attempt in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if attempt == _WAL_ATTEMPTS - 1:
                raise
            time.sleep(_WAL_PAUSE_S)


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner only: it holds signed payments. SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Asked again under the lock: another process may have made the tables meanwhile.
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _statements(_SCHEMA):
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        version = VERSION
    if version != VERSION:
        raise StoreUnavailable(
            "the spending store was written by a newer micropaywall",
            expected=f"version {VERSION}",
            received=f"version {version} in {path}",
        )


def _statements(script: str) -> list[str]:
    # executescript would commit first, and so give up the lock.
    return [text for text in (part.strip() for part in script.split(";\n")) if text]
