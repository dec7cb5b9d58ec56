"""The immediate settlement: one call per payment, bounded waiting, and late results that are recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.kit.owed import OWNER, Heard, Owed
from tests.kit.rail import ScriptedSettlement, moved

from micropaywall.core.book import PaymentRow
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Rejected, Settled, Unknown
from micropaywall.errors import Unavailable
from micropaywall.sandbox.token import SANDBOX_NETWORK
from micropaywall.settlement import carry
from micropaywall.settlement.settler import Settler

pytestmark = pytest.mark.anyio


class Bench:
    def __init__(self, **options: Any) -> None:
        self.owed = Owed()
        self.rail = ScriptedSettlement()
        self.heard = Heard()
        self.settler = Settler(
            self.owed.ledger,
            {("sandbox", SANDBOX_NETWORK): self.rail},
            clock=self.owed.clock,
            owner=OWNER,
            observer=self.heard,
            **options,
        )

    async def payment(self) -> PaymentRow:
        return await self.owed.served(mode="after")


async def test_the_rails_outcome_is_the_callers_to_record() -> None:
    bench = Bench()
    row = await bench.payment()
    assert await bench.settler.settle(row, ask_first=False) == moved(row)
    assert bench.rail.calls == [("settle", row.key)]
    assert await bench.owed.state(row) is PaymentState.SETTLING
    assert bench.settler.in_flight == 0


async def test_parallel_calls_for_one_payment_are_one_submission() -> None:
    bench = Bench()
    row = await bench.payment()
    outcomes = await asyncio.gather(*(bench.settler.settle(row, ask_first=bool(n % 2)) for n in range(50)))
    assert set(outcomes) == {moved(row)}
    assert bench.rail.made("settle") == 1


async def test_a_payment_that_was_submitted_before_is_asked_for_first() -> None:
    bench = Bench()
    row = await bench.payment()
    bench.rail.asks.append(moved)
    assert isinstance(await bench.settler.settle(row, ask_first=True), Settled)
    assert bench.rail.calls == [("status", row.key)]


async def test_what_the_network_has_not_is_submitted_after_asking() -> None:
    bench = Bench()
    row = await bench.payment()
    assert isinstance(await bench.settler.settle(row, ask_first=True), Settled)
    assert [name for name, _ in bench.rail.calls] == ["status", "settle"]


@pytest.mark.parametrize(
    "answer",
    [Unknown("no answer"), Unknown("waits", "0x1", "pending"), Rejected("spent"), Unavailable("away"), OSError("gone")],
)
async def test_without_the_networks_word_that_it_is_absent_nothing_is_submitted_again(answer: Any) -> None:
    bench = Bench()
    row = await bench.payment()
    bench.rail.asks.append(answer)
    outcome = await bench.settler.settle(row, ask_first=True)
    assert isinstance(outcome, Rejected if isinstance(answer, Rejected) else Unknown)
    assert bench.rail.made("settle") == 0


@pytest.mark.parametrize("error", [Unavailable("away"), OSError("reset"), RuntimeError("a defect"), ValueError("?")])
async def test_a_rail_that_raises_has_not_said_no(error: BaseException) -> None:
    bench = Bench()
    row = await bench.payment()
    bench.rail.settles.append(error)
    outcome = await bench.settler.settle(row, ask_first=False)
    assert isinstance(outcome, Unknown)
    assert outcome.doubt == "unanswered"


@pytest.mark.parametrize("answer", [[], ["yes"], [moved, moved], None])
async def test_an_answer_that_does_not_fit_is_no_verdict(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    row = await bench.payment()

    async def nonsense(_: object) -> Any:
        return answer

    monkeypatch.setattr(bench.rail, "settle", nonsense)
    assert isinstance(await bench.settler.settle(row, ask_first=False), Unknown)


async def test_a_payment_of_an_unknown_rail_has_no_verdict() -> None:
    bench = Bench()
    row = await bench.owed.served(mode="after")
    foreign = type(row)(**{name: getattr(row, name) for name in row.__dataclass_fields__} | {"rail": "gone"})
    assert isinstance(await bench.settler.settle(foreign, ask_first=False), Unknown)


async def test_after_the_timeout_the_call_goes_on_and_its_success_is_recorded() -> None:
    bench = Bench(timeout_s=0.02)
    bench.rail.gate = asyncio.Event()
    row = await bench.payment()
    outcome = await bench.settler.settle(row, ask_first=False)
    assert isinstance(outcome, Unknown)
    assert outcome.doubt == "in_flight"
    # A second presentation waits for the same call.
    assert isinstance(await bench.settler.settle(row, ask_first=True), Unknown)
    assert bench.rail.calls == [("settle", row.key)]
    bench.rail.gate.set()
    await bench.settler.drain()
    assert await bench.owed.state(row) is PaymentState.SETTLED
    assert bench.heard.names() == ["settled"]


async def test_a_late_rejection_is_recorded_too() -> None:
    bench = Bench(timeout_s=0.02)
    bench.rail.gate = asyncio.Event()
    bench.rail.settles.append(Rejected("spent"))
    row = await bench.payment()
    await bench.settler.settle(row, ask_first=False)
    bench.rail.gate.set()
    await bench.settler.drain()
    assert await bench.owed.state(row) is PaymentState.FAILED


async def test_a_caller_that_leaves_does_not_lose_the_result() -> None:
    bench = Bench()
    bench.rail.gate = asyncio.Event()
    row = await bench.payment()
    task = asyncio.create_task(bench.settler.settle(row, ask_first=False))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.rail.gate.set()
    await bench.settler.drain()
    assert await bench.owed.state(row) is PaymentState.SETTLED


async def test_a_call_is_given_up_before_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from micropaywall import limits

    assert limits.SETTLE_CALL_S < limits.SETTLE_LEASE_S
    monkeypatch.setattr(limits, "SETTLE_CALL_S", 0.05)
    bench = Bench(timeout_s=0.01)
    bench.rail.settles.append(30.0)
    row = await bench.payment()
    await bench.settler.settle(row, ask_first=False)
    await asyncio.wait_for(bench.settler.drain(), timeout=5)
    after = await bench.owed.row(row)
    assert (after.state, after.attempts) == (PaymentState.SETTLING, 1)


async def test_a_late_result_that_cannot_be_recorded_is_left_to_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(timeout_s=0.01)
    bench.rail.gate = asyncio.Event()
    row = await bench.payment()
    await bench.settler.settle(row, ask_first=False)

    async def away(_: object) -> Any:
        raise Unavailable("the store is away")

    monkeypatch.setattr(bench.owed.ledger, "apply", away)
    bench.rail.gate.set()
    await bench.settler.drain()
    assert await bench.owed.state(row) is PaymentState.SETTLING


async def test_drain_does_not_wait_for_ever() -> None:
    bench = Bench(timeout_s=0.01)
    bench.rail.settles.append(30.0)
    row = await bench.payment()
    await bench.settler.settle(row, ask_first=False)
    await asyncio.wait_for(bench.settler.drain(timeout_s=0.05), timeout=5)
    await asyncio.sleep(0.01)
    assert bench.settler.in_flight == 0


async def test_only_a_rail_that_wants_to_sees_the_request() -> None:
    bench = Bench()
    row = await bench.payment()
    await bench.settler.note_request(row.rail, row.network, row.key, [(b"sandbox-fault", b"late")])

    class Curious(ScriptedSettlement):
        async def note_request(self, key: Any, headers: Any) -> None:
            self.calls.append(("note", key))

    rail = Curious()
    settler = Settler(bench.owed.ledger, {("sandbox", SANDBOX_NETWORK): rail}, clock=bench.owed.clock, owner=OWNER)
    await settler.note_request(row.rail, row.network, row.key, [])
    await settler.note_request("other", row.network, row.key, [])
    assert rail.calls == [("note", row.key)]


def test_retries_back_off_to_a_bound_and_are_spread() -> None:
    waits = [carry.backoff_ms(attempts, 1.0) for attempts in range(12)]
    assert waits[:4] == [1_000, 2_000, 4_000, 8_000]
    assert waits == sorted(waits)
    assert waits[-1] == 60_000
    assert carry.backoff_ms(10_000, 1.0) == 60_000
    assert carry.backoff_ms(0, 0.0) == 500
