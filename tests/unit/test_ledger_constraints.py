"""What the database itself refuses, and files that are not opened as a book."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from micropaywall.errors import ConfigurationError, StoreUnavailable
from micropaywall.ledger.sqlite import files
from micropaywall.money import MAX_ATOMIC


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    files.prepare(path)
    return path


def test_every_table_is_strict_and_every_amount_has_bounds(book: Path) -> None:
    with closing(sqlite3.connect(book)) as connection:
        tables = "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
        for name, strict in connection.execute(tables):
            assert strict or name == "sqlite_schema", name
        connection.execute("INSERT INTO carried VALUES ('a', 'b', 0, ?)", (MAX_ATOMIC,))
        for wrong in (-1, MAX_ATOMIC + 1, 2**63 - 1, 1.5, "many"):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute("INSERT INTO carried VALUES ('c', 'd', 0, ?)", (wrong,))


@pytest.mark.parametrize(
    ("column", "wrong"),
    [("state", "paid"), ("mode", "later"), ("amount", -1), ("drawn", 1001), ("captured", 1), ("refunded", 1001)],
)
def test_the_database_itself_refuses_a_payment_that_cannot_be(book: Path, column: str, wrong: object) -> None:
    """However wrong a program is: no payment of another state, none that is overdrawn, none that gave back too much."""
    row: dict[str, object] = {
        "no": 1, "id": b"i", "key": b"k", "state": "held", "rail": "", "network": "", "asset": "", "payer": "", "payee": "",
        "amount": 1000, "drawn": 0, "captured": 0, "refunded": 0, "mode": "after", "dialect": "", "binding": b"",
        "instruction": b"", "valid_before_ms": 1, "created_ms": 1, "transaction_id": "", "reason": "", "attempts": 0,
        "owner": "",
    }  # fmt: skip
    text = f"INSERT INTO payments ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    with closing(sqlite3.connect(book)) as connection:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(text, tuple((row | {column: wrong}).values()))
        connection.execute(text, tuple(row.values()))


@pytest.mark.parametrize(("column", "wrong"), [("state", "sold"), ("amount", 1001), ("amount", -1), ("reserved", -1)])
def test_the_database_itself_refuses_a_charge_that_cannot_be(book: Path, column: str, wrong: object) -> None:
    """However wrong a program is: nothing is charged beyond what was reserved."""
    row: dict[str, object] = {
        "no": 2, "id": b"i", "payment_no": 1, "state": "captured", "fingerprint": b"", "reserved": 1000, "amount": 1000,
        "endpoint": "", "url": "", "created_ms": 1, "owner": "", "idempotency_key": "", "agent": "", "delivered": 0,
    }  # fmt: skip
    text = f"INSERT INTO charges ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    with closing(sqlite3.connect(book)) as connection:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(text, tuple((row | {column: wrong}).values()))
        connection.execute(text, tuple(row.values()))


@pytest.mark.parametrize(
    ("version", "hint"), [("0000", "micropaywall.ledger.migrate"), ("9999", "Upgrade this installation")]
)
def test_a_book_of_another_version_is_refused_with_what_to_do(book: Path, version: str, hint: str) -> None:
    with closing(sqlite3.connect(book)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(ConfigurationError) as caught:
        files.prepare(book)
    assert version in caught.value.detail
    assert hint in (caught.value.hint or "")


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(ConfigurationError):
        files.prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 100)
    with pytest.raises(StoreUnavailable):
        files.prepare(path)
    assert path.read_text().startswith("dear diary")


def test_a_place_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        files.prepare(tmp_path / "file" / "ledger.db")


def test_an_sqlite_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match="too old"):
        files.prepare(tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()
