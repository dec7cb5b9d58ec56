"""Proves that a book adds up, and that nobody has edited it.

Two questions. Does it add up: every payment and charge is what the journal says became of it, counters equal the sums that they
stand for, and in each asset all accounts come to zero. Has it been edited: the hash chain over what never changes (see `chain`)
is unbroken. Whatever does change follows from the journal, so a change made by hand to either shows.

What it cannot see: rows removed from the end of the book since the newest seal, and a book that was replaced as a whole. Keep
the newest checkpoint's hash somewhere else (`Report.head`) to notice that.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from micropaywall.errors import StoreUnavailable
from micropaywall.ledger import chain
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.alone import check_ours

__all__ = ["Report", "verify"]

PROBLEMS_MAX: Final = 100
"""A report stops listing here; one is enough to say no."""

_MOVED: Final = "('settled', 'final', 'refund_due', 'refunded')"
_SUMS: Final = """
WITH moved AS (
    SELECT payment_no,
        SUM(CASE kind WHEN 'settled' THEN amount WHEN 'reorganised' THEN -amount ELSE 0 END) AS settled,
        SUM(CASE kind WHEN 'refunded' THEN amount ELSE 0 END) AS refunded,
        SUM(CASE kind WHEN 'captured' THEN amount WHEN 'returned' THEN -amount ELSE 0 END) AS captured,
        SUM(CASE kind WHEN 'written_off' THEN amount ELSE 0 END) AS lost
    FROM journal GROUP BY payment_no
), held AS (
    SELECT payment_no, SUM(amount) AS drawn, SUM(CASE WHEN state = 'captured' THEN amount ELSE 0 END) AS captured
    FROM charges WHERE state = 'reserved' OR state = 'captured' GROUP BY payment_no
), given AS (
    SELECT payment_no, SUM(CASE WHEN state = 'paid' THEN amount ELSE 0 END) AS paid,
        SUM(CASE WHEN state = 'due' OR state = 'submitted' THEN 1 ELSE 0 END) AS open
    FROM refunds GROUP BY payment_no
)
"""
_CHECKS: Final[dict[str, str]] = {
    "the money that its journal says moved is not what its state says": f"""
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p LEFT JOIN moved m ON m.payment_no = p.no
        WHERE COALESCE(m.settled, 0) <> CASE WHEN p.state IN {_MOVED} THEN p.amount ELSE 0 END""",
    "what was refunded is not what the journal and the refunds say": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p LEFT JOIN moved m ON m.payment_no = p.no
        LEFT JOIN given g ON g.payment_no = p.no
        WHERE p.refunded <> COALESCE(m.refunded, 0) OR p.refunded <> COALESCE(g.paid, 0)
            OR (p.state = 'refund_due') <> (COALESCE(g.open, 0) > 0)""",
    "what was delivered is not what the journal and the charges say": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p LEFT JOIN moved m ON m.payment_no = p.no
        LEFT JOIN held h ON h.payment_no = p.no
        WHERE p.captured <> COALESCE(m.captured, 0) OR p.captured <> COALESCE(h.captured, 0)""",
    "what is drawn from it is not the sum of its charges": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p LEFT JOIN held h ON h.payment_no = p.no
        WHERE p.drawn <> COALESCE(h.drawn, 0) OR p.drawn + p.refunded > p.amount""",
    "it was written off and has not failed": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p JOIN moved m ON m.payment_no = p.no
        WHERE m.lost > 0 AND p.state <> 'failed'""",
    "its charge is in a state that the journal does not know": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM charges c JOIN payments p ON p.no = c.payment_no
        WHERE c.state <> 'reserved' AND NOT EXISTS (
            SELECT 1 FROM journal j WHERE j.charge_no = c.no AND j.charge_state = c.state)""",
    "its state is one that the journal does not know": """
        SELECT lower(hex(substr(p.key, 1, 20))) FROM payments p
        WHERE p.state <> 'held' AND NOT EXISTS (
            SELECT 1 FROM journal j WHERE j.payment_no = p.no AND j.payment_state = p.state)""",
    "a line of the journal names a payment that is not there": """
        SELECT 'journal ' || j.no FROM journal j LEFT JOIN payments p ON p.no = j.payment_no WHERE p.no IS NULL""",
    "what the payer owes is not the sum of its unsettled payments": """
        SELECT e.payer FROM exposures e LEFT JOIN (
            SELECT payer, asset, SUM(drawn) AS drawn FROM payments
            WHERE mode = 'deferred' AND (state = 'held' OR state = 'settling') GROUP BY payer, asset
        ) d ON d.payer = e.payer AND d.asset = e.asset
        WHERE e.unsettled <> COALESCE(d.drawn, 0)""",
    "what the payer never paid is not the sum of what was written off": """
        SELECT e.payer FROM exposures e LEFT JOIN (
            SELECT p.payer, p.asset, SUM(m.lost) AS lost FROM payments p JOIN moved m ON m.payment_no = p.no
            GROUP BY p.payer, p.asset
        ) l ON l.payer = e.payer AND l.asset = e.asset
        WHERE e.lost <> COALESCE(l.lost, 0)""",
}
"""What is wrong when the query finds something: payments by the end of their id, payers by address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. ``head`` is the newest checkpoint's hash; ``unsealed`` rows are younger than the newest seal."""

    problems: tuple[str, ...]
    payments: int
    charges: int
    journal: int
    seals: int
    unsealed: int
    head: str

    @property
    def ok(self) -> bool:
        """Whether the book adds up and its chain is whole."""
        return not self.problems


def verify(path: Path) -> Report:
    """Read the whole book at ``path`` as it is at one moment; servers may run.

    Raises StoreUnavailable when it cannot be read, ConfigurationError when it is not a book of this version.
    """
    if not path.is_file():
        raise StoreUnavailable(f"there is no book at {path}")
    try:
        with closing(files.connect(path, read_only=True)) as book:
            check_ours(book, path)
            files.check_version(path, book)
            book.execute("BEGIN")
            problems = _first(_all_problems(book))
            count = {
                table: int(book.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608 (constants)
                for table in (*chain.COVERED, "seals")
            }
            (sealed,) = book.execute("SELECT COALESCE(SUM(row_count), 0) FROM seals WHERE purged = 0").fetchone()
            head = book.execute("SELECT hash FROM checkpoints ORDER BY nth DESC LIMIT 1").fetchone()
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be read: {error}") from error
    return Report(
        problems=problems,
        payments=count["payments"],
        charges=count["charges"],
        journal=count["journal"],
        seals=count["seals"],
        unsealed=sum(count[table] for table in chain.COVERED) - int(sealed),
        head=head[0].hex() if head else "",
    )


def _first(problems: Iterator[str]) -> tuple[str, ...]:
    found: list[str] = []
    for problem in problems:
        if len(found) == PROBLEMS_MAX:
            return (*found, "and more")
        found.append(problem)
    return tuple(found)


def _all_problems(book: sqlite3.Connection) -> Iterator[str]:
    for (text,) in book.execute("PRAGMA quick_check"):
        if text != "ok":
            yield f"the file is damaged: {text}"
    for wrong, query in _CHECKS.items():
        for (who,) in book.execute(_SUMS + query if "moved" in query or "held h" in query or "given" in query else query):
            yield f"{_name(who)}: {wrong}"
    yield from _chain_problems(book)
    yield from _checkpoint_problems(book)


def _name(who: str) -> str:
    return who if who.startswith(("0x", "journal")) else f"pay_{who}"


def _chain_problems(book: sqlite3.Connection) -> Iterator[str]:
    writer, nth, last, before = None, 0, 0, b""
    for row in book.execute(
        "SELECT writer_no, nth, first_no, last_no, row_count, digest, hash, purged FROM seals ORDER BY writer_no, nth"
    ).fetchall():
        if row[0] != writer:
            writer, nth, last, before = row[0], 0, row[0] << chain.WRITER_SHIFT, b""
        where = f"seal {row[1]} of writer {row[0]}"
        if row[1] != nth + 1 or row[2] != last + 1:
            yield f"{where}: the seal before it is missing"
        if chain.link(before, *row[:6]) != row[6]:
            yield f"{where}: it does not follow from the seal before it"
        if not row[7] and chain.digest_rows(book, row[2], row[3]) != (row[4], row[5]):
            yield f"{where}: a row that it covers was edited, removed or added"
        nth, last, before = row[1], row[3], row[6]


def _checkpoint_problems(book: sqlite3.Connection) -> Iterator[str]:
    known = {(str(writer), hash_.hex()) for writer, hash_ in book.execute("SELECT writer_no, hash FROM seals")}
    before = b""
    for at, (nth, heads, hash_) in enumerate(book.execute("SELECT nth, heads, hash FROM checkpoints ORDER BY nth"), 1):
        if nth != at or chain.link_heads(before, nth, heads) != hash_:
            yield f"checkpoint {nth}: it does not follow from the one before it"
        if any((writer, head) not in known for writer, head in json.loads(heads).items()):
            yield f"checkpoint {nth}: a seal that it names is missing"
        before = hash_
