"""What was spent, summed by the hour: the part of the store that budgets are checked against.

A rolling window is the sum of the hours that lie wholly in it, and the payments of the one hour in which it begins, so that
it is exact and its cost does not grow with the journal. Functions here run inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, get_args

from micropaywall.core.budget import WINDOW_MS, Limit, Scope, Spent, SpentLookup, Window
from micropaywall.money import Asset, Price
from micropaywall.spending.schema import HOUR_MS, UNIT_DECIMALS_MAX

__all__ = ["COMPACT_AFTER_HOURS", "add", "compact", "lookup", "read_limits", "subjects", "units", "write_limits"]

COMPACT_AFTER_HOURS: Final = WINDOW_MS["month"] // HOUR_MS + 2
"""Hours that no rolling window reaches any more are added up in hour 0."""

_UPSERT: Final = (
    "INSERT INTO tally (hour, realm, agent, host, payee, asset, counted, signed) {rows}"
    " ON CONFLICT DO UPDATE SET counted = counted + excluded.counted, signed = signed + excluded.signed"
)
_CHANGE: Final = (
    "UPDATE tally SET counted = counted + ?, signed = signed + ?"
    " WHERE hour = ? AND realm = ? AND agent = ? AND host = ? AND payee = ? AND asset = ?"
)
_COUNTS: Final = "state NOT IN ('released', 'expired') AND NOT (state = 'rejected' AND money_moved = 'no')"
"""`core.purchase.counts`, in SQL; a test compares the two."""


def units(amount_atomic: int, decimals: int) -> int:
    """An amount in units of at most nine decimals, rounded up: what a column of 64 bits can add up."""
    per_unit: int = 10 ** max(0, decimals - UNIT_DECIMALS_MAX)
    return -(-amount_atomic // per_unit)


def add(db: sqlite3.Connection, id_: bytes, *, counted: int, signed: int) -> None:
    """Add a payment to (1), or take it from (-1), the sums of the hour in which it was reserved."""
    if not counted and not signed:
        return
    row = db.execute(
        "SELECT created_ms, realm, agent, host, lower(payee), asset, units FROM purchase WHERE id = ?", (id_,)
    ).fetchone()
    hour, subject = row[0] // HOUR_MS, tuple(row)[1:6]
    amounts = (counted * row["units"], signed * row["units"])
    if signed > 0:
        db.execute(_UPSERT.format(rows="VALUES (?, ?, ?, ?, ?, ?, ?, ?)"), (hour, *subject, *amounts))
    elif db.execute(_CHANGE, (*amounts, hour, *subject)).rowcount == 0:
        db.execute(_CHANGE, (*amounts, 0, *subject))  # its hour was added up with the old ones


def compact(db: sqlite3.Connection, before_hour: int) -> None:
    """Add up the hours before ``before_hour`` in hour 0, where only limits in total look."""
    rows = (
        "SELECT 0, realm, agent, host, payee, asset, SUM(counted), SUM(signed) FROM tally"
        " WHERE hour > 0 AND hour < ? GROUP BY realm, agent, host, payee, asset"
    )
    db.execute(_UPSERT.format(rows=rows), (before_hour,))
    db.execute("DELETE FROM tally WHERE hour > 0 AND hour < ?", (before_hour,))


def lookup(db: sqlite3.Connection, *, realm: str, agent: str | None, now_ms: int) -> SpentLookup:
    """What was spent within a limit's window up to ``now_ms``; of one agent, or (None) of all."""

    def spent(limit: Limit, subject: str) -> Sequence[Spent]:
        where, values = "realm = ?", [realm]
        if agent is not None:
            where, values = f"{where} AND agent = ?", [*values, agent]
        if limit.scope != "all":
            column = "lower(payee)" if limit.scope == "payee" else limit.scope
            where, values = f"{where} AND {column} = ?", [*values, subject]
        since_ms = -1 if limit.window == "total" else now_ms - WINDOW_MS[limit.window]
        first_hour = 0 if since_ms < 0 else since_ms // HOUR_MS + 1
        found = db.execute(
            "SELECT assets.*, sum(x.counted), sum(x.signed) FROM ("  # noqa: S608 - constants
            f" SELECT asset, counted, signed FROM tally WHERE hour >= ? AND {where} UNION ALL"
            f" SELECT asset, units * ({_COUNTS}), units * (state <> 'released') FROM purchase"
            f" WHERE created_ms > ? AND created_ms < ? AND {where}"
            ") AS x JOIN assets ON assets.id = x.asset GROUP BY x.asset",
            (first_hour, *values, since_ms, first_hour * HOUR_MS, *values),
        )
        return [_spent(*row) for row in found]

    return spent


def _spent(id_: str, symbol: str, decimals: int, fiat: str, counted: int, signed: int) -> Spent:
    one = 10 ** min(decimals, UNIT_DECIMALS_MAX)
    return Spent(Asset(id_, symbol, decimals, fiat), Fraction(counted, one), Fraction(signed, one))


def subjects(db: sqlite3.Connection, scope: Scope, realm: str) -> list[str]:
    """Every host (payee, asset) that anything was spent on."""
    if scope == "all":
        return [""]
    return [row[0] for row in db.execute(f"SELECT DISTINCT {scope} FROM tally WHERE realm = ?", (realm,))]  # noqa: S608


# -- the user's limits ------------------------------------------------------------------------------------------------

_WINDOWS: Final[dict[str, Window]] = {name: name for name in get_args(Window)}
_SCOPES: Final[dict[str, Scope]] = {name: name for name in get_args(Scope)}


def read_limits(db: sqlite3.Connection) -> tuple[Limit, ...]:
    """The limits that hold for every program of the user."""
    return tuple(
        Limit(Price(Decimal(row["value"]), row["unit"]), _WINDOWS[row["period"]], _SCOPES[row["scope"]], row["subject"])
        for row in db.execute("SELECT * FROM budget ORDER BY seq")
    )


def write_limits(db: sqlite3.Connection, limits: Sequence[Limit]) -> None:
    """Replace them."""
    db.execute("DELETE FROM budget")
    db.executemany(
        "INSERT INTO budget (value, unit, period, scope, subject) VALUES (?, ?, ?, ?, ?)",
        [(format(x.amount.value, "f"), x.amount.unit, x.window, x.scope, x.subject) for x in limits],
    )
