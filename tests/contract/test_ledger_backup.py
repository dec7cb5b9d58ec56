# ruff: noqa: ASYNC220, ASYNC221, ASYNC240 - files are small and nothing else runs in the loop
"""A book is copied while it is used and put back while it is not; what was paid stays paid."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.ledgers import EXPIRY, NOW, RESPONSE, SECOND, USDC, capture, end_settle, key_of, reserve

from micropaywall import errors, limits
from micropaywall.core import book
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import StoredResponse
from micropaywall.ledger.backup import backup, restore
from micropaywall.ledger.sqlite import SqliteLedger

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return tmp_path / "saved.db"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[SqliteLedger]:
    opened = await SqliteLedger.open(path, assets=[USDC])
    yield opened
    await opened.close()


async def pay(ledger: SqliteLedger, name: str, **more: Any) -> Any:
    applied = await ledger.apply(reserve(name, **more))
    await ledger.apply(capture(applied, begin_settle=True))
    return await ledger.apply(end_settle(applied))


async def opened(path: Path) -> SqliteLedger:
    return await SqliteLedger.open(path, assets=[USDC])


def content(path: Path) -> list[Any]:
    with sqlite3.connect(path) as connection:
        found = [
            row
            for table in ("payments", "charges", "journal", "responses", "refunds", "meta")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        ]
    connection.close()
    return found


# -- backup -----------------------------------------------------------------------------------------------------------


async def test_a_backup_of_a_book_in_use_is_a_whole_book_of_one_moment(
    ledger: SqliteLedger, path: Path, saved: Path
) -> None:
    for n in range(20):
        await pay(ledger, f"p{n}")
    backup(path, saved)
    await pay(ledger, "later")
    assert not list(saved.parent.glob("saved.db-*")), "one file, no log beside it"
    copy = await opened(saved)
    assert [r async for r in copy.records()] == [r async for r in ledger.records()][:20]
    await copy.close()


async def test_payments_go_on_while_a_backup_is_taken(ledger: SqliteLedger, path: Path, tmp_path: Path) -> None:
    await ledger.apply(reserve("wide", agent="x"))
    stopped = threading.Event()
    failures: list[Exception] = []
    copies: list[Path] = []

    def copying() -> None:
        try:
            while not stopped.is_set():
                copies.append(tmp_path / f"copy{len(copies)}.db")
                backup(path, copies[-1])
        except Exception as error:  # noqa: BLE001 - told to the test's thread
            failures.append(error)

    thread = threading.Thread(target=copying)
    thread.start()
    for n in range(100):
        await pay(ledger, f"p{n}")
    stopped.set()
    thread.join()
    assert not failures
    for copy in copies:
        with sqlite3.connect(copy) as connection:
            halves = connection.execute(
                "SELECT COUNT(*) FROM charges WHERE state = 'captured' AND no NOT IN (SELECT charge_no FROM journal"
                " WHERE kind = 'captured')"
            ).fetchone()
        connection.close()
        assert halves == (0,), "a commit is in the copy wholly or not at all"


async def test_a_backup_never_overwrites(ledger: SqliteLedger, path: Path, saved: Path) -> None:
    saved.write_text("something else")
    with pytest.raises(errors.ConfigurationError, match="there already"):
        backup(path, saved)
    assert saved.read_text() == "something else"


async def test_a_backup_that_fails_leaves_nothing_behind(path: Path, saved: Path, ledger: SqliteLedger) -> None:
    for n in range(30):
        await pay(ledger, f"p{n}")
    await ledger.close()
    damage(path)
    with pytest.raises((errors.LedgerCorrupt, errors.StoreUnavailable)):
        backup(path, saved)
    assert not saved.exists()
    assert sorted(p.name for p in path.parent.iterdir() if "saved" in p.name) == []


def damage(path: Path) -> None:
    """Overwrite a page in the middle."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(os.urandom(4096))


@pytest.mark.parametrize("other", ["missing", "text", "database"])
async def test_only_a_book_is_backed_up_or_restored(other: str, path: Path, saved: Path) -> None:
    await (await opened(path)).close()
    strange = path.with_name("strange.db")
    if other == "text":
        strange.write_text("words " * 2000)
    elif other == "database":
        backup(path, strange)
        with sqlite3.connect(strange) as connection:
            connection.execute("PRAGMA application_id = 7")
        connection.close()
    with pytest.raises((errors.ConfigurationError, errors.StoreUnavailable)):
        backup(strange, saved)
    before = content(path)
    with pytest.raises((errors.ConfigurationError, errors.StoreUnavailable)):
        restore(strange, path, now_ms=NOW)
    assert content(path) == before


async def test_only_a_book_is_replaced(path: Path, saved: Path) -> None:
    await (await opened(path)).close()
    backup(path, saved)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA application_id = 7")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(errors.ConfigurationError, match="not a book"):
        restore(saved, path, now_ms=NOW)
    assert path.read_bytes() == before


async def test_a_backup_is_the_owners_only(ledger: SqliteLedger, path: Path, saved: Path) -> None:
    backup(path, saved)
    assert os.name == "nt" or saved.stat().st_mode & 0o077 == 0


# -- restore ----------------------------------------------------------------------------------------------------------


async def test_what_was_known_before_the_backup_is_never_new_again(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "settled")
    held = reserve("held")
    await ledger.apply(held)
    failed = await ledger.apply(reserve("failed"))
    await ledger.apply(capture(failed, begin_settle=True))
    await ledger.apply(end_settle(failed, book_rejected()))
    backup(path, saved)
    await pay(ledger, "after")
    await ledger.close()
    restore(saved, path, now_ms=NOW)
    ledger = await opened(path)
    again = await ledger.apply(reserve("settled"))
    assert isinstance(again, book.Replayed)
    assert again.response == RESPONSE
    assert isinstance(await ledger.apply(reserve("settled", body="other")), book.Foreign)
    assert isinstance(await ledger.apply(reserve("held")), book.Busy)
    assert isinstance(await ledger.apply(reserve("failed")), book.Spent)
    assert await ledger.payment(key_of("after")) is None
    await ledger.close()


def book_rejected() -> Any:
    from micropaywall.core.model import Rejected

    return Rejected("insufficient funds")


async def test_the_old_book_is_kept_with_everything_that_was_in_it(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "before")
    backup(path, saved)
    await pay(ledger, "after")
    await ledger.close()
    before = content(path)
    done = restore(saved, path, now_ms=NOW)
    assert done.kept is not None
    assert done.kept.name == "ledger.db.before-restore-20270115T080000Z"
    assert content(done.kept) == before
    assert content(path) == content(saved)
    back = await opened(done.kept)
    assert await back.payment(key_of("after")) is not None
    await back.close()


async def test_what_was_forgotten_is_counted_and_when_it_is_safe_to_start(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "before")
    backup(path, saved)
    await pay(ledger, "b", valid_before_ms=EXPIRY + 7 * SECOND)
    await pay(ledger, "c")
    await ledger.close()
    done = restore(saved, path, now_ms=NOW)
    assert (done.forgotten, done.safe_from_ms) == (2, EXPIRY + 7 * SECOND)
    done = restore(saved, path, now_ms=NOW + SECOND)
    assert (done.forgotten, done.safe_from_ms) == (0, 0)


async def test_without_the_old_book_the_longest_authorization_is_waited_for(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "a")
    await ledger.close()
    backup(path, saved)
    fresh = path.with_name("elsewhere") / "ledger.db"
    done = restore(saved, fresh, now_ms=NOW)
    assert (done.kept, done.forgotten) == (None, None)
    assert done.safe_from_ms == NOW + limits.AUTHORIZATION_LIFETIME_S_MAX * SECOND
    assert content(fresh) == content(saved)


async def test_a_book_in_use_is_not_replaced(ledger: SqliteLedger, path: Path, saved: Path) -> None:
    await pay(ledger, "a")
    backup(path, saved)
    await pay(ledger, "b")
    with pytest.raises(errors.LedgerInUse):
        restore(saved, path, now_ms=NOW)
    found = await ledger.payment(key_of("b"))
    assert found is not None
    assert found.state is PaymentState.SETTLED
    await pay(ledger, "c")
    assert not list(path.parent.glob("*before-restore*"))


async def test_a_book_that_another_process_only_reads_is_not_replaced(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "a")
    await ledger.close()
    backup(path, saved)
    code = (
        "import sys; from pathlib import Path; from micropaywall.ledger.sqlite import files\n"
        "c = files.connect(Path(sys.argv[1]), read_only=True); c.execute('SELECT * FROM payments').fetchall()\n"
        "print('open', flush=True); sys.stdin.read(); c.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(errors.LedgerInUse):
            restore(saved, path, now_ms=NOW)
        reader.communicate("")
    restore(saved, path, now_ms=NOW)


async def test_a_book_that_another_host_has_is_not_replaced(path: Path, saved: Path) -> None:
    await (await opened(path)).close()
    backup(path, saved)
    with sqlite3.connect(path) as connection:
        other = '{"machine": "another", "boot": "another"}'
        connection.execute("UPDATE writers SET host = ?, seen_ms = ?", (other, NOW - SECOND))
    connection.close()
    with pytest.raises(errors.LedgerInUse, match="another host"):
        restore(saved, path, now_ms=NOW)
    restore(saved, path, now_ms=NOW + (limits.BOOK_HOST_LEASE_S + 1) * SECOND)


async def test_a_backup_may_be_opened_on_another_host_at_once(path: Path, saved: Path, ledger: SqliteLedger) -> None:
    backup(path, saved)
    with sqlite3.connect(saved) as connection:
        assert connection.execute("SELECT COUNT(*) FROM writers WHERE seen_ms IS NOT NULL").fetchone() == (0,)
    connection.close()


async def test_a_backup_of_another_version_is_refused_before_anything_is_touched(path: Path, saved: Path) -> None:
    await (await opened(path)).close()
    backup(path, saved)
    with sqlite3.connect(saved) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(errors.ConfigurationError, match="schema 9999"):
        restore(saved, path, now_ms=NOW)
    assert not list(path.parent.glob("*before-restore*"))


async def test_a_damaged_backup_is_refused_before_anything_is_touched(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    big = StoredResponse(200, (), os.urandom(200_000))
    applied = await ledger.apply(reserve("a"))
    await ledger.apply(capture(applied, response=big))
    for n in range(200):
        await ledger.apply(reserve(f"p{n}"))
    backup(path, saved)
    await ledger.close()
    with sqlite3.connect(saved) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'charges_payment'").fetchone()
    connection.close()
    with saved.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 512)
    before = content(path)
    with pytest.raises(errors.LedgerCorrupt):
        restore(saved, path, now_ms=NOW)
    assert content(path) == before


@pytest.mark.parametrize("size", [64, 8192])
async def test_a_book_that_is_damaged_beyond_opening_is_replaced_and_kept(size: int, path: Path, saved: Path) -> None:
    ledger = await opened(path)
    await pay(ledger, "a")
    await ledger.close()
    backup(path, saved)
    with path.open("r+b") as file:
        file.write(b"\xff" * size)
    broken = path.read_bytes()
    done = restore(saved, path, now_ms=NOW)
    assert done.kept is not None
    assert done.kept.read_bytes() == broken
    assert done.forgotten is None
    assert done.safe_from_ms > NOW
    assert content(path) == content(saved)


async def test_a_restore_that_is_cut_off_leaves_the_old_book(path: Path, saved: Path) -> None:
    ledger = await opened(path)
    for n in range(200):
        await pay(ledger, f"p{n}")
    backup(path, saved)
    await pay(ledger, "after")
    await ledger.close()
    before = content(path)
    code = (
        "import os, sqlite3, sys; from pathlib import Path; from micropaywall.ledger import backup\n"
        "class Cut(sqlite3.Connection):\n"
        "    def backup(self, target):\n"
        "        steps = iter(range(9))\n"
        "        super().backup(target, pages=5, progress=lambda *_: next(steps) < 4 or os._exit(9))\n"
        "backup.files.connect = lambda path, read_only: sqlite3.connect(path, factory=Cut, isolation_level=None)\n"
        f"backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), now_ms={NOW})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved), str(path)], check=False)
    assert done.returncode == 9
    assert path.with_name("ledger.db-journal").exists(), "cut off while the file was being written"
    assert content(path) == before
