"""The proof finds whatever is changed in a book, wherever, and nothing in one that was left alone."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.kit.ledger_lives import leave_open, live, open_book

from micropaywall.errors import LedgerCorrupt
from micropaywall.ledger.accounts import ENTRY_KINDS
from micropaywall.ledger.sqlite.chain import digest_rows
from micropaywall.ledger.sqlite.transaction import WRITER_SHIFT
from micropaywall.ledger.verify import verify


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, one after the other, have worked with it, and sealed what they did."""
    path = tmp_path_factory.mktemp("book") / "ledger.db"

    async def make() -> None:
        first = await open_book(path)
        await live(first, "first-")
        await first.close()
        second = await open_book(path)
        await live(second, "second-")
        await leave_open(second)
        await second.close()

    asyncio.run(make())
    return path


@pytest.fixture
def book(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "ledger.db"))


def change(path: Path, *statements: str) -> int:
    """Somebody with a database tool; how many rows it hit."""
    connection = sqlite3.connect(path)
    hit = sum(connection.execute(statement).rowcount for statement in statements)
    connection.commit()
    connection.close()
    return hit


def test_an_honest_book_is_proven_whole(book: Path) -> None:
    report = verify(book)
    assert report.findings == []
    assert report.ok
    assert (report.payments, report.unsealed_rows) == (20, 0)
    assert report.seals >= 2
    assert len(report.head) == 64
    report.require()
    connection = sqlite3.connect(book)
    kinds = {kind for (kind,) in connection.execute("SELECT DISTINCT kind FROM journal")}
    connection.close()
    assert kinds >= set(ENTRY_KINDS), "the book under test has every kind of movement"


@pytest.mark.anyio
async def test_a_book_that_is_being_written_to_is_proven_too(tmp_path: Path) -> None:
    ledger = await open_book(tmp_path / "ledger.db")
    await live(ledger)
    report = verify(ledger.path)
    assert report.findings == []
    assert report.unsealed_rows > 0
    await ledger.seal()
    assert verify(ledger.path).unsealed_rows == 0
    await ledger.close()


EDITS = [
    ("payments", "payee", "'0x' || hex(zeroblob(20))"),
    ("payments", "payer", "'nobody'"),
    ("payments", "amount", "amount + 1"),
    ("payments", "key", "zeroblob(32)"),
    ("payments", "instruction", "zeroblob(3)"),
    ("payments", "created_ms", "created_ms - 1"),
    ("payments", "valid_before_ms", "valid_before_ms + 1"),
    ("payments", "mode", "CASE mode WHEN 'after' THEN 'before' ELSE 'after' END"),
    ("charges", "endpoint", "'GET /free'"),
    ("charges", "url", "url || '?'"),
    ("charges", "agent", "'somebody'"),
    ("charges", "reserved", "reserved + 1"),
    ("charges", "payment_no", "payment_no + 2"),
    ("refunds", "amount", "amount - 1"),
    ("journal", "amount", "amount + 1"),
    ("journal", "at_ms", "at_ms + 1"),
    ("journal", "kind", "CASE kind WHEN 'settled' THEN 'captured' ELSE 'settled' END"),
    ("journal", "detail", "detail || ' '"),
    ("journal", "payment_state", "'final'"),
]


@pytest.mark.parametrize(("table", "column", "value"), EDITS)
def test_an_edited_row_breaks_the_chain(book: Path, table: str, column: str, value: str) -> None:
    """Attack: somebody with write access to the file makes a payment larger, older, or somebody else's."""
    assert change(book, f"UPDATE {table} SET {column} = {value} WHERE no = (SELECT min(no) FROM {table})") == 1
    report = verify(book)
    assert any(f.check == "chain" and "a row was changed" in f.what for f in report.findings), report.findings
    with pytest.raises(LedgerCorrupt):
        report.require()


@pytest.mark.parametrize("table", ["payments", "charges", "refunds", "journal"])
@pytest.mark.parametrize("which", ["min", "max"])
def test_a_deleted_row_is_missed(book: Path, table: str, which: str) -> None:
    """Attack: an income that the tax office should not see. The last row is missed as well."""
    assert change(book, f"DELETE FROM {table} WHERE no = (SELECT {which}(no) FROM {table})") == 1
    assert any(f.check == "chain" and "rows where" in f.what for f in verify(book).findings)


@pytest.mark.parametrize("table", ["payments", "charges", "journal"])
def test_reordered_rows_are_noticed(book: Path, table: str) -> None:
    connection = sqlite3.connect(book)
    low, high = connection.execute(f"SELECT no FROM {table} ORDER BY no LIMIT 2").fetchall()
    for old, new in ((low[0], -1), (high[0], low[0]), (-1, high[0])):
        connection.execute(f"UPDATE {table} SET no = ? WHERE no = ?", (new, old))
    connection.commit()
    connection.close()
    assert any(f.check == "chain" and "a row was changed" in f.what for f in verify(book).findings)


def test_an_inserted_row_is_noticed_wherever_it_stands(book: Path) -> None:
    """Attack: a refund that was never paid, written between old entries, or under a writer that never was."""
    columns = "at_ms, kind, payment_no, charge_no, amount, payment_state, charge_state, detail"
    source = f"SELECT {{no}}, {columns} FROM journal ORDER BY no LIMIT 1"
    free = "(SELECT min(no) FROM charges)"  # a number of a sealed range that the journal has not used
    assert change(book, f"INSERT INTO journal (no, {columns}) {source.format(no=free)}") == 1
    assert any("rows where" in f.what for f in verify(book).findings)
    assert change(book, f"DELETE FROM journal WHERE no = {free}") == 1
    assert verify(book).ok
    assert change(book, f"INSERT INTO journal (no, {columns}) {source.format(no=(77 << WRITER_SHIFT) + 1)}") == 1
    assert any("which never was" in f.what for f in verify(book).findings)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM seals WHERE writer_no = 1",
        "DELETE FROM seals WHERE rowid = (SELECT max(rowid) FROM seals)",
        "DELETE FROM checkpoints WHERE nth = (SELECT max(nth) FROM checkpoints)",
        "UPDATE seals SET digest = zeroblob(32) WHERE writer_no = 1",
        "UPDATE seals SET hash = zeroblob(32) WHERE writer_no = 1",
        "UPDATE checkpoints SET at_ms = at_ms - 1 WHERE nth = 1",
        "UPDATE checkpoints SET heads = '[]' WHERE nth = 1",
        "UPDATE checkpoints SET heads = 'x' WHERE nth = 1",
        "UPDATE seals SET purged = 1 WHERE writer_no = 1",
        "UPDATE seals SET nth = nth + 5 WHERE writer_no = 2",
    ],
)
def test_a_changed_chain_does_not_fit(book: Path, statement: str) -> None:
    assert change(book, statement) >= 1
    assert any(f.check == "chain" for f in verify(book).findings)


def test_a_row_that_was_edited_together_with_its_seal_is_found(book: Path) -> None:
    """Attack: somebody who knows the chain writes the digest of the edited rows anew, in the one seal that has it."""
    change(book, "UPDATE journal SET at_ms = at_ms + 1 WHERE no = (SELECT min(no) FROM journal)")
    connection = sqlite3.connect(book)
    first_no, last_no = connection.execute("SELECT first_no, last_no FROM seals ORDER BY first_no LIMIT 1").fetchone()
    _, digest = digest_rows(connection, first_no, last_no)
    connection.execute("UPDATE seals SET digest = ? WHERE first_no = ?", (digest, first_no))
    connection.commit()
    connection.close()
    assert any(f.check == "chain" and "its hash does not fit" in f.what for f in verify(book).findings)


def test_a_head_that_was_kept_elsewhere_shows_that_the_end_was_cut(book: Path) -> None:
    """Attack: the last days are cut off, rows, seals and checkpoints alike. The chain that is left is whole."""
    head = verify(book).head
    assert verify(book, expect=head).ok
    change(
        book,
        *(f"DELETE FROM {table} WHERE no >> 40 = 2" for table in ("journal", "refunds", "charges", "payments")),
        "DELETE FROM seals WHERE writer_no = 2",
        "DELETE FROM checkpoints WHERE nth > (SELECT nth FROM checkpoints WHERE heads LIKE '[[1,%' ORDER BY nth DESC LIMIT 1)",
        "DELETE FROM exposures WHERE payer LIKE '%second%'",
        "UPDATE exposures SET unsettled = 0",
    )
    assert verify(book).ok
    report = verify(book, expect=head)
    assert [f.check for f in report.findings] == ["chain"]
    assert "cut" in report.findings[0].what


STATES = [
    ("payment states", "UPDATE payments SET state = 'settled' WHERE state = 'final'"),
    ("payment states", "UPDATE payments SET state = 'held' WHERE state = 'void'"),
    ("payment states", "UPDATE payments SET state = 'final' WHERE state = 'refunded'"),
    ("payment states", "UPDATE payments SET state = 'void' WHERE state = 'failed' AND mode = 'after'"),
    ("payment states", "UPDATE payments SET state = 'settled' WHERE state = 'settling'"),
    ("payment states", "UPDATE payments SET state = 'final' WHERE state = 'refund_due'"),
    ("payment sums", "UPDATE payments SET refunded = refunded - 1 WHERE refunded = 400"),
    ("payment sums", "UPDATE payments SET captured = captured - 1 WHERE captured = 600"),
    ("credit drawn", "UPDATE payments SET drawn = drawn - 1 WHERE state = 'held' AND drawn > captured"),
    ("credit drawn", "UPDATE payments SET drawn = 5 WHERE state = 'void'"),
    ("settlements", "UPDATE payments SET transaction_id = '0xother' WHERE state = 'final'"),
    ("settlements", "UPDATE payments SET block = 8 WHERE block = 9"),
    ("settlements", "UPDATE payments SET settled_ms = settled_ms + 1 WHERE state = 'final'"),
    ("reasons", "UPDATE payments SET reason = 'bad luck' WHERE state = 'failed'"),
    ("charge states", "UPDATE charges SET state = 'returned' WHERE state = 'captured' AND agent <> ''"),
    ("charge states", "UPDATE charges SET state = 'captured' WHERE state = 'returned'"),
    ("charge states", "UPDATE charges SET state = 'reserved' WHERE state = 'released'"),
    ("charge states", "UPDATE charges SET amount = amount + 1 WHERE amount = 600"),
    ("deliveries", "UPDATE charges SET response_status = 500 WHERE response_status = 200"),
    ("deliveries", "UPDATE charges SET response_status = 200 WHERE response_status = 404"),
    ("deliveries", "UPDATE charges SET response_bytes = 1 WHERE response_bytes > 1"),
    ("deliveries", "UPDATE charges SET latency_ms = 1"),
    ("deliveries", "UPDATE charges SET captured_ms = captured_ms + 1"),
    ("deliveries", "UPDATE charges SET delivered = 1 - delivered WHERE response_status IS NULL AND delivered = 1"),
    ("refunds", "UPDATE refunds SET state = 'due' WHERE state = 'paid'"),
    ("refunds", "UPDATE refunds SET state = 'paid' WHERE state = 'submitted'"),
    ("refunds", "UPDATE refunds SET transaction_id = '0xelse' WHERE state = 'paid'"),
    ("exposure", "UPDATE exposures SET unsettled = unsettled + 1"),
    ("exposure", "DELETE FROM exposures WHERE unsettled > 0"),
    ("losses", "UPDATE exposures SET lost = lost - 1 WHERE lost > 0"),
    ("losses", "DELETE FROM exposures WHERE lost > 0"),
    ("replay keys", "DELETE FROM replay_tail"),
    ("replay keys", "UPDATE payments SET key = (SELECT key FROM payments WHERE state = 'void') WHERE state = 'failed'"),
    ("archived", "INSERT INTO carried VALUES ('income:x', 'y', 0, 5)"),
    ("zero sum", "INSERT INTO carried VALUES ('income:x', 'y', 0, 5)"),
    ("orphans", "UPDATE journal SET payment_no = 5 WHERE kind = 'final'"),
    ("orphans", "UPDATE charges SET payment_no = 5 WHERE state = 'captured'"),
    ("entries", "UPDATE journal SET charge_no = NULL WHERE kind = 'captured'"),
    ("entries", "UPDATE journal SET charge_no = (SELECT max(no) FROM charges) WHERE kind = 'released'"),
]


@pytest.mark.parametrize(("check", "statement"), STATES)
def test_a_state_that_does_not_follow_from_the_entries_is_found(book: Path, check: str, statement: str) -> None:
    """Attack: what the chain does not cover is changed, to make a payment look unpaid, or a delivery refused."""
    assert change(book, statement) >= 1, "the book under test has such a row"
    assert check in {finding.check for finding in verify(book).findings}


def test_a_spoiled_file_is_a_finding_and_not_a_crash(book: Path) -> None:
    raw = bytearray(book.read_bytes())
    raw[4096 * 6 + 100 : 4096 * 9] = bytes(4096 * 3 - 100)
    book.write_bytes(raw)
    assert "database" in {finding.check for finding in verify(book).findings}
