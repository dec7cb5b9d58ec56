"""The migrations lead to the tables that the program is written for, wholly or not at all, and keep the old book."""

from __future__ import annotations

import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from tests.kit.ledgers import NOW, USDC, capture, end_settle, key_of, reserve

from micropaywall import errors
from micropaywall.core import book
from micropaywall.ledger import migrate as migrate_module
from micropaywall.ledger import schema, statements
from micropaywall.ledger.migrate import main, migrate
from micropaywall.ledger.migrations.upgrade import config, known_revisions, upgrade
from micropaywall.ledger.sqlite import SqliteLedger, files

Found = dict[tuple[str, str], Any]


def tables_of(path: Path) -> Found:
    """Every table and index with its definition: as SQLite reads it, and as it was written but for the layout."""
    with closing(sqlite3.connect(path)) as connection:
        found: Found = {}
        for kind, name, text in connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
            found[kind, name] = text and re.sub(r"\s*([(),])\s*|\s+", r"\1 ", text.replace('"', "")).strip()
            if kind == "table":
                found["columns of", name] = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
                found["parents of", name] = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
                found["kind of", name] = connection.execute(f"PRAGMA table_list({name})").fetchall()
            else:
                found["columns of", name] = connection.execute(f"PRAGMA index_xinfo({name})").fetchall()
        found["pragma", "application_id"] = connection.execute("PRAGMA application_id").fetchone()
        found["row", "version"] = connection.execute("SELECT * FROM alembic_version").fetchall()
    return found


def migrated(path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        upgrade(connection)
    return path


def test_the_migrations_lead_to_the_committed_tables(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    files.prepare(fresh)
    by_ddl, by_steps = tables_of(fresh), tables_of(migrated(tmp_path / "migrated.db"))
    assert by_ddl.keys() == by_steps.keys()
    for key, value in by_ddl.items():
        if key[0] != "table":
            assert by_steps[key] == value, key
    assert definitions(by_steps) == definitions(by_ddl)


def definitions(found: Found) -> dict[str, tuple[list[str], str]]:
    """Columns and constraints of each table in alphabetical order, and its options."""
    result = {}
    for (kind, name), text in found.items():
        if kind == "table":
            body, _, options = text.partition("( ")[2].rpartition(")")
            parts = [part.strip() for part in split(body)]
            result[name] = (sorted(parts), " ".join(sorted(options.replace(",", " ").split())))
    return result


def split(body: str) -> list[str]:
    """``body`` at its commas outside of parentheses."""
    parts, depth = [""], 0
    for character in body:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def test_a_table_that_differs_is_noticed(tmp_path: Path) -> None:
    path = migrated(tmp_path / "migrated.db")
    before = definitions(tables_of(path))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE payments ADD COLUMN odd TEXT CHECK (odd <> 'x')")
    assert definitions(tables_of(path)) != before


def test_alembic_finds_nothing_left_to_do(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{migrated(tmp_path / 'migrated.db')}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def test_the_newest_migration_is_the_one_that_the_statements_are_written_for() -> None:
    assert known_revisions()[-1] == statements.REVISION == schema.REVISION
    assert known_revisions() == sorted(known_revisions())


def test_the_migrations_are_written_for_postgresql_as_well() -> None:
    dialect = postgresql.dialect()
    written_to = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "output_buffer": written_to, "transactional_ddl": True}
    )
    with Operations.context(context):
        for script in [*ScriptDirectory.from_config(config()).walk_revisions()][::-1]:
            script.module.upgrade()
    written = " ".join(written_to.getvalue().split())
    for table in schema.metadata.sorted_tables:
        assert f"CREATE TABLE {table.name} (" in written
        for index in table.indexes:
            assert " ".join(str(CreateIndex(index).compile(dialect=dialect)).split()) in written
        lines = [line.strip().rstrip(",") for line in str(CreateTable(table).compile(dialect=dialect)).splitlines()]
        columns = [line for line in lines if " NOT NULL" in line or " BIGINT" in line]
        assert len(columns) >= 2
        assert [line for line in columns if line not in written] == []
    assert "STRICT" not in written
    assert "PRAGMA" not in written


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def _used(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await ledger.apply(reserve("a"))
    await ledger.apply(capture(applied, begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.close()


def relabel(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def pretend(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A newer program: one more revision after the newest, which does ``step``."""
    from micropaywall.ledger.migrations import upgrade as module

    newest = known_revisions()[-1]

    def upgraded(database: sqlite3.Connection) -> None:
        database.execute("BEGIN")
        try:
            for statement in (step, "UPDATE alembic_version SET version_num = '9999'"):
                database.execute(statement)
            database.execute("COMMIT")
        except BaseException:
            database.execute("ROLLBACK")
            raise

    monkeypatch.setattr(module, "upgrade", upgraded)
    monkeypatch.setattr(module, "known_revisions", lambda: [newest, "9999"])


@pytest.mark.anyio
async def test_an_older_book_is_migrated_and_kept_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _used(path)
    before = tables_of(path)
    pretend(monkeypatch, "CREATE TABLE extra (x INTEGER) STRICT")
    kept = migrate(path, now_ms=NOW)
    assert kept is not None
    assert kept.name == "ledger.db.before-9999"
    assert tables_of(kept) == before
    after = tables_of(path)
    assert after["row", "version"] == [("9999",)]
    assert ("table", "extra") in after
    with pytest.raises(errors.ConfigurationError, match="schema 9999"):
        await SqliteLedger.open(path)


@pytest.mark.anyio
async def test_a_book_that_is_current_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await _used(path)
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "The book is up to date.\n"
    assert [p.name for p in path.parent.iterdir()] == ["ledger.db"]
    ledger = await SqliteLedger.open(path, assets=[USDC])
    assert isinstance(await ledger.apply(reserve("a")), book.Replayed)
    await ledger.close()


@pytest.mark.anyio
async def test_a_step_that_fails_leaves_the_book_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _used(path)
    before = tables_of(path)
    with monkeypatch.context() as patch:
        pretend(patch, "CREATE TABLE payments (x)")
        with pytest.raises(errors.StoreUnavailable, match="already exists"):
            migrate(path, now_ms=NOW)
    assert tables_of(path) == before
    ledger = await SqliteLedger.open(path, assets=[USDC])
    assert await ledger.payment(key_of("a")) is not None
    await ledger.close()


@pytest.mark.anyio
async def test_a_book_in_use_is_not_migrated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "CREATE TABLE extra (x INTEGER) STRICT")
    ledger = await SqliteLedger.open(path, assets=[USDC])
    with pytest.raises(errors.LedgerInUse):
        migrate(path, now_ms=NOW)
    await ledger.close()


@pytest.mark.anyio
async def test_a_book_of_a_newer_program_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await _used(path)
    relabel(path, "9999")
    assert main([str(path)]) == 2
    assert "Upgrade this installation." in capsys.readouterr().err
    assert not list(path.parent.glob("*before*"))


def test_only_a_book_is_migrated(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(path)]) == 6
    path.write_text("words " * 1000)
    assert main([str(path)]) == 6
    assert path.read_text() == "words " * 1000
    with closing(sqlite3.connect(path.with_name("other.db"))) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    assert main([str(path.with_name("other.db"))]) == 2


def test_without_alembic_it_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.ConfigurationError) as caught:
        migrate(path, now_ms=NOW)
    assert "micropaywall[migrate]" in str(caught.value.hint)


def test_all_steps_are_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Operations.create_table

    def breaks(self: Any, name: str, *columns: Any, **options: Any) -> Any:
        if name == "journal":
            raise RuntimeError("the disk is full")
        return made(self, name, *columns, **options)

    monkeypatch.setattr(Operations, "create_table", breaks)
    with closing(sqlite3.connect(tmp_path / "half.db", isolation_level=None)) as connection:
        with pytest.raises(RuntimeError, match="full"):
            upgrade(connection)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {"alembic_version"}
