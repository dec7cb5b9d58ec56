"""What every Settlement promises, on each implementation: a sandbox file, a sandbox over HTTP, later a chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.settlement_rigs import RIGS, Rig
from tests.kit.chain import START_S, new_row_id, refund_of

from micropaywall.core.model import Outcome, Rejected, Settled, Unknown

pytestmark = pytest.mark.anyio

NONCE_USED = {"invalid_exact_evm_nonce_already_used"}
BALANCE = {"invalid_exact_evm_insufficient_balance", "insufficient_funds"}
EXPIRED = {"invalid_exact_evm_payload_authorization_valid_before"}


@pytest.fixture(params=RIGS, ids=lambda name: name.replace(" ", "-"))
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with RIGS[request.param](tmp_path) as rig:
        yield rig


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected), outcome
    return outcome.code


async def settle(rig: Rig, *rows: Any) -> list[Outcome]:
    return await rig.settlement.settle(rows)


async def test_a_payment_settles_with_its_transaction(rig: Rig) -> None:
    row = rig.pay(1_000)
    (outcome,) = await settle(rig, row)
    assert isinstance(outcome, Settled)
    assert outcome.transaction.startswith("0x")
    assert len(outcome.transaction) == 66
    assert outcome.amount_atomic == 1_000
    assert outcome.block is not None
    assert rig.received() == 1_000


async def test_a_repeated_submission_moves_nothing_and_has_the_same_transaction(rig: Rig) -> None:
    row = rig.pay(1_000)
    (first,) = await settle(rig, row)
    again = await asyncio.gather(*(settle(rig, row) for _ in range(10)))
    assert isinstance(first, Settled)
    assert {one.transaction for (one,) in again if isinstance(one, Settled)} == {first.transaction}
    assert len(again) == 10
    assert rig.received() == 1_000


async def test_fifty_parallel_submissions_move_once(rig: Rig) -> None:
    row = rig.pay(1_000)
    outcomes = await asyncio.gather(*(settle(rig, row) for _ in range(50)))
    assert len({one.transaction for (one,) in outcomes if isinstance(one, Settled)}) == 1
    assert rig.received() == 1_000


async def test_parallel_payments_all_settle(rig: Rig) -> None:
    rows = [rig.pay(value) for value in range(1, 41)]
    outcomes = await asyncio.gather(*(settle(rig, row) for row in rows))
    transactions = {one.transaction for (one,) in outcomes if isinstance(one, Settled)}
    assert len(transactions) == 40
    assert rig.received() == sum(range(1, 41))


async def test_one_bad_payment_of_a_batch_fails_alone(rig: Rig) -> None:
    good, poor, late, more = rig.pay(1), rig.pay_poor(2), rig.pay(4, valid_before=START_S - 1), rig.pay(8)
    outcomes = await settle(rig, good, poor, late, more)
    assert isinstance(outcomes[0], Settled)
    assert code(outcomes[1]) in BALANCE
    assert code(outcomes[2]) in EXPIRED
    assert isinstance(outcomes[3], Settled)
    assert rig.received() == 9


async def test_nothing_is_asked_for_nothing(rig: Rig) -> None:
    assert await settle(rig) == []
    assert await rig.settlement.status([]) == []


async def test_a_nonce_that_paid_for_something_else_is_rejected(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    other = rig.again(row, value=999)
    assert code((await settle(rig, other))[0]) in NONCE_USED
    assert code((await rig.settlement.status([other]))[0]) in NONCE_USED
    assert rig.received() == 1_000


async def test_a_cancelled_authorization_is_rejected(rig: Rig) -> None:
    row = rig.pay(1_000)
    rig.cancel(row)
    assert code((await rig.settlement.status([row]))[0]) in NONCE_USED
    assert code((await settle(rig, row))[0]) in NONCE_USED
    assert rig.received() == 0


async def test_status_tells_what_settled_and_submits_nothing(rig: Rig) -> None:
    row, never = rig.pay(1_000), rig.pay(1_000)
    (outcome,) = await settle(rig, row)
    asked, absent = await rig.settlement.status([row, never])
    assert isinstance(asked, Settled)
    assert isinstance(outcome, Settled)
    assert asked.transaction == outcome.transaction
    assert isinstance(absent, Unknown)
    assert absent.doubt == "absent"
    assert rig.received() == 1_000


async def test_what_expired_unused_is_rejected_when_asked(rig: Rig) -> None:
    row = rig.pay(1_000)
    rig.pass_time(301)
    assert code((await rig.settlement.status([row]))[0]) in EXPIRED


async def test_what_settled_before_it_expired_stays_settled(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    rig.pass_time(301)
    for outcomes in (await rig.settlement.status([row]), await settle(rig, row)):
        assert isinstance(outcomes[0], Settled)


async def test_an_authorization_that_is_not_valid_yet_is_no_verdict(rig: Rig) -> None:
    row = rig.pay(1_000, valid_after=START_S + 10)
    (outcome,) = await settle(rig, row)
    assert isinstance(outcome, Unknown)
    assert outcome.doubt == "absent"
    rig.pass_time(12)
    assert isinstance((await settle(rig, row))[0], Settled)


async def test_a_settlement_becomes_final_with_depth(rig: Rig) -> None:
    row = rig.pay(1_000)
    (outcome,) = await settle(rig, row)
    assert isinstance(outcome, Settled)
    assert not outcome.final
    rig.mine(rig.finality_depth)
    (later,) = await rig.settlement.status([row])
    assert isinstance(later, Settled)
    assert later.final


async def test_a_reorganised_settlement_is_absent_and_settles_again(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    rig.reorganise(1)
    (gone,) = await rig.settlement.status([row])
    assert isinstance(gone, Unknown)
    assert gone.doubt == "absent"
    assert rig.received() == 0
    assert isinstance((await settle(rig, row))[0], Settled)
    assert rig.received() == 1_000


async def test_a_row_that_does_not_fit_its_instruction_is_rejected(rig: Rig) -> None:
    row = rig.pay(1_000)
    changed = [
        {"amount": 999},
        {"payee": row.payer},
        {"payer": row.payee},
        {"instruction": b"{}"},
        {"instruction": b""},
    ]
    rows = [type(row)(**{name: getattr(row, name) for name in row.__dataclass_fields__} | one) for one in changed]
    outcomes = await settle(rig, *rows, row)
    assert all(isinstance(one, Rejected) for one in outcomes[:-1])
    assert isinstance(outcomes[-1], Settled)
    assert rig.received() == 1_000


async def test_a_refund_is_paid_once(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    refund = refund_of(row, 400)
    first = await rig.settlement.refund(refund)
    again = await asyncio.gather(*(rig.settlement.refund(refund) for _ in range(5)))
    assert isinstance(first, Settled)
    assert first.amount_atomic == 400
    assert {one.transaction for one in again if isinstance(one, Settled)} == {first.transaction}
    assert rig.received() == 600
    assert isinstance(await rig.settlement.refund(refund_of(row, 100, refund_id=new_row_id())), Settled)
    assert rig.received() == 500


async def test_a_refund_without_money_is_rejected(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    assert code(await rig.settlement.refund(refund_of(row, 10**12))) in BALANCE


async def test_a_cancelled_caller_leaves_the_others_alone(rig: Rig) -> None:
    rows = [rig.pay(value) for value in (1, 2, 4)]
    tasks = [asyncio.create_task(settle(rig, row)) for row in rows]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0][0], Settled)  # type: ignore[index]
    assert isinstance(results[1], asyncio.CancelledError)
    assert isinstance(results[2][0], Settled)  # type: ignore[index]


async def test_what_comes_after_close_gets_no_verdict(rig: Rig) -> None:
    row = rig.pay(1_000)
    await settle(rig, row)
    await rig.settlement.close()
    await rig.settlement.close()
    for outcomes in (await settle(rig, rig.again(row)), await rig.settlement.status([row])):
        assert isinstance(outcomes[0], Unknown)
        assert outcomes[0].doubt == "unanswered"
