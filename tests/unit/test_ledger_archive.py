"""Archiving: what was known stays known, nothing unfinished moves, and both books that result are proven."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tests.kit.ledger_lives import leave_open, live, open_book
from tests.kit.ledgers import NOW, key_of, refund, reserve

from micropaywall.clock import ManualClock
from micropaywall.core import book
from micropaywall.core.lives import PaymentState
from micropaywall.errors import ConfigurationError, LedgerError
from micropaywall.ledger.archive import archive
from micropaywall.ledger.balances import balances
from micropaywall.ledger.verify import verify

pytestmark = pytest.mark.anyio

DAY = 86_400_000
LATER = NOW + 90 * DAY


def nets(path: Path) -> dict[tuple[str, str], int]:
    return {(balance.account, balance.asset.id): balance.amount_atomic for balance in balances(path)}


async def old_book(tmp_path: Path) -> Path:
    """Sealed at NOW, with nothing unfinished; then some more, ninety days later."""
    clock = ManualClock(NOW)
    ledger = await open_book(tmp_path / "ledger.db", clock)
    await live(ledger, "old-")
    await ledger.close()
    clock.advance(90 * DAY / 1000)
    ledger = await open_book(ledger.path, clock)
    await live(ledger, "new-", at=LATER)
    await leave_open(ledger, at=LATER)
    await ledger.close()
    return ledger.path


async def test_old_finished_payments_move_and_both_books_are_proven(tmp_path: Path) -> None:
    path = await old_book(tmp_path)
    ledger = await open_book(path, ManualClock(LATER))
    before = nets(path)
    moved = await asyncio.to_thread(
        archive, path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER)
    )
    assert (moved.payments, moved.charges) == (8, 8)
    assert verify(path).findings == []
    assert verify(tmp_path / "archive.db").findings == []
    assert nets(path) == before, "what the accounts come to does not depend on where the rows are"
    assert await ledger.payment(key_of("old-final")) is None
    assert await ledger.payment(key_of("new-final")) is not None
    first = await anext(aiter(ledger.records()))
    assert first.timestamp_ms == LATER, "the log of the book begins with what is still in it"
    await ledger.close()
    stored = await open_book(tmp_path / "archive.db", ManualClock(LATER))
    row = await stored.payment(key_of("old-final"))
    assert row is not None
    assert row.state is PaymentState.FINAL
    await stored.close()


async def test_an_archived_payment_cannot_be_presented_again(tmp_path: Path) -> None:
    """Attack: keep a spent credential until the seller has tidied up."""
    path = await old_book(tmp_path)
    ledger = await open_book(path, ManualClock(LATER))
    archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER))
    for name in ("old-final", "old-unused", "old-failed"):
        answer = await ledger.apply(reserve(name, at=LATER, valid_before_ms=LATER + 300_000))
        assert answer == book.Spent(PaymentState.FINAL, "archived")
    await ledger.close()
    again = await open_book(path, ManualClock(LATER))
    answer = await again.apply(reserve("old-final", at=LATER, valid_before_ms=LATER + 300_000))
    assert answer == book.Spent(PaymentState.FINAL, "archived")
    await again.close()


async def test_an_archived_payment_is_not_refunded(tmp_path: Path) -> None:
    path = await old_book(tmp_path)
    ledger = await open_book(path, ManualClock(LATER))
    row = await ledger.payment(key_of("old-final"))
    assert row is not None
    archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER))
    with pytest.raises(LedgerError):
        await ledger.apply(refund(book.Applied(row.id), 1000, at=LATER))
    await ledger.close()


async def test_what_is_unfinished_or_young_stays(tmp_path: Path) -> None:
    path = await old_book(tmp_path)
    clock = ManualClock(LATER)
    archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=clock)
    second = archive(path, tmp_path / "archive.db", before_ms=LATER + 10 * DAY, clock=clock)
    assert second.payments == 0, "the newer part has unfinished payments"
    assert verify(path).ok


async def test_archiving_goes_on_where_it_ended(tmp_path: Path) -> None:
    clock = ManualClock(NOW)
    path = tmp_path / "ledger.db"
    for month in range(3):
        ledger = await open_book(path, clock)
        await live(ledger, f"m{month}-", at=clock.now_ms())
        await ledger.close()
        clock.advance(30 * DAY / 1000)
    for month in range(3):
        into = tmp_path / ("one.db" if month < 2 else "another.db")
        moved = archive(path, into, before_ms=NOW + (30 * month + 1) * DAY, clock=clock)
        assert moved.payments == 8
        assert verify(path).findings == []
        assert verify(into).findings == []
    assert verify(path).payments == 0


async def test_an_interrupted_run_is_simply_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = await old_book(tmp_path)

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("micropaywall.ledger.archive._delete", power_cut)
        with pytest.raises(KeyboardInterrupt):
            archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER))
    assert verify(path).ok
    assert verify(tmp_path / "archive.db").ok
    moved = archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER))
    assert moved.payments == 8
    assert verify(path).ok
    assert verify(tmp_path / "archive.db").ok


async def test_what_was_carried_over_cannot_be_changed(tmp_path: Path) -> None:
    path = await old_book(tmp_path)
    archive(path, tmp_path / "archive.db", before_ms=LATER - DAY, clock=ManualClock(LATER))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE carried SET debit = debit + 1, credit = credit + 1 WHERE account LIKE 'income:%'")
    connection.commit()
    connection.close()
    assert [finding.check for finding in verify(path).findings] == ["archived"]


async def test_a_book_is_not_archived_into_itself(tmp_path: Path) -> None:
    path = await old_book(tmp_path)
    with pytest.raises(ConfigurationError):
        archive(path, path, before_ms=LATER)
