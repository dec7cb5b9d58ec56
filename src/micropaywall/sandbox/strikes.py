"""Where the sandbox keeps which faults a payment asked for, and how often each has struck it.

Kept in the chain's file rather than in memory: the process that settles a payment is not always the one that took the request.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from micropaywall import limits
from micropaywall.sandbox.faults import Fault, FaultState, parse_fault

__all__ = ["add_faults", "count_strike", "fault_states"]


def add_faults(db: sqlite3.Connection, key: bytes, faults: Sequence[Fault]) -> None:
    """Keep what a payment asks for; asking again changes nothing, so that a re-sent request meets no fault twice."""
    db.executemany(
        "INSERT INTO faults (key, name, argument, asked) VALUES (?, ?, ?, 1) ON CONFLICT (key, name) DO NOTHING",
        [(key, fault.name.text, fault.argument) for fault in faults],
    )
    db.execute(
        "DELETE FROM faults WHERE rowid <= (SELECT max(rowid) - ? FROM faults)", (limits.SANDBOX_FAULTS_KEPT_MAX,)
    )


def fault_states(db: sqlite3.Connection, keys: Sequence[bytes]) -> list[Sequence[FaultState]]:
    """What is kept for each of ``keys``."""
    if db.execute("SELECT 1 FROM faults LIMIT 1").fetchone() is None:
        return [()] * len(keys)
    return [[_state(row) for row in db.execute(_OF_KEY, (key,))] for key in keys]


def count_strike(db: sqlite3.Connection, key: bytes, fault: Fault) -> int:
    """Count one strike; how many there were before."""
    (struck,) = db.execute(
        "INSERT INTO faults (key, name, argument, struck, asked) VALUES (?, ?, ?, 1, 0) "
        "ON CONFLICT (key, name) DO UPDATE SET struck = struck + 1 RETURNING struck",
        (key, fault.name.text, fault.argument),
    ).fetchone()
    return int(struck) - 1


_OF_KEY: Final = "SELECT name, argument, struck, asked FROM faults WHERE key = ? ORDER BY rowid"


def _state(row: tuple[str, str, int, int]) -> FaultState:
    name, argument, struck, asked = row
    return FaultState(parse_fault(f"{name}={argument}" if argument else name), struck, bool(asked))
