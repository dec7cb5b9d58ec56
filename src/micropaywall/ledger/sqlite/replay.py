"""Which replay keys are known: a large index for the old ones, a short tail for the latest, and never a third place.

Replay keys are random. An index of them that every commit has to reach into costs a page per payment, and the more the
larger the book; by measurement it was a third of a paid request. So a new key is appended to ``replay_tail``, which every
process also holds in memory, and moved to ``replay_keys`` later, thousands at once and in order, when a page takes many.

Why that is as good as a unique index: a key is looked for and written in one transaction that has the database's only
write lock. By then the memory has every row of ``replay_tail`` (other processes' rows are read in `sync`), and what is not
there is in ``replay_keys``. Moving is one transaction at its end, so a key is always in one of the two. ``replay_keys`` is
unique itself; a key that came twice would stop there.

The database sees to it as well: ``seq`` is the primary key of ``replay_tail``, and the next one is that of the newest row
in memory. A process that had missed a row of another would collide, undo its transaction, and look again.

Both places keep the first 8 bytes of a key; the payment's row has all 32 and decides.
"""

from __future__ import annotations

import sqlite3
from array import array
from typing import Final

from micropaywall import limits
from micropaywall.errors import LedgerCorrupt
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.rows import Sql

_PREFIX_BYTES: Final = 8
MOVED_UP_TO: Final = "replay_moved"
"""The value of `meta` that says up to which ``seq`` the tail has been moved."""


def prefix_of(key: bytes) -> int:
    """The first 8 bytes of a key as a signed integer, which is what SQL has."""
    return int.from_bytes(key[:_PREFIX_BYTES], "big", signed=True)


class Replay:
    """The writer's view of the known keys. Used in the writer's thread only, between BEGIN and COMMIT."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._version = -1
        # The tail by beginning of key, and in the order of ``seq``, from ``_moved + 1`` to ``last``, without a gap.
        self._tail: dict[int, int] = {}
        self._alike: dict[int, tuple[int, ...]] = {}
        self._prefixes = array("q")
        self._payments = array("q")
        self._moved = 0
        self._stands = 0
        self._looked_up: dict[int, tuple[int, ...]] = {}
        self._chunks: list[list[tuple[int, int]]] = []
        self._moving_to = 0

    @property
    def last(self) -> int:
        """The newest ``seq``."""
        return self._moved + len(self._prefixes)

    # -- inside every transaction ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """See what other processes have added, or moved, since the last transaction."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        if version != self._version:
            row = self._execute(sql.GET_META, (MOVED_UP_TO,)).fetchone()
            self._forget_moved(int(row[0]) if row else 0)
            for _, prefix, payment_no in self._execute(sql.TAIL_AFTER, (self.last,)):
                self._remember(prefix, payment_no)
            self._version = version
        self._stands = len(self._prefixes)
        self._looked_up.clear()

    def look_up(self, prefixes: list[int]) -> None:
        """Ask the index for many keys at once, in its own order: what `candidates` would ask one by one."""
        if self._moved:
            found = self._looked_up
            for at in range(0, len(prefixes), sql.KEYS_AT_ONCE):
                some = prefixes[at : at + sql.KEYS_AT_ONCE]
                found.update(dict.fromkeys(some, ()))
                padded = some + some[:1] * (sql.KEYS_AT_ONCE - len(some))
                for prefix, payment_no in self._execute(sql.KEYS_AMONG, padded):
                    found[prefix] += (payment_no,)

    def candidates(self, prefix: int) -> tuple[int, ...]:
        """Payments whose key may begin so; the caller compares the whole key."""
        found: tuple[int, ...] = ()
        if prefix in self._tail:
            found = (self._tail[prefix], *self._alike.get(prefix, ()))
        if self._moved:
            moved = self._looked_up.get(prefix)
            if moved is None:
                moved = tuple(row[0] for row in self._execute(sql.KEYS_AT, (prefix,)))
            found += moved
        return found

    def add(self, prefix: int, payment_no: int) -> Sql:
        """Know a new key; the row for ``replay_tail``, which must be written in this transaction."""
        self._remember(prefix, payment_no)
        return self._moved + len(self._prefixes), prefix, payment_no

    def mark(self) -> int:
        """Where `back_to` may come back to, within the transaction."""
        return len(self._prefixes)

    def back_to(self, mark: int) -> None:
        """What was added after ``mark`` did not happen."""
        while len(self._prefixes) > mark:
            self._drop(self._prefixes.pop(), self._payments.pop())

    def rollback(self) -> None:
        """The transaction did not happen: forget what it added, and look at the database again."""
        self.back_to(min(self._stands, len(self._prefixes)))
        self._version = -1

    def _remember(self, prefix: int, payment_no: int) -> None:
        self._prefixes.append(prefix)
        self._payments.append(payment_no)
        if prefix in self._tail:
            self._alike[prefix] = (*self._alike.get(prefix, ()), payment_no)
        else:
            self._tail[prefix] = payment_no

    def _drop(self, prefix: int, payment_no: int) -> None:
        alike = [no for no in (self._tail.pop(prefix), *self._alike.pop(prefix, ())) if no != payment_no]
        if alike:
            self._tail[prefix] = alike[0]
            if alike[1:]:
                self._alike[prefix] = tuple(alike[1:])

    def _forget_moved(self, moved: int) -> None:
        if moved <= self._moved:
            return
        self._chunks = []  # whoever moved these was quicker
        gone = min(moved - self._moved, len(self._prefixes))
        for at in range(gone):
            self._drop(self._prefixes[at], self._payments[at])
        del self._prefixes[:gone], self._payments[:gone]
        self._moved = moved

    # -- moving the tail ---------------------------------------------------------------------------------------------

    def wants_to_move(self, *, idle: bool) -> bool:
        """Whether a step of `move` is due: the tail is long, or there is time."""
        return bool(self._chunks) or len(self._prefixes) >= (1 if idle else limits.REPLAY_TAIL_MAX)

    def move(self) -> None:
        """One step, inside a transaction: a chunk of keys in order; with the last, the tail is cut."""
        if not self._chunks:
            rows = sorted(zip(self._prefixes, self._payments, strict=True))
            self._moving_to = self.last
            step = limits.REPLAY_MOVE_ROWS
            self._chunks = [rows[at : at + step] for at in range(0, len(rows), step)][::-1]
        if not self._chunks:
            return  # another process has moved them meanwhile
        chunk = self._chunks[-1]
        if self._executemany(sql.ADD_KEY, chunk).rowcount != len(chunk):
            for prefix, payment_no in chunk:
                self._add_beside(prefix, payment_no)
        if len(self._chunks) == 1:
            self._execute(sql.CUT_TAIL, (self._moving_to,))
            self._execute(sql.SET_META, (MOVED_UP_TO, str(self._moving_to).encode()))

    def moved(self) -> None:
        """The step has been committed."""
        if self._chunks:
            self._chunks.pop()
            if not self._chunks:
                self._forget_moved(self._moving_to)

    def _add_beside(self, prefix: int, payment_no: int) -> None:
        """Two keys with one beginning: a coincidence is kept beside the other, the same key twice is corruption."""
        known = [row[0] for row in self._execute(sql.KEYS_AT, (prefix,)).fetchall()]
        if payment_no in known:
            return
        for other in known:
            if self._execute(sql.SAME_KEY, (payment_no, other)).fetchone() is not None:
                raise LedgerCorrupt("one replay key has two payments", received=[other, payment_no])
        self._execute(sql.ADD_KEY_BESIDE, (prefix, len(known), payment_no))
