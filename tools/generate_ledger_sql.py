"""Compile the book's tables (`micropaywall.ledger.schema`) into the committed SQLite DDL; ``--check`` fails when stale."""

from __future__ import annotations

import sys
from pathlib import Path

from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from micropaywall.ledger import schema

TARGET = Path(__file__).parents[1] / "src/micropaywall/ledger/sql/schema_sqlite.sql"


def compiled() -> str:
    """The DDL of a new SQLite book: strict tables, then indexes, then the revision that it is."""
    dialect = sqlite.dialect()
    lines = [
        "-- Generated from micropaywall/ledger/schema.py by tools/generate_ledger_sql.py. Do not edit.",
        f"-- Alembic revision {schema.REVISION}",
        "",
    ]
    for table in schema.metadata.sorted_tables:
        body = str(CreateTable(table).compile(dialect=dialect)).strip().replace("\t", "    ")
        options = "STRICT" if body.endswith(")") else ", STRICT"
        lines.append(
            "\n".join(line.rstrip() for line in f"{body} {options};".replace(" , STRICT", ", STRICT").splitlines())
        )
        lines.append("")
        lines.extend(
            f"{CreateIndex(index).compile(dialect=dialect)};"
            for index in sorted(table.indexes, key=lambda i: i.name or "")
        )
        lines.append("")
    lines.append("CREATE TABLE alembic_version (version_num TEXT NOT NULL PRIMARY KEY) STRICT;")
    lines.append(f"INSERT INTO alembic_version VALUES ('{schema.REVISION}');")  # noqa: S608 - a constant
    return "\n".join(line for line, before in zip(lines, ["x", *lines], strict=False) if line or before) + "\n"


def main() -> int:
    text = compiled()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET} is stale: run python tools/generate_ledger_sql.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
