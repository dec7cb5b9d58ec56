"""``python -m micropaywall.ledger.migrate PATH``: bring a SQLite book to the tables of this program.

Needs the extra ``migrate``. Nobody may have the book open. A copy of it as it was is kept beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sqlite3
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from micropaywall.errors import ConfigurationError, LedgerError, MicropaywallError, StoreUnavailable
from micropaywall.ledger.backup import write_copy
from micropaywall.ledger.sqlite.alone import alone

__all__ = ["main", "migrate"]


def migrate(path: Path, *, now_ms: int) -> Path | None:
    """Migrate the book at ``path``; where the copy of the old one is, or None when there was nothing to do.

    Raises LedgerInUse, ConfigurationError (no book, or one of a newer program; the extra is missing), LedgerError or
    StoreUnavailable; the book is then as it was.
    """
    if importlib.util.find_spec("alembic") is None:
        raise ConfigurationError("migrating needs Alembic", hint='pip install "micropaywall[migrate]"')
    from micropaywall.ledger.migrations.upgrade import known_revisions, upgrade

    if not path.is_file():
        raise StoreUnavailable(f"there is no book at {path}")
    revisions = known_revisions()
    try:
        with alone(path, now_ms) as book:
            found = [row[0] for row in book.execute("SELECT version_num FROM alembic_version")]
            if found == revisions[-1:]:
                return None
            if len(found) != 1 or found[0] not in revisions:
                raise ConfigurationError(
                    f"the book {path} was written by another micropaywall",
                    expected=revisions,
                    received=found,
                    hint="A newer one, most likely. Upgrade this installation.",
                )
            kept = path.with_name(f"{path.name}.before-{revisions[-1]}")
            if kept.exists():
                raise ConfigurationError("the copy of an earlier attempt is there already", received=str(kept))
            write_copy(book, kept, exactly=True)
            upgrade(book)
            (broken,) = book.execute("SELECT COUNT(*) FROM pragma_foreign_key_check").fetchone()
            if broken:
                raise LedgerError(f"the migrated book has {broken} rows without their parents", received=str(kept))
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be migrated: {error}") from error
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m micropaywall.ledger.migrate", description=migrate.__doc__)
    parser.add_argument("path", type=Path, help="the SQLite file of the book")
    path: Path = parser.parse_args(arguments).path
    try:
        kept = migrate(path, now_ms=time.time_ns() // 1_000_000)
    except MicropaywallError as error:
        sys.stderr.write(f"{error}\n" + (f"{error.hint}\n" if error.hint else ""))
        return 2 if isinstance(error, ConfigurationError) else 6
    sys.stdout.write("The book is up to date.\n" if kept is None else f"Migrated. The book as it was: {kept}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
