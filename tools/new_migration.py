"""Write the next revision of the book's tables: what `micropaywall.ledger.schema` has and the migrations do not.

python tools/new_migration.py "add a column for …"

The file is a draft: read it, move the data, then set `REVISION` in `ledger/statements.py`, run `make generate`, and
`pytest tests/migration`. Alembic does not see changed CHECK constraints.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import command
from alembic.operations.ops import CreateTableOp
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from micropaywall.ledger.migrations.upgrade import config, known_revisions, upgrade

VERSIONS = Path(__file__).parents[1] / "src/micropaywall/ledger/migrations/versions"


def strict(_context: Any, _revision: Any, directives: Iterable[Any]) -> None:
    """New tables are strict in SQLite, as those of the committed DDL are."""
    for script in directives:
        for operation in script.upgrade_ops.ops:
            if isinstance(operation, CreateTableOp):
                operation.kw["sqlite_strict"] = True


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    number = f"{len(known_revisions()) + 1:04}"
    with tempfile.TemporaryDirectory() as place, closing(sqlite3.connect(Path(place) / "book.db")) as database:
        database.isolation_level = None
        if known_revisions():
            upgrade(database)
        engine = create_engine("sqlite://", creator=lambda: database, poolclass=StaticPool)
        with engine.connect() as connection:
            used = config()
            used.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            used.attributes |= {"connection": connection, "process_revision_directives": strict}
            command.revision(used, sys.argv[1], autogenerate=True, rev_id=number)
    written = next(VERSIONS.glob(f"{number}_*.py"))
    text = written.read_text(encoding="utf-8")
    written.write_text("\n".join(line for line in text.splitlines() if "# ###" not in line), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "check", "--fix", "--quiet", str(written)], check=False)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(written)], check=True)
    print(written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
