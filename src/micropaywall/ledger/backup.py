"""Copies of a SQLite book: taken while servers run, put back while none does.

A book that is put back has forgotten what happened after it was copied. What that means for payments, and what guards
against it, is written at `Restored` and in docs/how-to/recover-and-back-up.md.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from micropaywall import limits
from micropaywall.errors import ConfigurationError, LedgerCorrupt, StoreUnavailable
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.alone import alone, check_ours

__all__ = ["Restored", "backup", "restore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did. ``kept``: where the book that was there before is now, or None when there was none.

    ``forgotten``: how many payments the old book knows and the restored one does not; None when that cannot be told,
    because there was no old book or it is damaged. Such a payment looks new when it is presented again. Its rail takes
    the money once only, but may answer the repeated settlement with the success of the first, and the resource would be
    delivered a second time. So the seller should start when the last authorization among them has expired, at
    ``safe_from_ms`` (0: at once): from then on what the book does not know is refused as expired.
    """

    kept: Path | None
    forgotten: int | None
    safe_from_ms: int


def backup(path: Path, to: Path) -> None:
    """Copy the book at ``path`` to the new file ``to``, as it is at one moment; servers go on meanwhile.

    Raises StoreUnavailable, ConfigurationError (``path`` is no book, ``to`` is there already) or LedgerCorrupt.
    """
    if to.exists():
        raise ConfigurationError("the backup's file is there already", received=str(to), hint="Name a new file.")
    with _reading(path) as book:
        write_copy(book, to)


def restore(source: Path, path: Path, *, now_ms: int) -> Restored:
    """Put the backup ``source`` in the place of the book at ``path``; the book that was there is kept beside it.

    Raises LedgerInUse when a program has the book open, ConfigurationError when either file is not a book or the backup
    has another version, LedgerCorrupt when the backup is damaged, StoreUnavailable.
    """
    with _reading(source) as saved:
        files.check_version(source, saved)
        _check_whole(saved, source)
        kept = path.with_name(f"{path.name}.before-restore-{datetime.fromtimestamp(now_ms / 1000, UTC):%Y%m%dT%H%M%SZ}")
        if kept.exists():
            raise ConfigurationError("a book was put aside there this very second", received=str(kept))
        unknown_until_ms = now_ms + limits.AUTHORIZATION_LIFETIME_S_MAX * 1000
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or not path.stat().st_size:
                write_copy(saved, path)
                return Restored(kept=None, forgotten=None, safe_from_ms=unknown_until_ms)
            try:
                lost = _replace(path, saved, source, kept, now_ms)
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                    raise
                # So damaged that SQLite does not open it: nobody can be using it.
                _put_aside(path, kept)
                write_copy(saved, path)
                lost = None
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"the book {path} cannot be restored: {error}") from error
    if lost is None:
        return Restored(kept=kept, forgotten=None, safe_from_ms=unknown_until_ms)
    return Restored(kept=kept, forgotten=lost[0], safe_from_ms=lost[1])


def _replace(path: Path, saved: sqlite3.Connection, source: Path, kept: Path, now_ms: int) -> tuple[int, int] | None:
    """Put ``saved`` in the place of the book at ``path`` while nobody else can open it; what `_forgotten` says."""
    with alone(path, now_ms) as book:
        lost = _forgotten(book, source)
        write_copy(book, kept, exactly=True)
        # Into the file that is there, in one transaction: a power cut leaves the one book or the other, and no server
        # ever finds none and begins an empty one.
        saved.backup(book)
        _leave(book)
    return lost


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to the book at ``path``, as it is at this moment."""
    if not path.is_file():
        raise StoreUnavailable(f"there is no book at {path}")
    try:
        with closing(files.connect(path, read_only=True)) as connection:
            connection.execute("BEGIN")
            check_ours(connection, path)
            yield connection
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"the book {path} cannot be read: {error}") from error


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerCorrupt(f"the book {path} is damaged", received=verdict)


def write_copy(book: sqlite3.Connection, to: Path, *, exactly: bool = False) -> None:
    """Copy ``book`` to ``to``, which appears when it is complete, whole and durable; ``exactly``: as damaged as it is."""
    descriptor, name = tempfile.mkstemp(dir=to.absolute().parent, prefix=f".{to.name}.")  # the owner's only
    os.close(descriptor)
    partial = Path(name)
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
            # All pages in one step, under one read lock: page by page, every commit of a server would start it anew.
            book.backup(copy)
            if not exactly:
                _leave(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
                _check_whole(copy, to)
        _flush(partial)
        partial.replace(to)
        if os.name != "nt":
            _flush(to.absolute().parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _leave(copy: sqlite3.Connection) -> None:
    """Nobody has the copy open, whoever had the original: it may be opened on another host at once."""
    copy.execute("UPDATE writers SET seen_ms = NULL")


def _flush(place: Path) -> None:
    """Make a file's content, or a directory's names, survive a power cut."""
    # Windows flushes only what is open for writing; elsewhere a directory opens for reading only.
    descriptor = os.open(place, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_aside(path: Path, kept: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(kept.with_name(kept.name + suffix))


def _forgotten(book: sqlite3.Connection, source: Path) -> tuple[int, int] | None:
    """How many payments of ``book`` are not in ``source``, and when the last of their authorizations has expired."""
    try:
        book.execute("ATTACH ? AS saved", (f"{source.absolute().as_uri()}?mode=ro",))
        try:
            book.execute("PRAGMA saved.locking_mode = NORMAL")
            count, last_ms = book.execute(
                "SELECT COUNT(*), MAX(valid_before_ms) FROM main.payments WHERE id NOT IN (SELECT id FROM saved.payments)"
            ).fetchone()
        finally:
            book.execute("DETACH saved")
    except sqlite3.DatabaseError:
        return None  # the old book is damaged; its copy is still kept
    return int(count), int(last_ms or 0)
