"""The book in one SQLite file, behind the port. Several processes of one host may share the file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from micropaywall import limits
from micropaywall.clock import Clock, SystemClock
from micropaywall.core.book import Answer, ChargeRow, Command, PaymentRow, Record, RefundRow, Work
from micropaywall.core.model import StoredResponse
from micropaywall.errors import StoreUnavailable
from micropaywall.ids import ReplayKey, RowId
from micropaywall.ledger import statements as sql
from micropaywall.ledger.records import record_of
from micropaywall.ledger.sqlite import files, work
from micropaywall.ledger.sqlite.bulk import Bulk
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.sqlite.rows import Charge, Payment, Refund, response_of
from micropaywall.ledger.sqlite.transaction import Transaction
from micropaywall.ledger.sqlite.writer import Writer, begin
from micropaywall.money import Asset

_T = TypeVar("_T")
_PAGE_ROWS: Final = 500
_HEARTBEAT_S: Final = 10.0


class SqliteLedger:
    """`ledger.port.Ledger` over SQLite; see `writer` for how commands are committed."""

    def __init__(self, path: Path, host: str, clock: Clock) -> None:
        self.path = path
        self._host = host
        self._clock = clock
        self._transaction: Transaction | None = None
        self._inode: tuple[int, int] | None = None
        self._seen_ms = 0
        self._local = threading.local()
        self._read_connections: list[sqlite3.Connection] = []
        self._readers = ThreadPoolExecutor(max_workers=limits.BOOK_READERS, thread_name_prefix="micropaywall-read")
        self._writer = Writer(self._store, self._idle)
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, assets: Iterable[Asset] = (), clock: Clock | None = None) -> SqliteLedger:
        """Open the book at ``path``, beginning it when there is none."""
        await asyncio.to_thread(files.prepare, path)
        ledger = cls(path, files.this_host(), clock or SystemClock())
        try:
            await ledger.register(assets)
        except BaseException:
            await ledger.close()
            raise
        return ledger

    # -- the writer's connection -------------------------------------------------------------------------------------

    def _store(self) -> tuple[Transaction, Bulk]:
        """The writer's side of an open connection to the file that is there now."""
        try:
            found = self.path.stat()
        except OSError as error:
            # Never made anew: an empty book would take every old payment as new.
            self._disconnect()
            raise StoreUnavailable(f"the book {self.path} is gone: {error.strerror}") from error
        inode = (found.st_dev, found.st_ino)
        if self._transaction is None or self._transaction.broken or inode != self._inode:
            self._disconnect()
            self._transaction = self._connect()
            self._bulk = Bulk(self._transaction)
            self._inode = inode
        return self._transaction, self._bulk

    _bulk: Bulk

    def _connect(self) -> Transaction:
        try:
            connection = files.connect(self.path)
            try:
                files.check_version(self.path, connection)
                now_ms = self._clock.now_ms()
                begin(Transaction(connection, 0))
                number = files.claim(connection, self.path, self._host, now_ms)
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the book {self.path} cannot be opened: {error}") from error
        self._seen_ms = now_ms
        return Transaction(connection, number)

    def _disconnect(self) -> None:
        if self._transaction is not None:
            try:
                self._transaction.connection.close()
            except sqlite3.Error:
                pass  # what it held is gone with the file
            self._transaction = None

    def _idle(self) -> None:
        """Now and then, in the writer's thread."""

    # -- port --------------------------------------------------------------------------------------------------------

    async def apply(self, command: Command) -> Answer:
        answer: Answer = await self._writer.send(command)
        return answer

    async def payment(self, key: ReplayKey | bytes) -> PaymentRow | None:
        def find(connection: sqlite3.Connection) -> PaymentRow | None:
            prefix = prefix_of(key)
            for row in connection.execute(sql.PAYMENTS_BEGINNING, (prefix, prefix)):
                payment = Payment(*row)
                if payment.key.startswith(key):
                    return payment.row()
            return None

        return await self._read(find)

    async def charges(self, payment_id: RowId) -> list[ChargeRow]:
        def find(connection: sqlite3.Connection) -> list[ChargeRow]:
            payment = _payment(connection, payment_id)
            if payment is None:
                return []
            rows = connection.execute(sql.CHARGES_OF, (payment.no,)).fetchall()
            return [Charge(*row).row(payment_id) for row in rows]

        return await self._read(find)

    async def response(self, charge_id: RowId) -> StoredResponse | None:
        return await self._read(lambda c: response_of(c.execute(sql.RESPONSE_BY_ID, (charge_id,)).fetchone()))

    async def refunds(self, payment_id: RowId) -> list[RefundRow]:
        def find(connection: sqlite3.Connection) -> list[RefundRow]:
            payment = _payment(connection, payment_id)
            if payment is None:
                return []
            return [Refund(*row).row(payment) for row in connection.execute(sql.REFUNDS_OF, (payment.no,)).fetchall()]

        return await self._read(find)

    async def lease_work(self, *, owner: str, now_ms: int, lease_until_ms: int, limit: int) -> Work:
        leased: Work = await self._writer.send(
            lambda t: work.lease_work(t, owner=owner, now_ms=now_ms, lease_until_ms=lease_until_ms, limit=limit)
        )
        return leased

    async def unconfirmed(self, *, now_ms: int, limit: int) -> list[PaymentRow]:
        rows: list[PaymentRow] = await self._writer.send(lambda t: work.unconfirmed(t, now_ms=now_ms, limit=limit))
        return rows

    async def end_leases(self, *, dead: Callable[[str], bool], now_ms: int) -> int:
        ended: int = await self._writer.send(lambda t: work.end_leases(t, dead=dead, now_ms=now_ms))
        return ended

    async def meta(self, name: str, new: bytes) -> bytes:
        value: bytes = await self._writer.send(lambda t: work.meta(t, name, new))
        return value

    async def register(self, assets: Iterable[Asset]) -> None:
        """Remember how amounts of ``assets`` are written for people."""
        rows = [(a.id, a.symbol, a.decimals, a.fiat) for a in assets]

        def add(t: Transaction) -> None:
            for row in rows:
                t.execute(sql.ADD_ASSET, row)

        await self._writer.send(add)

    async def pardon(self, payer: str, asset: str) -> bool:
        return bool(await self._writer.send(lambda t: t.change(sql.PARDON, (payer, asset)) == 1))

    async def records(self, *, since_ms: int = 0, limit: int | None = None) -> AsyncIterator[Record]:
        after = RowId(since_ms.to_bytes(6, "big") + bytes(10))
        left = limit
        first = True
        while left is None or left > 0:
            size = _PAGE_ROWS if left is None else min(_PAGE_ROWS, left)
            page = await self._read(_page(after, size, including=first))
            for _, record in page:
                yield record
            if len(page) < size:
                return
            after, first = page[-1][0], False
            left = None if left is None else left - size

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        for connection in self._read_connections:
            connection.close()
        if self._transaction is not None:
            try:
                begin(self._transaction)
                self._transaction.change(sql.SEEN, (None, self._transaction.base >> 40))
                self._transaction.execute("COMMIT")
            except sqlite3.Error:
                pass  # the heartbeat then ends by itself
        self._disconnect()

    # -- readers -----------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run ``query`` on a read-only connection in a thread."""
        if self._closed:
            raise StoreUnavailable("the book is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run_query, query)

    def _run_query(self, query: Callable[[sqlite3.Connection], Any]) -> Any:
        try:
            connection = getattr(self._local, "connection", None)
            inode = (stat := self.path.stat()).st_dev, stat.st_ino
            if connection is None or self._local.inode != inode:
                connection = files.connect(self.path, read_only=True)
                self._local.connection, self._local.inode = connection, inode
                self._read_connections.append(connection)
            return query(connection)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the book cannot be read right now: {error}") from error


def _payment(connection: sqlite3.Connection, payment_id: RowId) -> Payment | None:
    row = connection.execute(sql.PAYMENT_BY_ID, (payment_id,)).fetchone()
    return Payment(*row) if row else None


def _page(after: RowId, size: int, *, including: bool) -> Callable[[sqlite3.Connection], list[tuple[RowId, Record]]]:
    def query(connection: sqlite3.Connection) -> list[tuple[RowId, Record]]:
        assets = {row[0]: Asset(*row) for row in connection.execute(sql.ASSETS).fetchall()}
        found = []
        for row in connection.execute(sql.RECORDS_FROM if including else sql.RECORDS_AFTER, (after, size)).fetchall():
            charge = Charge(*row)
            payment = Payment(*connection.execute(sql.PAYMENT_BY_NO, (charge.payment_no,)).fetchone())
            found.append((charge.id, record_of(payment.row(), charge.row(payment.id), assets)))
        return found

    return query
