"""Reading from the book: connections of their own, in threads, that see what is committed and block nobody."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from micropaywall import limits
from micropaywall.core.book import ChargeRow, PaymentRow, Record, RefundRow
from micropaywall.errors import StoreUnavailable
from micropaywall.ids import RowId
from micropaywall.ledger import statements as sql
from micropaywall.ledger.port import NEWEST
from micropaywall.ledger.records import record_of
from micropaywall.ledger.sqlite import files, search
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund
from micropaywall.money import Asset

_T = TypeVar("_T")
_PREFIX_BYTES = 8


class Readers:
    """A few threads, each with a read-only connection to the file that is there now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(limits.BOOK_READERS, thread_name_prefix="micropaywall-read")
        self._closed = False

    async def run(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """The result of ``query``; StoreUnavailable when the book cannot be read."""
        if self._closed:
            raise StoreUnavailable("the book is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)

    def close(self) -> None:
        """Let running queries end. Blocks."""
        self._closed = True
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _run(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            stat = self._path.stat()
            inode = stat.st_dev, stat.st_ino
            if getattr(self._local, "inode", None) != inode:
                connection = files.connect(self._path, read_only=True)
                self._local.connection, self._local.inode = connection, inode
                self._connections.append(connection)
            return query(self._local.connection)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the book cannot be read right now: {error}") from error


# -- queries ----------------------------------------------------------------------------------------------------------


def payment(connection: sqlite3.Connection, key: bytes) -> PaymentRow | None:
    """The payment whose replay key begins with ``key``; None when there is none, or more than one."""
    low = int.from_bytes(key[:_PREFIX_BYTES].ljust(_PREFIX_BYTES, b"\x00"), "big", signed=True)
    high = int.from_bytes(key[:_PREFIX_BYTES].ljust(_PREFIX_BYTES, b"\xff"), "big", signed=True)
    found = None
    for row in connection.execute(sql.PAYMENTS_BEGINNING, (low, high, low, high)):
        candidate = Payment(*row)
        if candidate.key.startswith(key):
            if found is not None:
                return None
            found = candidate
    return found.row() if found else None


def charges(connection: sqlite3.Connection, payment_id: RowId) -> list[ChargeRow]:
    """The charges of a payment, oldest first."""
    found = _payment(connection, payment_id)
    if found is None:
        return []
    rows = [Charge(*row) for row in connection.execute(sql.CHARGES_OF, (found.no,)).fetchall()]
    return [charge.row(payment_id) for charge in sorted(rows, key=lambda c: (c.created_ms, c.no))]


def refunds(connection: sqlite3.Connection, payment_id: RowId) -> list[RefundRow]:
    """The refunds of a payment, oldest first."""
    found = _payment(connection, payment_id)
    if found is None:
        return []
    rows = [Refund(*row) for row in connection.execute(sql.REFUNDS_OF, (found.no,)).fetchall()]
    return [refund.row(found) for refund in sorted(rows, key=lambda r: (r.created_ms, r.no))]


def _payment(connection: sqlite3.Connection, payment_id: RowId) -> Payment | None:
    row = connection.execute(sql.PAYMENT_BY_ID, (payment_id,)).fetchone()
    return Payment(*row) if row else None


def page(after: RowId, size: int, *, including: bool) -> Callable[[sqlite3.Connection], list[tuple[RowId, Record]]]:
    """A query for the next ``size`` records from ``after`` on."""

    def query(connection: sqlite3.Connection) -> list[tuple[RowId, Record]]:
        rows = connection.execute(sql.RECORDS_FROM if including else sql.RECORDS_AFTER, (after, size)).fetchall()
        return _records(connection, [Charge(*row) for row in rows])

    return query


def newest(connection: sqlite3.Connection, *, before: RowId, limit: int) -> list[tuple[RowId, Record]]:
    """The newest records below ``before``, newest first."""
    rows = connection.execute(sql.RECORDS_BEFORE, (before, limit)).fetchall()
    return _records(connection, [Charge(*row) for row in rows])


def found(
    connection: sqlite3.Connection, word: str, value: str, *, before: RowId, limit: int
) -> list[tuple[RowId, Record]]:
    """The newest records of a payer, endpoint, agent or transaction; see `search`."""
    rows: list[Charge] = []
    if word == "transaction":
        for id_ in search.find(connection, word, value, before=NEWEST, limit=limit):
            if (of := _payment(connection, id_)) is not None:
                rows += [Charge(*row) for row in connection.execute(sql.CHARGES_OF, (of.no,))]
        rows = sorted((charge for charge in rows if charge.id < before), key=lambda c: c.id, reverse=True)
    else:
        for id_ in search.find(connection, word, value, before=before, limit=limit):
            rows += [Charge(*row) for row in connection.execute(sql.CHARGE_BY_ID, (id_,))]
    return _records(connection, rows[:limit])


def _records(connection: sqlite3.Connection, rows: list[Charge]) -> list[tuple[RowId, Record]]:
    assets = {row[0]: Asset(*row) for row in connection.execute(sql.ASSETS).fetchall()}
    made = []
    for charge in rows:
        row = connection.execute(sql.PAYMENT_BY_NO, (charge.payment_no,)).fetchone()
        if row is not None:
            of = Payment(*row)
            made.append((charge.id, record_of(of.row(), charge.row(of.id), assets)))
    return made
