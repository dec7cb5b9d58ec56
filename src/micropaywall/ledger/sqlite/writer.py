"""The writer thread: commands of all requests, many to a commit, answered with one wake-up of each event loop.

A command waits in its loop's lane until the end of the loop's iteration, so that what arrives together is committed
together. The thread takes all that waits (up to a bound), runs it in one transaction and answers after COMMIT, never
before. A refusal writes nothing, so it does not spoil the others; should a command fail half way, the transaction is
rolled back and run again with a savepoint around each command.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from micropaywall import limits
from micropaywall.core import book
from micropaywall.errors import LedgerError, MicropaywallError, Overloaded, StoreUnavailable
from micropaywall.ledger.sqlite import charges, files, settlement
from micropaywall.ledger.sqlite.bulk import Bulk
from micropaywall.ledger.sqlite.replay import prefix_of
from micropaywall.ledger.sqlite.transaction import Spoiled, Transaction

Job = Callable[[Transaction], Any]
"""Other work for the writer's transaction: leasing, values of `meta`, maintenance."""
Item = tuple[Any, "asyncio.Future[Any]"]
Store = Callable[[], tuple[Transaction, Bulk]]
"""Gives the open book, (re)connecting when needed; raises StoreUnavailable or LedgerInUse."""

RULES: Final[Mapping[type, Callable[[Transaction, Any], book.Answer]]] = {
    book.Reserve: charges.reserve,
    book.Capture: charges.capture,
    book.Release: charges.release_charge,
    book.Delivered: charges.delivered,
    book.Extend: charges.extend,
    book.BeginSettle: settlement.begin_settle,
    book.EndSettle: settlement.end_settle,
    book.Reorganise: settlement.reorganise,
    book.BeginRefund: settlement.begin_refund,
    book.EndRefund: settlement.end_refund,
    book.CancelRefund: settlement.cancel_refund,
}

_LOG: Final = logging.getLogger("micropaywall.ledger")
_LINGER_S: Final = 0.0005
_IDLE_S: Final = 2.0
_STOP: Final = object()


class _Lane:
    """What one event loop has sent and not been answered yet."""

    __slots__ = ("_items", "_queue", "loop", "waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, to: queue.SimpleQueue[Any]) -> None:
        self.loop = loop
        self.waiting = 0
        self._items: list[Item] = []
        self._queue = to

    def send(self, work: Any) -> asyncio.Future[Any]:
        if self.waiting >= limits.WRITER_QUEUE_MAX:
            raise Overloaded("too many requests wait for the book", retry_after_s=limits.RETRY_AFTER_S)
        self.waiting += 1
        future = self.loop.create_future()
        if not self._items:
            self.loop.call_soon(self._hand_over)
        self._items.append((work, future))
        return future

    def _hand_over(self) -> None:
        items, self._items = self._items, []
        self._queue.put((self, items))

    def answer(self, items: list[Item], answers: list[Any]) -> None:
        """Called in the writer's thread, once per batch and loop."""
        try:
            self.loop.call_soon_threadsafe(self._resolve, items, answers)
        except RuntimeError:
            pass  # the loop is closed, and with it went everybody who waited

    def _resolve(self, items: list[Item], answers: list[Any]) -> None:
        self.waiting -= len(items)
        for (_, future), answer in zip(items, answers, strict=True):
            if not future.done():
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)


class _Post:
    """The lane of other threads: each of them waits for its own job."""

    def answer(self, items: list[Any], answers: list[Any]) -> None:
        for (_, future), answer in zip(items, answers, strict=True):
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


class Writer:
    """Owns the thread. In it, ``store`` is called before every batch, ``between`` after it and when nothing waits: with
    whether nothing waits; it returns whether it wants to be called again at once.
    """

    def __init__(self, store: Store, between: Callable[[bool], bool]) -> None:
        self._store = store
        self._between = between
        self._threads = _Post()
        self.commands = 0
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        self._closed = False
        self._last_size = 0
        self._thread = threading.Thread(target=self._run, name="micropaywall-book", daemon=True)
        self._thread.start()

    def send(self, work: book.Command | Job) -> asyncio.Future[Any]:
        """Queue a command or job from the running event loop; the future gives its answer once it is durable."""
        if self._closed:
            raise StoreUnavailable("the book is closed")
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            self._lanes = {known: open_ for known, open_ in self._lanes.items() if not known.is_closed()}
            lane = self._lanes[loop] = _Lane(loop, self._queue)
        return lane.send(work)

    def post(self, job: Job) -> Future[Any]:
        """Queue a job from another thread."""
        future: Future[Any] = Future()
        if self._closed:
            future.set_exception(StoreUnavailable("the book is closed"))
        else:
            self._queue.put((self._threads, [(job, future)]))
        return future

    def close(self) -> None:
        """Finish what was handed over, then end the thread. Blocks."""
        if not self._closed:
            self._closed = True
            self._queue.put((None, _STOP))
            self._thread.join()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        stopping = False
        more = False
        while not stopping:
            try:
                batch = [self._queue.get(timeout=0.001 if more else _IDLE_S)]
            except queue.Empty:
                more = self._look_after(idle=True)
                continue
            if self._last_size > 1:
                time.sleep(_LINGER_S)  # under load: a little later, more rows share the commit
            stopping = self._gather(batch)
            if batch:
                self._serve(batch)
                more = self._look_after(idle=False)

    def _look_after(self, *, idle: bool) -> bool:
        try:
            return self._between(idle)
        except Exception:  # noqa: BLE001 - the top frame of a thread: the requests go on, whatever this meets
            _LOG.exception("the book's upkeep failed")
            return False

    def _gather(self, batch: list[tuple[_Lane, list[Item]]]) -> bool:
        """Take what else waits, up to a commit's worth; whether the end was among it."""
        stopping = batch[0][1] is _STOP
        size = 0 if stopping else len(batch[0][1])
        if stopping:
            batch.clear()
        while size < limits.COMMANDS_PER_COMMIT_MAX:
            try:
                lane, items = self._queue.get_nowait()
            except queue.Empty:
                break
            if items is _STOP:
                stopping = True
            else:
                batch.append((lane, items))
                size += len(items)
        self._last_size = size
        return stopping

    def _serve(self, batch: list[tuple[_Lane, list[Item]]]) -> None:
        works = [work for _, items in batch for work, _ in items]
        answers = self._answers(works)
        self.commands += len(works)
        lanes: dict[_Lane, tuple[list[Item], list[Any]]] = {}
        at = 0
        for lane, items in batch:
            mine = lanes.setdefault(lane, ([], []))
            mine[0].extend(items)
            mine[1].extend(answers[at : at + len(items)])
            at += len(items)
        for lane, (items, theirs) in lanes.items():
            lane.answer(items, theirs)

    def _answers(self, works: list[Any]) -> list[Any]:
        """One answer, or one exception, for each command."""
        try:
            return commit(*self._store(), works)
        except MicropaywallError as error:
            return [error] * len(works)
        except Exception as error:  # noqa: BLE001 - the top frame of a thread: nobody may wait for ever
            return [LedgerError(f"the book's writer failed: {type(error).__name__}: {error}")] * len(works)


def commit(t: Transaction, bulk: Bulk, works: list[Any]) -> list[Any]:
    """Carry out ``works`` in one transaction; an answer, or the error of a wrong program, for each.

    Raises StoreUnavailable when the transaction could not be made durable; then nothing of it has happened.
    """
    try:
        begin(t)
        try:
            t.replay.look_up([prefix_of(work.key) for work in works if work.__class__ is book.Reserve])
            answers = []
            for work in works:
                answer = bulk.take(work)
                if answer is None:
                    bulk.flush()
                    answer = _carry_out(t, work)
                answers.append(answer)
            bulk.flush()
        except _CONTRADICTIONS:
            bulk.forget()
            t.rollback()
            begin(t)
            answers = [_carefully(t, work) for work in works]
        t.execute("COMMIT")
        return answers
    except sqlite3.Error as error:
        bulk.forget()
        raise unavailable(t, error) from error


_CONTRADICTIONS: Final = (
    Spoiled,
    LedgerError,
    LookupError,
    ValueError,
    OverflowError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
"""What a command that cannot be right ends in; none of them says anything about the store."""


def _carry_out(t: Transaction, work: Any) -> Any:
    rule = RULES.get(work.__class__)
    return rule(t, work) if rule is not None else work(t)


def _carefully(t: Transaction, work: Any) -> Any:
    """The answer, or the error of a command whose writes were undone."""
    t.save()
    try:
        answer = _carry_out(t, work)
    except LedgerError as error:
        answer = error
    except _CONTRADICTIONS as error:
        answer = LedgerError(f"the book refuses the command: {error}")
    else:
        t.release()
        return answer
    t.undo()
    return answer


def begin(t: Transaction) -> None:
    """BEGIN IMMEDIATE, waiting while another process has the book; then see what it has done."""
    files.patiently(lambda: t.execute("BEGIN IMMEDIATE"))
    t.begin()


def unavailable(t: Transaction, error: sqlite3.Error) -> StoreUnavailable:
    """Undo what is open, and say that the book cannot be written; nothing of the transaction has happened."""
    try:
        t.rollback()
    except sqlite3.Error:
        t.broken = True  # the connection is beyond use; it is opened anew before the next batch
    return StoreUnavailable(
        f"the book cannot be written right now: {error}",
        retry_after_s=limits.RETRY_AFTER_S,
        facts={"sqlite": getattr(error, "sqlite_errorname", "")},
    )
