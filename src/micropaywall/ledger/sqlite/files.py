"""Opening a SQLite book: the file, its tables, its version, and who else has it."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import time
import uuid
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Final

from micropaywall import limits
from micropaywall.errors import ConfigurationError, LedgerInUse, StoreUnavailable
from micropaywall.ledger import statements as sql
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT, Transaction

APPLICATION_ID: Final = 0x6D707762
"""``mpwb``: SQLite's application_id of a book, so that another program's database is never taken for one."""
SQLITE_NEEDED: Final = (3, 37, 0)
"""STRICT tables; November 2021."""
_MULTICAST_BIT: Final = 1 << 40


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with the book's settings. It may be used by one thread at a time, and closed by any."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=5.0
    )
    connection.execute(f"PRAGMA cache_size = -{limits.BOOK_CACHE_KIB}")
    if read_only:
        connection.execute("PRAGMA query_only = 1")
    else:
        patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def patiently(attempt: Callable[[], object]) -> None:
    """Do what needs a lock, again and again in small steps while another process has it.

    SQLite's own steps grow to 100 ms, and for a change of the journal's mode it does not wait at all: several workers that
    start on a new book make that change at the same moment.
    """
    deadline = time.monotonic() + limits.BOOK_LOCK_WAIT_S
    wait_s = 0.0002
    while True:
        try:
            attempt()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 0.005)
        else:
            return


def prepare(path: Path) -> None:
    """Begin a book at ``path`` when there is none; refuse what is not a book of this version.

    Raises ConfigurationError, or StoreUnavailable when the file cannot be read or written.
    """
    if sqlite3.sqlite_version_info < SQLITE_NEEDED:
        raise ConfigurationError(
            "the SQLite of this Python is too old for the book",
            expected=".".join(map(str, SQLITE_NEEDED)),
            received=sqlite3.sqlite_version,
            hint="Use another build of Python, or a newer system: the book needs STRICT tables.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made before SQLite sees it: the journal files take over its mode, and nobody else reads the book.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"the book {path} cannot be opened: {error}") from error
    try:
        _begin_or_check(path, connection)
    except sqlite3.DatabaseError as error:
        raise StoreUnavailable(f"the book {path} cannot be used: {error}") from error
    finally:
        connection.close()


def _begin_or_check(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables:
            for statement in _statements(schema_sql()):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        elif "alembic_version" not in tables or not {"payments", "journal"} <= tables:
            raise ConfigurationError(
                "the file is a database, and not a book of micropaywall",
                received=str(path),
                hint="Name another file in ledger.url.",
            )
        check_version(path, connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check_version(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a book whose tables are older or newer than this program's."""
    found = [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    if found == [sql.REVISION]:
        return
    received = found[0] if found else "none"
    older = received < sql.REVISION
    raise ConfigurationError(
        f"the book {path} has schema {received}, and this program needs {sql.REVISION}",
        expected=sql.REVISION,
        received=received,
        hint=(
            'Stop all servers, back the book up, then: pip install "micropaywall[migrate]" and '
            f"python -m micropaywall.ledger.migrate {path}"
            if older
            else "A newer micropaywall wrote it. Upgrade this installation."
        ),
    )


def schema_sql() -> str:
    """The committed DDL of a new book."""
    return resources.files("micropaywall.ledger").joinpath("sql/schema_sqlite.sql").read_text(encoding="utf-8")


def _statements(script: str) -> list[str]:
    lines = [line for line in script.splitlines() if not line.startswith("--")]
    return [statement for statement in "\n".join(lines).split(";\n") if statement.strip()]


# -- one host at a time -----------------------------------------------------------------------------------------------


def this_host() -> str:
    """Who this machine is, as JSON: ``machine`` outlives a reboot, ``boot`` is the running kernel ("" when unknown)."""
    parts = [platform.node()]
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if text := _read(place):
            parts.append(text)
            break
    else:
        if not uuid.getnode() & _MULTICAST_BIT:  # with the bit, the number is random and says nothing
            parts.append(f"{uuid.getnode():012x}")
    return json.dumps({"machine": "/".join(parts), "boot": _read("/proc/sys/kernel/random/boot_id")}, sort_keys=True)


def _read(place: str) -> str:
    try:
        return Path(place).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def same_host(ours: str, theirs: str) -> bool:
    """Whether two `this_host` values share file locks: the same machine, or containers on the same kernel."""
    a, b = json.loads(ours), json.loads(theirs)
    return bool(a["machine"] == b["machine"] or (a["boot"] and a["boot"] == b["boot"]))


def claim(connection: sqlite3.Connection, path: Path, host: str, now_ms: int) -> int:
    """Register as a writer inside the current transaction; the writer's number. LedgerInUse when another host is active.

    SQLite's locks hold within one host only: two hosts on a shared file system would corrupt the book.
    """
    refuse_other_hosts(connection, path, host, now_ms, 0)
    (number,) = connection.execute(sql.NEW_WRITER, (host, now_ms, now_ms)).fetchone()
    return int(number)


def open_writer(path: Path, host: str, now_ms: int) -> Transaction:
    """Connect for writing and register. Raises sqlite3.Error, ConfigurationError or LedgerInUse."""
    connection = connect(path)
    try:
        check_version(path, connection)
        connection.execute("BEGIN IMMEDIATE")
        number = claim(connection, path, host, now_ms)
        connection.execute("COMMIT")
        connection.execute("PRAGMA busy_timeout = 0")  # from here on `patiently` waits
    except BaseException:
        connection.close()
        raise
    return Transaction(connection, number)


def close_writer(t: Transaction) -> None:
    """Let go of the book: no other host has to wait for the heartbeat to end."""
    try:
        if not t.broken:
            patiently(lambda: t.execute("BEGIN IMMEDIATE"))
            t.change(sql.SEEN, (None, t.base >> WRITER_SHIFT))
            t.execute("COMMIT")
    except sqlite3.Error:
        pass  # then it ends by itself
    finally:
        t.connection.close()


def writers_seen(connection: sqlite3.Connection, now_ms: int) -> int:
    """How many writers have the book open, as far as their heartbeats say."""
    since_ms = now_ms - limits.BOOK_HOST_LEASE_S * 1000
    return len(connection.execute(sql.OTHERS_SEEN, (since_ms, 0)).fetchall())


def refuse_other_hosts(connection: sqlite3.Connection, path: Path, host: str, now_ms: int, own_no: int) -> None:
    """LedgerInUse when a writer of another host has been seen lately."""
    since_ms = now_ms - limits.BOOK_HOST_LEASE_S * 1000
    for (other,) in connection.execute(sql.OTHERS_SEEN, (since_ms, own_no)).fetchall():
        if not same_host(host, other):
            raise LedgerInUse(
                f"another host has the book {path} open",
                expected="one host per SQLite book",
                received=json.loads(other)["machine"],
                hint=(
                    "Several processes of one host may share it; several hosts may not. Stop the other host, and wait "
                    f"{limits.BOOK_HOST_LEASE_S} s if it did not stop cleanly."
                ),
            )
