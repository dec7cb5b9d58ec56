"""The book in one SQLite file, behind the port. Several processes of one host may share the file."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Final

from micropaywall import limits
from micropaywall.clock import Clock, SystemClock
from micropaywall.core.book import Answer, ChargeRow, Command, PaymentRow, Record, RefundRow, Work
from micropaywall.core.model import StoredResponse
from micropaywall.errors import LedgerCorrupt, LedgerInUse, MicropaywallError, StoreUnavailable
from micropaywall.ids import ReplayKey, RowId
from micropaywall.ledger import statements as sql
from micropaywall.ledger.port import NEWEST
from micropaywall.ledger.sqlite import files, readers, work
from micropaywall.ledger.sqlite.bulk import Bulk
from micropaywall.ledger.sqlite.rows import response_of
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT, Transaction
from micropaywall.ledger.sqlite.upkeep import Upkeep
from micropaywall.ledger.sqlite.writer import Writer, begin
from micropaywall.money import Asset

_PAGE_ROWS: Final = 500


class SqliteLedger:
    """`ledger.port.Ledger` over SQLite; see `writer` for how commands are committed, `upkeep` for what happens behind."""

    def __init__(
        self, path: Path, host: str, clock: Clock, *, response_retention_s: int = limits.RESPONSE_RETENTION_S
    ) -> None:
        self.path = path
        self._host = host
        self._clock = clock
        self._open: tuple[Transaction, Bulk] | None = None
        self._inode = (0, 0)
        self._seen_at = 0.0
        self._corrupt: LedgerCorrupt | None = None
        self._readers = readers.Readers(path)
        self._writer = Writer(self._store, self._between)
        self._upkeep = Upkeep(
            post=self._writer.post,
            connect=lambda: files.connect(path, read_only=True),
            commands=lambda: self._writer.commands,
            clock=clock,
            response_retention_s=response_retention_s,
        )
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        assets: Iterable[Asset] = (),
        clock: Clock | None = None,
        response_retention_s: int = limits.RESPONSE_RETENTION_S,
    ) -> SqliteLedger:
        """Open the book at ``path``, beginning it when there is none."""
        await asyncio.to_thread(files.prepare, path)
        clock = clock or SystemClock()
        ledger = cls(path, files.this_host(), clock, response_retention_s=response_retention_s)
        try:
            await ledger.register(assets)
        except BaseException:
            await ledger.close()
            raise
        return ledger

    # -- the writer's connection, in the writer's thread -------------------------------------------------------------

    def _store(self) -> tuple[Transaction, Bulk]:
        """The writer's side of an open connection to the file that is there now."""
        if self._corrupt is not None:
            raise self._corrupt
        try:
            found = self.path.stat()
        except OSError as error:
            # Never made anew: an empty book would take every old payment as new.
            self._disconnect()
            raise StoreUnavailable(f"the book {self.path} is gone: {error.strerror}") from error
        inode = (found.st_dev, found.st_ino)
        if self._open is None or self._open[0].broken or inode != self._inode:
            self._disconnect()
            transaction = self._connect()
            self._open, self._inode = (transaction, Bulk(transaction)), inode
            self._upkeep.start()
        return self._open

    def _connect(self) -> Transaction:
        try:
            transaction = files.open_writer(self.path, self._host, self._clock.now_ms())
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the book {self.path} cannot be opened: {error}") from error
        self._seen_at = time.monotonic()
        return transaction

    def _disconnect(self) -> None:
        if self._open is not None:
            try:
                self._open[0].connection.close()
            except sqlite3.Error:
                pass  # what it held is gone with the file
            self._open = None

    def _between(self, idle: bool) -> bool:
        """After a batch, and when there is none: one step of what must be done in this thread; whether there is more."""
        if self._open is None or self._corrupt is not None:
            return False
        replay = self._open[0].replay
        try:
            if time.monotonic() - self._seen_at > limits.BOOK_HEARTBEAT_S:
                self._seen_at = time.monotonic()
                self._step(self._beat)
            if replay.wants_to_move(idle=idle):
                self._step(lambda t: t.replay.move())
                replay.moved()
                return idle
        except LedgerCorrupt as error:
            self._corrupt = error
        except LedgerInUse:
            self._disconnect()  # whoever connects again is told, for as long as the other host is there
        except (sqlite3.Error, MicropaywallError):
            pass  # the next command meets the same trouble and says so
        return False

    def _step(self, job: Callable[[Transaction], None]) -> None:
        t, _ = self._store()
        try:
            begin(t)
            job(t)
            t.execute("COMMIT")
        except BaseException:
            t.rollback()
            raise

    def _beat(self, t: Transaction) -> None:
        """Say that this host has the book, and see that no other has taken it."""
        number, now_ms = t.base >> WRITER_SHIFT, self._clock.now_ms()
        files.refuse_other_hosts(t.connection, self.path, self._host, now_ms, number)
        t.change(sql.SEEN, (now_ms, number))

    # -- port --------------------------------------------------------------------------------------------------------

    async def apply(self, command: Command) -> Answer:
        answer: Answer = await self._writer.send(command)
        return answer

    async def payment(self, key: ReplayKey | bytes) -> PaymentRow | None:
        return await self._readers.run(lambda c: readers.payment(c, key))

    async def charges(self, payment_id: RowId) -> list[ChargeRow]:
        return await self._readers.run(lambda c: readers.charges(c, payment_id))

    async def response(self, charge_id: RowId) -> StoredResponse | None:
        return await self._readers.run(lambda c: response_of(c.execute(sql.RESPONSE_BY_ID, (charge_id,)).fetchone()))

    async def refunds(self, payment_id: RowId) -> list[RefundRow]:
        return await self._readers.run(lambda c: readers.refunds(c, payment_id))

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
        rows = [(a.id, a.symbol, a.decimals, a.fiat) for a in assets]
        await self._writer.send(lambda t: t.connection.executemany(sql.ADD_ASSET, rows).rowcount)

    async def pardon(self, payer: str, asset: str) -> bool:
        return bool(await self._writer.send(lambda t: t.change(sql.PARDON, (payer, asset)) == 1))

    async def records(self, *, since_ms: int = 0, limit: int | None = None) -> AsyncIterator[Record]:
        after = RowId(since_ms.to_bytes(6, "big") + bytes(10))
        left = limit
        first = True
        while left is None or left > 0:
            size = _PAGE_ROWS if left is None else min(_PAGE_ROWS, left)
            page = await self._readers.run(readers.page(after, size, including=first))
            for _, record in page:
                yield record
            if len(page) < size:
                return
            after, first = page[-1][0], False
            left = None if left is None else left - size

    async def find(
        self, word: str = "", value: str = "", *, before: RowId = NEWEST, limit: int = 100
    ) -> list[tuple[RowId, Record]]:
        if not word:
            return await self._readers.run(lambda c: readers.newest(c, before=before, limit=limit))
        return await self._readers.run(lambda c: readers.found(c, word, value, before=before, limit=limit))

    async def seal(self) -> int:
        """Seal everything that is committed, now; how many seals that took."""
        return await asyncio.to_thread(self._upkeep.seal)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._upkeep.stop()
        self._writer.close()
        self._readers.close()
        if self._open is not None:
            files.close_writer(self._open[0])
            self._open = None
