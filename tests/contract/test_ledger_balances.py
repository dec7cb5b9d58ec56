"""Every account of the book, from its journal: what is owned is what is owed and earned."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.kit.ledgers import NOW, USDC, capture, end_settle, moved, refund, reserve

from micropaywall import errors
from micropaywall.cli import frame
from micropaywall.core import book
from micropaywall.core.model import Rejected
from micropaywall.ledger.balances import balances
from micropaywall.ledger.sqlite import SqliteLedger
from micropaywall.money import MAX_ATOMIC

WALLET = "wallet:exact:eip155:4020402:0x" + "b2" * 20
INCOME = "income:0x" + "b2" * 20
CREDIT = "credit:0x" + "a1" * 20
LOSS = "loss:0x" + "b2" * 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


async def pay(ledger: SqliteLedger, name: str, amount: int = 1000, taken: int = 1000, **more: Any) -> Any:
    applied = await ledger.apply(reserve(name, amount=amount, **more))
    await ledger.apply(capture(applied, amount=taken, begin_settle=True))
    if taken < amount:
        begun = book.BeginSettle(payment_id=applied.payment_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 60_000)
        await ledger.apply(begun)
    return await ledger.apply(end_settle(applied, moved(amount)))


def accounts(path: Path) -> dict[str, int]:
    return {balance.account: balance.amount_atomic for balance in balances(path)}


def adds_up(found: dict[str, int]) -> bool:
    owned = sum(amount for name, amount in found.items() if name.startswith(("wallet:", "loss:")))
    return owned == sum(amount for name, amount in found.items() if name.startswith(("credit:", "income:")))


@pytest.mark.anyio
async def test_settled_and_delivered_is_income(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    assert balances(path) == []
    await pay(ledger, "a")
    await pay(ledger, "b")
    assert accounts(path) == {WALLET: 2000, INCOME: 2000}
    assert [str(balance) for balance in balances(path)] == ["0.002 USDC", "0.002 USDC"]
    await ledger.close()


@pytest.mark.anyio
async def test_what_was_not_taken_is_the_payers_credit(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    await pay(ledger, "a", taken=400)
    assert accounts(path) == {WALLET: 1000, INCOME: 400, CREDIT: 600}
    await ledger.close()


@pytest.mark.anyio
async def test_delivered_and_not_settled_is_negative_credit_and_then_a_loss(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await ledger.apply(reserve("a", mode="deferred"))
    await ledger.apply(capture(applied, settle_due_ms=NOW))
    assert accounts(path) == {INCOME: 1000, CREDIT: -1000}
    await ledger.apply(book.BeginSettle(payment_id=applied.payment_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 9))
    await ledger.apply(end_settle(applied, Rejected("insufficient funds")))
    assert accounts(path) == {INCOME: 1000, LOSS: 1000}
    assert adds_up(accounts(path))
    await ledger.close()


@pytest.mark.anyio
async def test_a_refund_leaves_nothing(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    applied = await pay(ledger, "a")
    begun = refund(applied, 1000)
    await ledger.apply(begun)
    await ledger.apply(book.EndRefund(refund_id=begun.refund_id, owner="w1", now_ms=NOW, outcome=moved()))
    assert accounts(path) == {}
    await ledger.close()


@pytest.mark.anyio
async def test_sums_beyond_64_bits_are_exact(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    for n in range(5):
        await pay(ledger, f"p{n}", amount=MAX_ATOMIC, taken=MAX_ATOMIC)
    assert accounts(path) == {WALLET: 5 * MAX_ATOMIC, INCOME: 5 * MAX_ATOMIC}
    await ledger.close()


@pytest.mark.anyio
async def test_assets_are_not_added_together_and_an_unknown_one_is_named(path: Path) -> None:
    ledger = await SqliteLedger.open(path, assets=[USDC])
    await pay(ledger, "a")
    await pay(ledger, "b", asset="eip155:1/erc20:0xdd")
    assert [(b.account, str(b)) for b in balances(path) if b.account == INCOME] == [
        (INCOME, "1000 eip155:1/erc20:0xdd"),
        (INCOME, "0.001 USDC"),
    ]
    await ledger.close()


def test_only_a_book_has_balances(path: Path) -> None:
    with pytest.raises(errors.StoreUnavailable):
        balances(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE journal (x)")
    with pytest.raises(errors.ConfigurationError):
        balances(path)


def test_the_command_shows_them(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MICROPAYWALL_HOME", str(path.parent))

    async def sell() -> None:
        ledger = await SqliteLedger.open(path, assets=[USDC])
        await pay(ledger, "a")
        await ledger.close()

    anyio.run(sell)
    assert frame.run(["ledger", "balance", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {"account": INCOME, "asset": USDC.id, "amountAtomic": "1000", "amount": "0.001 USDC"}
    assert frame.run(["ledger", "balance"]) == 0
    assert capsys.readouterr().out.count("0.001 USDC") == 2
