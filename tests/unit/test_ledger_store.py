"""When the store fails: 503 for the callers, nothing half done, and it goes on when the store does."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.kit.ledger_lives import live, open_book
from tests.kit.ledgers import EXPIRY, NOW, SECOND, capture, end_settle, key_of, reserve

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.core import book
from micropaywall.errors import LedgerCorrupt, LedgerInUse, MicropaywallError, Overloaded, StoreUnavailable
from micropaywall.ledger.sqlite import SqliteLedger, files, search
from micropaywall.ledger.sqlite.transaction import Transaction
from micropaywall.ledger.verify import verify

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ledger(tmp_path: Path, anyio_backend: str) -> AsyncIterator[SqliteLedger]:
    opened = await open_book(tmp_path / "ledger.db")
    yield opened
    await opened.close()


async def in_writer(ledger: SqliteLedger, job: Any) -> Any:
    """Run something in the writer's thread, on its connection."""
    return await ledger._writer.send(job)


async def refused(attempt: Any) -> Any:
    """The answer, or the error."""
    try:
        return await attempt
    except MicropaywallError as error:
        return error


def beside(path: Path) -> list[Path]:
    """The book's files."""
    return list(path.parent.glob(f"{path.name}*"))


async def sells(ledger: SqliteLedger, name: str) -> None:
    """The book takes a payment from beginning to end."""
    applied = await ledger.apply(reserve(name))
    assert isinstance(applied, book.Applied)
    assert isinstance(await ledger.apply(capture(applied, begin_settle=True)), book.Applied)
    assert isinstance(await ledger.apply(end_settle(applied)), book.Applied)


async def test_a_full_disk_is_503_and_nothing_of_the_commit_is_kept(ledger: SqliteLedger) -> None:
    await sells(ledger, "before")
    (pages,) = await in_writer(ledger, lambda t: t.execute("PRAGMA page_count").fetchone())
    await in_writer(ledger, lambda t: t.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    many = [reserve(f"p{n}", instruction=bytes(4_000)) for n in range(50)]
    answers = await asyncio.gather(*(ledger.apply(command) for command in many), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert all(answer.retryable and answer.retry_after_s for answer in answers)
    assert await ledger.payment(key_of("p0")) is None
    await in_writer(ledger, lambda t: t.execute("PRAGMA max_page_count = 1000000").fetchone())
    for command in many:
        assert isinstance(await ledger.apply(command), book.Applied), "what was not kept is new"
    await sells(ledger, "after")
    assert verify(ledger.path).ok


@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN IMMEDIATE", "INSERT INTO charges"])
async def test_an_io_error_is_503_and_the_connection_is_made_anew(ledger: SqliteLedger, statement: str) -> None:
    await sells(ledger, "before")
    failing = True

    class Faulty:
        """The writer's connection on a disk that fails."""

        def __init__(self, real: sqlite3.Connection) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def _check(self, text: str) -> None:
            if failing and text.strip().startswith(statement):
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR, "SQLITE_IOERR"
                raise error

        def execute(self, text: str, *rest: Any) -> Any:
            self._check(text)
            return self.real.execute(text, *rest)

        def executemany(self, text: str, *rest: Any) -> Any:
            self._check(text)
            return self.real.executemany(text, *rest)

    assert ledger._open is not None
    t, _ = ledger._open
    t.connection = Faulty(t.connection)  # type: ignore[assignment]
    t.execute = t.connection.execute  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable) as caught:
        await ledger.apply(reserve("during"))
    assert caught.value.status == 503
    assert caught.value.money_moved == "no"
    failing = False
    assert isinstance(await ledger.apply(reserve("during")), book.Applied)
    await sells(ledger, "after")
    assert verify(ledger.path).ok


async def test_a_book_that_another_program_holds_is_503_until_it_lets_go(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BOOK_LOCK_WAIT_S", 0.05)
    holder = sqlite3.connect(ledger.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await ledger.apply(reserve("a"))
    assert await ledger.payment(key_of("a")) is None, "reading goes on"
    holder.execute("ROLLBACK")
    holder.close()
    await sells(ledger, "a")


async def test_a_short_lock_is_waited_for(ledger: SqliteLedger) -> None:
    holder = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    threading.Timer(0.1, lambda: holder.execute("ROLLBACK")).start()
    assert isinstance(await ledger.apply(reserve("a")), book.Applied)
    holder.close()


async def test_a_new_book_waits_for_the_worker_that_is_beginning_it(tmp_path: Path) -> None:
    """Several workers start at once. SQLite itself does not wait when the log is to be begun and somebody is writing."""
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
    await (await open_book(path)).close()
    other.close()


async def test_a_book_that_is_gone_is_503_and_is_never_begun_anew(ledger: SqliteLedger, tmp_path: Path) -> None:
    """Attack (or accident): the file is moved away; an empty book in its place would take every old payment as new."""
    if sys.platform == "win32":
        return  # an open file cannot be moved there
    await sells(ledger, "known")
    away = tmp_path / "away"
    away.mkdir()
    for path in beside(ledger.path):
        path.rename(away / path.name)
    with pytest.raises(StoreUnavailable, match="gone"):
        await ledger.apply(reserve("new"))
    with pytest.raises(StoreUnavailable):
        await ledger.payment(key_of("known"))
    assert not ledger.path.exists()
    for path in away.iterdir():
        path.rename(tmp_path / path.name)
    assert isinstance(await ledger.apply(reserve("known")), book.Replayed)
    await sells(ledger, "new")


async def test_a_book_that_was_replaced_is_opened_anew(ledger: SqliteLedger, tmp_path: Path) -> None:
    """After a restore under a running seller: the file of the name is the book, not the one that was open."""
    if sys.platform == "win32":
        return
    other = await open_book(tmp_path / "other.db")
    await sells(other, "in the other")
    await other.close()
    await sells(ledger, "in the first")
    shutil.copy(tmp_path / "other.db", tmp_path / "copy.db")
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"ledger.db{suffix}").unlink()
    (tmp_path / "copy.db").rename(ledger.path)
    assert isinstance(await ledger.apply(reserve("in the other")), book.Replayed)
    assert isinstance(await ledger.apply(reserve("in the first")), book.Applied)
    assert await ledger.payment(key_of("in the other")) is not None


async def test_a_closed_book_takes_nothing(tmp_path: Path) -> None:
    ledger = await open_book(tmp_path / "ledger.db")
    await ledger.close()
    await ledger.close()
    for attempt in (ledger.apply(reserve()), ledger.payment(key_of("a")), ledger.meta("x", b"")):
        with pytest.raises(StoreUnavailable, match="closed"):
            await attempt


async def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    ledger = await open_book(tmp_path / "ledger.db")
    waiting = [asyncio.ensure_future(ledger.apply(reserve(f"p{n}"))) for n in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await ledger.close()
    answers = await asyncio.gather(*waiting)
    assert all(isinstance(answer, book.Applied) for answer in answers)
    assert verify(ledger.path).payments == 100


async def test_a_queue_that_is_full_is_503_and_not_a_longer_queue(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: more requests than the disk can commit; each would hold memory until all before it are done."""
    monkeypatch.setattr(limits, "WRITER_QUEUE_MAX", 10)
    answers = await asyncio.gather(*(ledger.apply(reserve(f"p{n}")) for n in range(30)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(book.Applied) == 10
    assert [type(answer) for answer in answers].count(Overloaded) == 20
    assert isinstance(await ledger.apply(reserve("later")), book.Applied)


async def test_a_request_that_was_cancelled_is_still_carried_out(ledger: SqliteLedger) -> None:
    """A buyer that leaves must not leave the book in doubt."""
    waiting = asyncio.ensure_future(ledger.apply(reserve("gone")))
    await asyncio.sleep(0)
    waiting.cancel()
    await sells(ledger, "next")
    assert await ledger.payment(key_of("gone")) is not None


def test_several_event_loops_share_one_ledger(tmp_path: Path) -> None:
    """A WSGI server's background loop, and the one that opened the book."""

    async def use(name: str) -> Any:
        return await ledger.apply(reserve(name))

    ledger = asyncio.run(open_book(tmp_path / "ledger.db"))
    answers = [asyncio.run(use(f"p{n}")) for n in range(3)]
    assert all(isinstance(answer, book.Applied) for answer in answers)
    asyncio.run(ledger.close())


# -- several hosts ----------------------------------------------------------------------------------------------------


@contextmanager
def as_host(monkeypatch: pytest.MonkeyPatch, machine: str, boot: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(files, "this_host", lambda: f'{{"boot": "{boot}", "machine": "{machine}"}}')
        yield


async def test_a_second_host_is_refused_while_the_first_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared file system does not share SQLite's locks: two hosts would corrupt the book."""
    path, clock = tmp_path / "ledger.db", ManualClock(NOW)
    with as_host(monkeypatch, "first", "b1"):
        first = await open_book(path, clock)
    with as_host(monkeypatch, "second", "b2"):
        with pytest.raises(LedgerInUse) as caught:
            await open_book(path, clock)
        assert caught.value.received == "first"
        assert "second" not in str(caught.value.received)
    with as_host(monkeypatch, "first", "b9"):
        await (await open_book(path, clock)).close()  # the same machine after a reboot
    with as_host(monkeypatch, "container", "b1"):
        await (await open_book(path, clock)).close()  # another container on the same kernel
    await first.close()
    with as_host(monkeypatch, "second", "b2"):
        await (await open_book(path, clock)).close()  # the first has left


async def test_a_host_that_has_vanished_does_not_keep_the_book_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clock = tmp_path / "ledger.db", ManualClock(NOW)
    with as_host(monkeypatch, "first", "b1"):
        first = await open_book(path, clock)
    clock.advance(limits.BOOK_HOST_LEASE_S + 1)
    with as_host(monkeypatch, "second", "b2"):
        second = await open_book(path, clock)
    await second.close()
    await first.close()


async def test_the_heartbeat_goes_on_and_notices_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BOOK_HEARTBEAT_S", 0.0)
    path, clock = tmp_path / "ledger.db", ManualClock(NOW)
    ledger = await open_book(path, clock)
    clock.advance(50)
    await sells(ledger, "a")
    await sells(ledger, "b")
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT max(seen_ms) FROM writers").fetchone() == (NOW + 50 * SECOND,)
    other = '{"boot": "x", "machine": "other"}'
    connection.execute("INSERT INTO writers VALUES (99, ?, 0, ?, 0)", (other, NOW + 50 * SECOND))
    connection.commit()
    connection.close()
    refused = None
    for n in range(20):
        try:
            await ledger.apply(reserve(f"p{n}"))
        except LedgerInUse as error:
            refused = error
            break
    assert refused is not None
    await ledger.close()


# -- one replay key, one payment ---------------------------------------------------------------------------------------


async def test_replay_keys_are_found_before_and_after_they_moved_into_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack: present a credential again while its key is on its way from the tail to the index."""
    monkeypatch.setattr(limits, "REPLAY_TAIL_MAX", 20)
    monkeypatch.setattr(limits, "REPLAY_MOVE_ROWS", 7)
    ledger = await open_book(tmp_path / "ledger.db")
    for n in range(120):
        assert isinstance(await ledger.apply(reserve(f"p{n}")), book.Applied)
        for known in range(0, n + 1, 13):
            assert isinstance(await ledger.apply(reserve(f"p{known}")), book.Busy), (n, known)
    connection = sqlite3.connect(ledger.path)
    moved, waiting = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("replay_keys", "replay_tail")
    )
    assert moved >= 60
    assert waiting < 60
    for n in range(0, 120, 7):
        row = await ledger.payment(key_of(f"p{n}")[:20])
        assert row is not None
        assert row.key == key_of(f"p{n}")
    await ledger.close()
    connection.close()
    assert verify(ledger.path).ok
    again = await open_book(ledger.path)
    assert isinstance(await again.apply(reserve("p5")), book.Busy)
    await again.close()


async def test_keys_that_begin_alike_are_two_payments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attack: search for a nonce whose key begins like that of somebody else's payment, to block or to share it."""
    monkeypatch.setattr(limits, "REPLAY_TAIL_MAX", 2)
    ledger = await open_book(tmp_path / "ledger.db")
    alike = [key_of("x")[:8] + bytes([n]) * 24 for n in range(4)]
    for _ in range(2):
        for n, key in enumerate(alike):
            answer = await ledger.apply(reserve(f"p{n}", key=key))
            assert isinstance(answer, book.Applied if not _ else book.Busy)
        for n in range(6):
            await ledger.apply(reserve(f"other{n}", request="GET /other"))
    for n, key in enumerate(alike):
        row = await ledger.payment(key)
        assert row is not None
        assert row.instruction == f"instruction p{n}".encode()
    assert await ledger.payment(key_of("x")[:4]) is None, "the beginning of an id that several have names none"
    await ledger.close()
    assert verify(ledger.path).ok


async def test_a_key_that_has_two_payments_all_the_same_stops_the_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is unique: had the check before it ever failed, the book must not go on as if nothing were."""
    ledger = await open_book(tmp_path / "ledger.db")
    await ledger.apply(reserve("a"))
    await ledger.apply(reserve("b"))

    def forge(t: Transaction) -> None:
        t.execute("UPDATE payments SET key = ?", (key_of("a"),))
        t.execute("UPDATE replay_tail SET prefix = (SELECT min(prefix) FROM replay_tail)")

    await in_writer(ledger, forge)
    await ledger.close()
    monkeypatch.setattr(limits, "REPLAY_TAIL_MAX", 1)
    again = await open_book(ledger.path)
    answers = [await refused(again.apply(reserve(f"p{n}"))) for n in range(10)]
    assert LedgerCorrupt in [type(answer) for answer in answers]
    assert isinstance(answers[-1], LedgerCorrupt)
    await again.close()
    assert "replay keys" in {finding.check for finding in verify(ledger.path).findings}


# -- behind the commits -----------------------------------------------------------------------------------------------


async def test_rows_are_sealed_and_responses_erased_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEAL_INTERVAL_S", "WORDS_INTERVAL_S", "PRUNE_INTERVAL_S"):
        monkeypatch.setattr(limits, name, 0.01)
    monkeypatch.setattr("micropaywall.ledger.sqlite.upkeep._TICK_S", 0.01)
    clock = ManualClock(NOW)
    ledger = await open_book(tmp_path / "ledger.db", clock, response_retention_s=60)
    applied = await ledger.apply(reserve("a"))
    await ledger.apply(capture(applied, begin_settle=True))
    await ledger.apply(end_settle(applied))
    assert await ledger.response(applied.charge_id) is not None
    clock.advance(61)
    for _ in range(300):
        await asyncio.sleep(0.01)
        if verify(ledger.path).unsealed_rows == 0 and await ledger.response(applied.charge_id) is None:
            break
    assert verify(ledger.path).seals > 0
    assert await ledger.response(applied.charge_id) is None
    replayed = await ledger.apply(reserve("a"))
    assert isinstance(replayed, book.Replayed)
    assert replayed.response is None
    connection = sqlite3.connect(ledger.path)
    assert connection.execute("SELECT count(*) FROM words").fetchone()[0] >= 3
    connection.close()
    await ledger.close()


@pytest.mark.parametrize("indexed", [False, True])
async def test_payments_are_found_by_payer_endpoint_agent_and_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    if indexed:
        monkeypatch.setattr(limits, "WORDS_INTERVAL_S", 0.01)
        monkeypatch.setattr("micropaywall.ledger.sqlite.upkeep._TICK_S", 0.01)
    ledger = await open_book(tmp_path / "ledger.db")
    await live(ledger)
    for n in range(5):
        command = reserve(f"mine{n}", at=EXPIRY + n, payer="0xme", endpoint="GET /mine")
        await ledger.apply(command)
    if indexed:
        connection = sqlite3.connect(ledger.path)
        for _ in range(300):
            await asyncio.sleep(0.01)
            (rows,) = connection.execute("SELECT count(*) FROM words WHERE word = 'payer:0xme'").fetchone()
            if rows == 5:
                break
        assert rows == 5
        connection.close()

    async def times(word: str, value: str, **more: Any) -> list[int]:
        return [record.timestamp_ms - EXPIRY for _, record in await ledger.find(word, value, **more)]

    assert await times("payer", "0xme") == [4, 3, 2, 1, 0]
    assert await times("endpoint", "GET /mine", limit=2) == [4, 3]
    page = await ledger.find("payer", "0xme", limit=2)
    assert await times("payer", "0xme", before=page[-1][0], limit=2) == [2, 1]
    assert [record.client_id for _, record in await ledger.find("agent", "agent-7")] == ["agent-7"]
    (paid,) = await ledger.find("transaction", "0xwhole")
    assert paid[1].metadata["transaction"] == "0xwhole"
    assert await ledger.find("payer", "0xnobody") == []
    newest = await ledger.find(limit=3)
    assert [record.timestamp_ms - EXPIRY for _, record in newest] == [4, 3, 2]
    await ledger.close()


async def test_the_file_belongs_to_its_owner_with_all_that_lies_beside_it(tmp_path: Path) -> None:
    ledger = await open_book(tmp_path / "ledger.db")
    await sells(ledger, "a")
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in beside(ledger.path)} == {0o600}
    await ledger.close()


async def test_writers_that_have_left_are_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line that opens the book is a writer; a thousand of them must not slow the seller's upkeep."""
    for n in range(5):
        ledger = await open_book(tmp_path / "ledger.db")
        if n % 2:
            await ledger.apply(reserve(f"p{n}"))
        await ledger.close()
    monkeypatch.setattr(limits, "WORDS_INTERVAL_S", 0.01)
    monkeypatch.setattr("micropaywall.ledger.sqlite.upkeep._TICK_S", 0.01)
    ledger = await open_book(tmp_path / "ledger.db")
    with closing(files.connect(ledger.path, read_only=True)) as connection:
        for _ in range(300):
            if not search.missing(connection):
                break
            await asyncio.sleep(0.01)
        assert search.missing(connection) == []
    assert len(await ledger.find("payer", reserve().payer)) == 2
    await ledger.close()
