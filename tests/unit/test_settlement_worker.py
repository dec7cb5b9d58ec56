"""The background: what is due settles, what is unknown is asked for, refunds are paid, what is lost comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.kit.owed import OWNER, Heard, Owed
from tests.kit.rail import ScriptedSettlement, moved

from micropaywall import limits
from micropaywall.core.book import EndSettle, PaymentRow
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Rejected, Settled, Unknown
from micropaywall.errors import StoreUnavailable, Unavailable
from micropaywall.sandbox.token import SANDBOX_NETWORK
from micropaywall.settlement.worker import SettlementWorker

pytestmark = pytest.mark.anyio
PLACE = ("sandbox", SANDBOX_NETWORK)
PENDING = Unknown("waits for a block", "0xabc", "pending")
ABSENT = Unknown("nothing there", doubt="absent")


class Bench:
    def __init__(self, **options: Any) -> None:
        self.owed = Owed()
        self.rail = ScriptedSettlement()
        self.heard = Heard()
        self.worker = self.another(OWNER, **options)

    def another(self, owner: str, **options: Any) -> SettlementWorker:
        fields: dict[str, Any] = {"clock": self.owed.clock, "observer": self.heard, "jitter": lambda: 1.0, **options}
        return SettlementWorker(self.owed.ledger, {PLACE: self.rail}, owner=owner, **fields)

    async def settled(self) -> PaymentRow:
        row = await self.owed.served()
        await self.worker.tick()
        assert await self.owed.state(row) is PaymentState.SETTLED
        self.rail.calls.clear()
        return row


async def test_what_is_due_is_submitted_in_one_batch_and_recorded() -> None:
    bench = Bench()
    rows = [await bench.owed.served() for _ in range(5)]
    tick = await bench.worker.tick()
    assert (tick.leased, tick.settled) == (5, 5)
    assert [await bench.owed.state(row) for row in rows] == [PaymentState.SETTLED] * 5
    assert bench.rail.made("settle") == 5
    assert bench.heard.names() == ["settled"] * 5


async def test_nothing_due_is_nothing_done() -> None:
    bench = Bench()
    tick = await bench.worker.tick()
    assert tick.leased == 0
    assert bench.rail.calls == []


async def test_a_settlement_under_way_elsewhere_is_left_alone_until_its_lease_ends() -> None:
    bench = Bench()
    row = await bench.owed.served(mode="after", owner="another", lease_s=60)
    await bench.worker.tick()
    assert bench.rail.calls == []
    bench.owed.clock.advance(61)
    bench.rail.asks.append(moved)
    await bench.worker.tick()
    assert [name for name, _ in bench.rail.calls] == ["status"]
    assert await bench.owed.state(row) is PaymentState.SETTLED


async def test_unknown_is_asked_for_before_it_is_submitted_again() -> None:
    bench = Bench()
    row = await bench.owed.served()
    bench.rail.settles.append(Unknown("lost"))
    await bench.worker.tick()
    assert (await bench.owed.row(row)).attempts == 1
    await bench.worker.tick()
    assert bench.rail.made("status") == 0  # not before it is due
    bench.owed.clock.advance(1.001)
    await bench.worker.tick()
    assert [name for name, _ in bench.rail.calls] == ["settle", "status", "settle"]
    assert await bench.owed.state(row) is PaymentState.SETTLED


@pytest.mark.parametrize("answer", [PENDING, Unknown("no answer"), Unavailable("away"), OSError("reset")])
async def test_what_may_be_under_way_is_not_submitted_again(answer: Any) -> None:
    bench = Bench()
    row = await bench.owed.served()
    bench.rail.settles.append(Unknown("lost"))
    bench.rail.asks.extend([answer, answer])
    for _ in range(3):
        await bench.worker.tick()
        bench.owed.clock.advance(10)
    assert [name for name, _ in bench.rail.calls] == ["settle", "status", "status"]
    assert await bench.owed.state(row) is PaymentState.SETTLING


async def test_waiting_grows_with_each_attempt() -> None:
    bench = Bench()
    row = await bench.owed.served()
    bench.rail.settles.append(Unknown("lost"))
    bench.rail.asks.extend([PENDING] * 20)
    await bench.worker.tick()
    for wait_s in (1, 2, 4, 8, 16, 32, 60, 60):
        asked = bench.rail.made("status")
        bench.owed.clock.advance(wait_s - 0.01)
        await bench.worker.tick()
        assert bench.rail.made("status") == asked
        bench.owed.clock.advance(0.02)
        await bench.worker.tick()
        assert bench.rail.made("status") == asked + 1
    assert (await bench.owed.row(row)).attempts == 9


async def test_a_late_success_completes_the_payment() -> None:
    bench = Bench()
    row = await bench.owed.served(mode="after", owner="a process that died", lease_s=5)
    bench.owed.clock.advance(6)
    bench.rail.asks.append(moved)
    tick = await bench.worker.tick()
    assert tick.settled == 1
    assert (await bench.owed.charge(row)).state is ChargeState.CAPTURED
    assert "recovered" in bench.heard.names()


async def test_a_rejection_ends_the_payment() -> None:
    bench = Bench()
    row = await bench.owed.served()
    bench.rail.settles.append(Rejected("spent"))
    tick = await bench.worker.tick()
    assert tick.rejected == 1
    assert await bench.owed.state(row) is PaymentState.FAILED


async def test_two_workers_never_submit_one_payment_at_once() -> None:
    bench = Bench()
    rows = [await bench.owed.served() for _ in range(20)]
    bench.rail.gate = asyncio.Event()
    workers = [bench.worker, bench.another("worker:2"), bench.another("worker:3")]
    ticks = [asyncio.create_task(worker.tick()) for worker in workers for _ in range(2)]
    await asyncio.sleep(0.01)
    bench.rail.gate.set()
    await asyncio.gather(*ticks)
    assert bench.rail.made("settle") == len(rows)
    assert bench.rail.most_under_way == 1


async def test_a_call_ends_before_the_lease_does() -> None:
    bench = Bench(call_limit_s=0.05)
    row = await bench.owed.served()
    bench.rail.settles.append(30.0)
    await asyncio.wait_for(bench.worker.tick(), timeout=5)
    after = await bench.owed.row(row)
    assert (after.state, after.attempts) == (PaymentState.SETTLING, 1)
    assert bench.rail.under_way == {row.key: 0}


async def test_payments_of_a_rail_that_is_gone_wait_and_the_others_settle() -> None:
    bench = Bench()
    one, other = await bench.owed.served(), await bench.owed.served()
    worker = SettlementWorker(
        bench.owed.ledger, {}, clock=bench.owed.clock, owner=OWNER, observer=bench.heard, jitter=lambda: 1.0
    )
    await worker.tick()
    assert await bench.owed.state(one) is PaymentState.SETTLING
    bench.owed.clock.advance(2)
    await bench.worker.tick()
    assert await bench.owed.state(one) is await bench.owed.state(other) is PaymentState.SETTLED


# -- refunds ----------------------------------------------------------------------------------------------------------


async def test_a_refund_that_is_due_is_paid() -> None:
    bench = Bench()
    row = await bench.settled()
    await bench.owed.refund_due(row, 1_000)
    tick = await bench.worker.tick()
    assert tick.refunded == 1
    assert await bench.owed.state(row) is PaymentState.REFUNDED
    assert bench.rail.made("refund") == 1
    assert "refunded" in bench.heard.names()


@pytest.mark.parametrize("answer", [Unknown("lost"), Rejected("poor"), OSError("reset"), Unavailable("away")])
async def test_a_refund_without_success_is_tried_again_with_the_same_id(answer: Any) -> None:
    bench = Bench()
    row = await bench.settled()
    refund = await bench.owed.refund_due(row, 400)
    bench.rail.refund_answers.append(answer)
    await bench.worker.tick()
    assert await bench.owed.state(row) is PaymentState.REFUND_DUE
    await bench.worker.tick()
    assert bench.rail.made("refund") == 1
    bench.owed.clock.advance(10)
    await bench.worker.tick()
    assert [key for name, key in bench.rail.calls if name == "refund"] == [refund, refund]
    assert (await bench.owed.row(row)).refunded == 400


# -- confirmation -----------------------------------------------------------------------------------------------------


async def test_a_settled_payment_is_asked_for_until_it_is_final() -> None:
    bench = Bench()
    row = await bench.settled()
    bench.rail.asks.extend([moved, lambda r: moved(r, final=True)])
    assert (await bench.worker.tick()).final == 0
    assert await bench.owed.state(row) is PaymentState.SETTLED
    tick = await bench.worker.tick()
    assert tick.final == 1
    assert await bench.owed.state(row) is PaymentState.FINAL
    bench.rail.calls.clear()
    await bench.worker.tick()
    assert bench.rail.calls == []


@pytest.mark.parametrize("answer", [ABSENT, PENDING, Rejected("nonce used by another transfer")])
async def test_a_payment_that_the_chain_has_lost_settles_again(answer: Any) -> None:
    bench = Bench()
    row = await bench.settled()
    bench.rail.asks.append(answer)
    tick = await bench.worker.tick()
    assert tick.reorganised == 1
    assert await bench.owed.state(row) is PaymentState.SETTLING
    await bench.worker.tick()
    assert await bench.owed.state(row) is PaymentState.SETTLED
    assert bench.rail.made("settle") == 1
    assert "reorganised" in bench.heard.names()


@pytest.mark.parametrize("answer", [Unknown("no answer"), Unavailable("away"), OSError("reset"), 30.0])
async def test_nobody_able_to_tell_is_no_reorganisation(answer: Any) -> None:
    bench = Bench(call_limit_s=0.05)
    row = await bench.settled()
    bench.rail.asks.append(answer)
    tick = await bench.worker.tick()
    assert tick.reorganised == 0
    assert await bench.owed.state(row) is PaymentState.SETTLED


async def test_what_was_lost_and_is_spent_elsewhere_fails_in_the_end() -> None:
    bench = Bench()
    row = await bench.settled()
    bench.rail.asks.extend([ABSENT, ABSENT])
    bench.rail.settles.append(Rejected("spent"))
    await bench.worker.tick()
    await bench.worker.tick()
    assert await bench.owed.state(row) is PaymentState.FAILED


# -- the loop ---------------------------------------------------------------------------------------------------------


async def _until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not await done():  # noqa: ASYNC110 - what it waits for is in the book
            await asyncio.sleep(0.005)


async def test_run_recovers_at_once_and_settles_what_comes() -> None:
    bench = Bench(interval_s=0.01)
    left = await bench.owed.served(mode="after", owner="a process that died", lease_s=-1)
    running = asyncio.create_task(bench.worker.run())
    await _until(lambda: _is(bench, left, PaymentState.SETTLED))
    new = await bench.owed.served()
    await _until(lambda: _is(bench, new, PaymentState.SETTLED))
    bench.worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def _is(bench: Bench, row: PaymentRow, state: PaymentState) -> bool:
    return await bench.owed.state(row) is state


async def test_wake_shortens_the_wait() -> None:
    bench = Bench(interval_s=60)
    running = asyncio.create_task(bench.worker.run())
    await asyncio.sleep(0.02)
    row = await bench.owed.served()
    bench.worker.wake()
    await _until(lambda: _is(bench, row, PaymentState.SETTLED))
    bench.worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def test_stop_waits_for_what_is_under_way() -> None:
    bench = Bench(interval_s=0.01)
    row = await bench.owed.served()
    bench.rail.gate = asyncio.Event()
    running = asyncio.create_task(bench.worker.run())
    await _until(lambda: _called(bench))
    bench.worker.stop()
    await asyncio.sleep(0.02)
    assert not running.done()
    bench.rail.gate.set()
    await asyncio.wait_for(running, timeout=5)
    assert await bench.owed.state(row) is PaymentState.SETTLED


async def _called(bench: Bench) -> bool:
    return bool(bench.rail.calls)


async def test_stop_does_not_wait_for_ever() -> None:
    bench = Bench(interval_s=0.01, drain_s=0.05)
    await bench.owed.served()
    bench.rail.settles.append(300.0)
    running = asyncio.create_task(bench.worker.run())
    await _until(lambda: _called(bench))
    bench.worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def test_a_rail_that_hangs_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    hanging = ScriptedSettlement()
    hanging.gate = asyncio.Event()
    worker = SettlementWorker(
        bench.owed.ledger,
        {PLACE: bench.rail, ("hanging", SANDBOX_NETWORK): hanging},
        clock=bench.owed.clock,
        owner=OWNER,
        interval_s=0.01,
    )
    stuck = await bench.owed.served()
    monkeypatch.setattr(
        bench.owed.ledger, "lease_work", _renaming(bench.owed.ledger.lease_work, stuck, "hanging"), raising=True
    )
    running = asyncio.create_task(worker.run())
    await _until(lambda: _hangs(hanging))
    row = await bench.owed.served()
    await _until(lambda: _is(bench, row, PaymentState.SETTLED))
    hanging.gate.set()
    worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def _hangs(rail: ScriptedSettlement) -> bool:
    return bool(rail.calls)


def _renaming(lease_work: Any, row: PaymentRow, rail: str) -> Any:
    async def leased(**arguments: Any) -> Any:
        work = await lease_work(**arguments)
        return replace(work, settle=[replace(r, rail=rail) if r.id == row.id else r for r in work.settle])

    return leased


async def test_the_number_of_batches_under_way_is_bounded() -> None:
    bench = Bench(interval_s=0.001)
    bench.rail.gate = asyncio.Event()
    running = asyncio.create_task(bench.worker.run())
    for _ in range(3 * limits.SETTLE_BATCHES_MAX):
        await bench.owed.served()
        await asyncio.sleep(0.003)
    assert len({key for _, key in bench.rail.calls}) <= limits.SETTLE_BATCHES_MAX + 1
    bench.rail.gate.set()
    bench.worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def test_the_loop_outlives_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SETTLE_RETRY_S_MIN", 0.01)
    bench = Bench(interval_s=0.01)
    errors: list[BaseException] = [StoreUnavailable("away"), RuntimeError("a defect")]
    lease_work = bench.owed.ledger.lease_work

    async def failing(**arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return await lease_work(**arguments)

    monkeypatch.setattr(bench.owed.ledger, "lease_work", failing)
    row = await bench.owed.served()
    running = asyncio.create_task(bench.worker.run())
    await _until(lambda: _is(bench, row, PaymentState.SETTLED))
    bench.worker.stop()
    await asyncio.wait_for(running, timeout=5)


async def test_a_result_that_cannot_be_recorded_is_asked_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    row = await bench.owed.served()
    apply = bench.owed.ledger.apply

    async def away(command: Any) -> Any:
        if isinstance(command, EndSettle):
            raise StoreUnavailable("away")
        return await apply(command)

    with monkeypatch.context() as patch:
        patch.setattr(bench.owed.ledger, "apply", away)
        await bench.worker.tick()
    assert await bench.owed.state(row) is PaymentState.SETTLING
    bench.owed.clock.advance(limits.SETTLE_LEASE_S + 1)
    bench.rail.asks.append(moved)
    tick = await bench.worker.tick()
    assert tick.settled == 1
    assert bench.rail.made("settle") == 1


async def test_a_settlement_of_another_amount_is_not_booked() -> None:
    bench = Bench()
    row = await bench.owed.served()
    bench.rail.settles.append(Settled("0x1", 999))
    await bench.worker.tick()
    assert await bench.owed.state(row) is PaymentState.SETTLING
