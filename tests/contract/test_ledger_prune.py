"""Old responses are erased; what was paid stays paid, and what is still owed to a buyer stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.kit.ledgers import NOW, RESPONSE, SECOND, USDC, capture, end_settle, reserve

from micropaywall import errors, limits
from micropaywall.core import book
from micropaywall.core.model import StoredResponse
from micropaywall.ledger.prune import Pruned, prune
from micropaywall.ledger.sqlite import SqliteLedger

pytestmark = pytest.mark.anyio
DAY = 86_400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def served(ledger: SqliteLedger, name: str, *, at: int = NOW, **more: Any) -> Any:
    applied = await ledger.apply(reserve(name, at=at, **more))
    await ledger.apply(capture(applied, at=at, begin_settle=True))
    await ledger.apply(end_settle(applied, at=at))
    return applied


async def test_responses_past_their_retention_are_erased_and_younger_ones_kept(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    old = await served(ledger, "old", at=NOW - DAY * SECOND - 1)
    young = await served(ledger, "young", at=NOW - DAY * SECOND)
    done = prune(path, now_ms=NOW, keep_responses_s=DAY)
    assert done.responses == 1
    assert done.bytes > len(RESPONSE.body)
    assert await ledger.response(old.charge_id) is None
    assert await ledger.response(young.charge_id) == RESPONSE
    await ledger.close()


async def test_a_payment_whose_response_was_erased_is_not_new(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    await served(ledger, "a")
    log = [record async for record in ledger.records()]
    assert prune(path, now_ms=NOW + 400 * DAY * SECOND, keep_responses_s=DAY).responses == 1
    again = await ledger.apply(reserve("a", at=NOW + 400 * DAY * SECOND))
    assert isinstance(again, book.Replayed)
    assert again.response is None
    assert isinstance(await ledger.apply(reserve("a", body="other")), book.Foreign)
    assert [record async for record in ledger.records()] == log
    await ledger.close()


@pytest.mark.parametrize(("mode", "erased"), [("after", 0), ("before", 0), ("deferred", 1)])
async def test_what_a_buyer_has_not_got_is_kept_however_old(path: Path, mode: str, erased: int) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await ledger.apply(reserve("a", mode=mode))
    await ledger.apply(capture(applied, begin_settle=mode != "deferred", settle_due_ms=NOW))
    assert prune(path, now_ms=NOW + 400 * DAY * SECOND, keep_responses_s=DAY).responses == erased
    assert (await ledger.response(applied.charge_id) is None) == bool(erased)
    await ledger.close()


async def test_a_response_is_kept_for_its_retention_after_a_late_verdict(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await ledger.apply(reserve("a"))
    await ledger.apply(capture(applied, begin_settle=True))
    late = NOW + 3 * DAY * SECOND
    await ledger.apply(end_settle(applied, at=late))
    assert prune(path, now_ms=late + DAY * SECOND, keep_responses_s=DAY).responses == 0
    assert prune(path, now_ms=late + DAY * SECOND + 1, keep_responses_s=DAY).responses == 1
    await ledger.close()


async def test_many_responses_are_erased_in_short_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PRUNE_ROWS", 3)
    ledger = await SqliteLedger.open(path, assets=[USDC])
    ages = [2 * DAY if n % 2 else 0 for n in range(20)]
    made = [await served(ledger, f"p{n}", at=NOW - age * SECOND) for n, age in enumerate(ages)]
    assert prune(path, now_ms=NOW, keep_responses_s=DAY).responses == 10
    for age, applied in zip(ages, made, strict=True):
        assert (await ledger.response(applied.charge_id) is None) == bool(age)
    assert prune(path, now_ms=NOW, keep_responses_s=DAY) == Pruned(responses=0, bytes=0)
    await ledger.close()


async def test_bytes_are_those_that_were_erased(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await ledger.apply(reserve("a"))
    await ledger.apply(capture(applied, begin_settle=True, response=StoredResponse(200, (), b"x" * 100_000)))
    await ledger.apply(end_settle(applied))
    assert 100_000 <= prune(path, now_ms=NOW + 2 * DAY * SECOND, keep_responses_s=DAY).bytes < 100_100
    await ledger.close()


async def test_a_book_of_another_host_is_not_pruned(path: Path) -> None:
    await (await SqliteLedger.open(path)).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        other = '{"machine": "another", "boot": "another"}'
        connection.execute("UPDATE writers SET host = ?, seen_ms = ?", (other, NOW - SECOND))
    with pytest.raises(errors.LedgerInUse, match="another host"):
        prune(path, now_ms=NOW, keep_responses_s=DAY)


async def test_only_a_book_is_pruned(path: Path) -> None:
    with pytest.raises(errors.StoreUnavailable):
        prune(path, now_ms=NOW, keep_responses_s=DAY)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE responses (charge_no, kept_ms)")
    with pytest.raises(errors.ConfigurationError):
        prune(path, now_ms=NOW, keep_responses_s=DAY)
