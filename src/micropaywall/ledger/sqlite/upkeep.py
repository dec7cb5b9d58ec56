"""What the book does when nobody waits: heartbeat, replay keys, seals, search words, erasing old responses.

A thread of its own reads and computes; what it writes goes through the writer like any command, in small steps, so that a
request never waits for more than one of them.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

from micropaywall import limits
from micropaywall.clock import Clock
from micropaywall.errors import MicropaywallError
from micropaywall.ledger.sqlite import chain, search
from micropaywall.ledger.sqlite.erasing import erase_some
from micropaywall.ledger.sqlite.transaction import Transaction

Job = Callable[[Transaction], Any]
_TICK_S: Final = 1.0
_SEALS_PER_STEP: Final = 8
_BUSY_COMMANDS: Final = 500
"""In one tick: from there on the seller is busy, and what can wait does, up to a limit."""
_LOG: Final = logging.getLogger("micropaywall.ledger")


class Upkeep:
    """The thread. ``post`` gives the writer a job; ``connect`` opens a connection for reading."""

    def __init__(
        self,
        *,
        post: Callable[[Job], Future[Any]],
        connect: Callable[[], sqlite3.Connection],
        commands: Callable[[], int],
        clock: Clock,
        response_retention_s: int,
    ) -> None:
        self._post = post
        self._connect = connect
        self._commands = commands
        self._commands_then = 0
        self._busy = False
        self._sealed_at = time.monotonic()
        self._sealed: set[int] = set()
        self._clock = clock
        self._retention_ms = response_retention_s * 1000
        self._stop = threading.Event()
        self._connection: sqlite3.Connection | None = None
        self._thread = threading.Thread(target=self._run, name="micropaywall-upkeep", daemon=True)

    def start(self) -> None:
        """Begin, once."""
        if not self._thread.ident:
            self._thread.start()

    def stop(self) -> None:
        """Seal what is there, and end the thread. Blocks."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def seal(self) -> int:
        """Seal all that every writer has committed; how many seals that took. In the calling thread."""
        connection = self._connect()
        try:
            return self._seal(connection)
        finally:
            connection.close()

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        every = {
            self._seal_in_time: limits.SEAL_INTERVAL_S,
            self._index_words: limits.WORDS_INTERVAL_S,
            self._prune: limits.PRUNE_INTERVAL_S,
        }
        due = dict.fromkeys(every, time.monotonic())
        for task, interval_s in every.items():
            due[task] += interval_s
        while not self._stop.wait(_TICK_S):
            then, self._commands_then = self._commands_then, self._commands()
            self._busy = self._commands_then - then >= _BUSY_COMMANDS
            for task, interval_s in every.items():
                if time.monotonic() >= due[task]:
                    self._attempt(task)
                    due[task] = time.monotonic() + interval_s
        self._attempt(self._seal)
        if self._connection is not None:
            self._connection.close()

    def _attempt(self, task: Callable[[sqlite3.Connection], Any]) -> None:
        """Nothing depends on one attempt: what the store did not take now is done at the next."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            task(self._connection)
        except (OSError, sqlite3.Error, MicropaywallError):
            if self._connection is not None:
                self._connection.close()
                self._connection = None
        except Exception:  # noqa: BLE001 - the top frame of a thread, whose other tasks go on
            _LOG.exception("the book's upkeep failed")

    def _seal_in_time(self, connection: sqlite3.Connection) -> None:
        if not self._busy or time.monotonic() - self._sealed_at >= limits.SEAL_LAG_S_MAX:
            self._sealed_at = time.monotonic()
            self._seal(connection)

    def _seal(self, connection: sqlite3.Connection) -> int:
        added = 0
        for writer_no, closed in connection.execute("SELECT no, seen_ms IS NULL FROM writers").fetchall():
            if writer_no in self._sealed:
                continue
            seals = chain.new_seals(connection, writer_no)
            while some := list(itertools.islice(seals, _SEALS_PER_STEP)):
                job = partial(chain.add_seals, seals=some, now_ms=self._clock.now_ms())
                added += self._post(job).result()
            if closed:
                self._sealed.add(writer_no)
        return added

    def _index_words(self, connection: sqlite3.Connection) -> None:
        for writer_no, start, head in search.missing(connection):
            if self._busy and head - start < limits.WORDS_LAG_MAX:
                continue
            job = partial(search.index_some, writer_no=writer_no, head=head)
            while not self._stop.is_set() and not self._post(job).result():
                pass

    def _prune(self, _connection: sqlite3.Connection) -> None:
        before_ms = self._clock.now_ms() - self._retention_ms
        after: int | None = 0
        while after is not None and not self._stop.is_set():
            job = partial(_erase, before_ms=before_ms, after=after)
            after = self._post(job).result()


def _erase(t: Transaction, *, before_ms: int, after: int) -> int | None:
    return erase_some(t.connection, before_ms=before_ms, after=after, thorough=False).after
