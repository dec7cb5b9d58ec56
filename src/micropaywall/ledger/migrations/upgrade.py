"""Bring the tables behind a SQLite connection to the newest revision."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

__all__ = ["config", "known_revisions", "upgrade"]


def config() -> Config:
    """Alembic's configuration of the book, without a file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return made


def known_revisions() -> list[str]:
    """All revisions, the oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()][::-1]


def upgrade(database: sqlite3.Connection) -> None:
    """Bring ``database`` (autocommitting: ``isolation_level=None``) from its revision, or from nothing, to the newest.

    All of it in one transaction: a step that fails, or a power cut, leaves the tables as they were.
    """
    # As the committed DDL of a new book has it; Alembic would make it with a type that strict tables do not know.
    database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT NOT NULL PRIMARY KEY) STRICT")
    engine = create_engine("sqlite://", creator=lambda: database, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # The driver would begin before the first INSERT only, and leave the DDL outside.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection:
        used = config()
        used.attributes["connection"] = connection
        command.upgrade(used, "head")
        connection.commit()
