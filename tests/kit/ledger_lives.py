"""A SQLite book with a bit of everything in it, made by the engine itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micropaywall.clock import ManualClock
from micropaywall.core import book
from micropaywall.core.model import Rejected, Unknown
from micropaywall.ledger.sqlite import SqliteLedger
from tests.kit.ledgers import EXPIRY, NOW, USDC, capture, end_settle, moved, refund, release, reserve

PAYER = "0x" + "a1" * 20
CHEAT = "0x" + "cc" * 20


async def open_book(path: Path, clock: ManualClock | None = None, **more: Any) -> SqliteLedger:
    return await SqliteLedger.open(path, assets=[USDC], clock=clock or ManualClock(NOW), **more)


async def live(ledger: SqliteLedger, name: str = "", *, at: int = NOW) -> None:
    """Payments that end in every state; only `refund_due` and `settling` are left open, in payments ``open-…``."""

    async def served(payment: str, **more: Any) -> Any:
        applied = await ledger.apply(reserve(f"{name}{payment}", at=at, valid_before_ms=at + 300_000, **more))
        settle = {"settle_due_ms": at} if more.get("mode") == "deferred" else {"begin_settle": True}
        await ledger.apply(capture(applied, at=at, **settle))
        return applied

    async def back(applied: Any, amount: int) -> book.BeginRefund:
        command = refund(applied, amount, at=at)
        await ledger.apply(command)
        return command

    final = await served("final", agent="agent-7")
    await ledger.apply(end_settle(final, moved(final=True), at=at))
    for payment, amount in (("whole", 1000), ("part", 400)):
        applied = await served(payment)
        await ledger.apply(end_settle(applied, moved(transaction=f"0x{payment}"), at=at))
        command = await back(applied, amount)
        outcome = moved(amount, transaction="0xback")
        await ledger.apply(book.EndRefund(refund_id=command.refund_id, owner="w1", now_ms=at, outcome=outcome))
    failed = await served("failed")
    await ledger.apply(end_settle(failed, Rejected("insufficient_funds"), at=at))
    cheated = await served("cheated", mode="deferred", payer=CHEAT + name, exposure_cap=10_000)
    await ledger.apply(book.BeginSettle(payment_id=cheated.payment_id, owner="w1", now_ms=at, lease_until_ms=at + 1))
    await ledger.apply(end_settle(cheated, Rejected("insufficient_funds"), at=at))
    stream = await ledger.apply(reserve(f"{name}stream", at=at, valid_before_ms=at + 300_000))
    await ledger.apply(capture(stream, at=at, response=None, begin_settle=True))
    await ledger.apply(end_settle(stream, moved(final=True), at=at))
    await ledger.apply(book.Delivered(charge_id=stream.charge_id, now_ms=at))
    unused = await ledger.apply(reserve(f"{name}unused", at=at, valid_before_ms=at + 300_000))
    await ledger.apply(release(unused, at=at, response_status=404, reason="handler_refused"))
    away = await served("away")
    await ledger.apply(end_settle(away, moved(), at=at))
    await ledger.apply(book.Reorganise(payment_id=away.payment_id, now_ms=at))
    await ledger.apply(end_settle(away, moved(final=True, block=9), at=at + 1))
    await ledger.lease_work(owner="w9", now_ms=at + 300_000, lease_until_ms=at + 300_001, limit=100)


async def leave_open(ledger: SqliteLedger, *, at: int = NOW) -> None:
    """What keeps a book busy: reserved, settling with an unknown outcome, a refund that is due, exposure."""
    await ledger.apply(reserve("open-reserved", at=at))
    applied = await ledger.apply(reserve("open-settling", at=at))
    await ledger.apply(capture(applied, at=at, begin_settle=True))
    await ledger.apply(end_settle(applied, Unknown("lost", "0xmaybe"), at=at, retry_ms=at + 10 * EXPIRY))
    applied = await ledger.apply(reserve("open-refund", at=at))
    await ledger.apply(capture(applied, at=at, begin_settle=True))
    await ledger.apply(end_settle(applied, moved(transaction="0xpaid"), at=at))
    await ledger.apply(refund(applied, 300, at=at))
    applied = await ledger.apply(reserve("open-exposed", at=at, mode="deferred"))
    await ledger.apply(capture(applied, at=at, settle_due_ms=at + EXPIRY))
