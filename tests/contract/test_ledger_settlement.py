"""Settlement: who may submit, what an outcome changes, and that money facts win over leases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.kit.ledgers import NOW, SECOND, capture, end_settle, key_of, moved, new_id, release, reserve

from micropaywall.core import book
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Rejected, Unknown
from micropaywall.errors import LedgerError
from micropaywall.ledger.port import Ledger

pytestmark = pytest.mark.anyio


def begin(applied: Any, owner: str = "w1", *, at: int = NOW) -> book.BeginSettle:
    return book.BeginSettle(payment_id=applied.payment_id, owner=owner, now_ms=at, lease_until_ms=at + 60 * SECOND)


async def row(ledger: Ledger, name: str = "a") -> book.PaymentRow:
    found = await ledger.payment(key_of(name))
    assert found is not None
    return found


async def submitted(ledger: Ledger, name: str = "a", **more: Any) -> Any:
    applied = await ledger.apply(reserve(name, **more))
    await ledger.apply(capture(applied, begin_settle=True))
    return applied


async def test_one_at_a_time_has_the_right_to_submit(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied))
    answers = await asyncio.gather(*(ledger.apply(begin(applied, f"w{n}")) for n in range(10)))
    assert [type(a) for a in answers].count(book.Applied) == 1
    assert answers.count(book.Lost(PaymentState.SETTLING)) == 9
    assert isinstance(await ledger.apply(begin(applied, "w77", at=NOW + 60 * SECOND)), book.Applied)


async def test_the_holder_may_take_its_lease_again(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    assert isinstance(await ledger.apply(begin(applied, "w1")), book.Applied)


@pytest.mark.parametrize("outcome", [moved(), moved(final=True)])
async def test_a_settled_payment_needs_no_submission(ledger: Ledger, outcome: Any) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied, outcome))
    state = PaymentState.FINAL if outcome.final else PaymentState.SETTLED
    assert await ledger.apply(begin(applied)) == book.Lost(state)


async def test_a_settled_payment_says_where_its_money_is(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    answer = await ledger.apply(end_settle(applied, at=NOW + 5))
    assert answer == book.Applied(applied.payment_id, None, PaymentState.SETTLED)
    found = await row(ledger)
    assert (found.state, found.transaction, found.block, found.settled_ms) == (
        PaymentState.SETTLED,
        "0xfeed",
        7,
        NOW + 5,
    )


async def test_the_same_outcome_twice_has_the_effect_of_one(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    for _ in range(2):
        assert isinstance(await ledger.apply(end_settle(applied)), book.Applied)
    for _ in range(2):
        final = await ledger.apply(end_settle(applied, moved(final=True)))
        assert final == book.Applied(applied.payment_id, None, PaymentState.FINAL)
    assert (await row(ledger)).settled_ms == NOW


async def test_an_unknown_outcome_stays_settling_and_is_counted(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied, Unknown("reset", transaction="0xabc"), retry_ms=NOW + 9))
    found = await row(ledger)
    assert (found.state, found.attempts, found.transaction) == (PaymentState.SETTLING, 1, "0xabc")


async def test_a_success_that_comes_after_the_lease_was_lost_still_counts(ledger: Ledger) -> None:
    """The transfer went through; who holds the lease now does not change that the buyer has paid."""
    applied = await submitted(ledger)
    await ledger.apply(begin(applied, "w2", at=NOW + 60 * SECOND))
    late = await ledger.apply(end_settle(applied, owner="w1", at=NOW + 61 * SECOND))
    assert late == book.Applied(applied.payment_id, None, PaymentState.SETTLED)
    done = await ledger.apply(end_settle(applied, owner="w2", at=NOW + 62 * SECOND))
    assert done == book.Applied(applied.payment_id, None, PaymentState.SETTLED)
    assert (await row(ledger)).settled_ms == NOW + 61 * SECOND


@pytest.mark.parametrize("outcome", [Rejected("nonce_already_used"), Unknown("reset")])
async def test_a_refusal_counts_only_from_the_holder_of_the_lease(ledger: Ledger, outcome: Any) -> None:
    """The first submission moved the money, the second is told `nonce used`: that must not fail the payment."""
    applied = await submitted(ledger)
    await ledger.apply(begin(applied, "w2", at=NOW + 60 * SECOND))
    late = end_settle(applied, outcome, owner="w1", at=NOW + 61 * SECOND)
    assert await ledger.apply(late) == book.Lost(PaymentState.SETTLING)
    assert (await row(ledger)).attempts == 0
    assert await ledger.apply(begin(applied, "w3", at=NOW + 61 * SECOND)) == book.Lost(PaymentState.SETTLING)


@pytest.mark.parametrize("outcome", [Rejected("nonce_already_used"), Unknown("reset")])
async def test_what_has_settled_cannot_fail_afterwards(ledger: Ledger, outcome: Any) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied))
    assert await ledger.apply(end_settle(applied, outcome)) == book.Lost(PaymentState.SETTLED)
    assert (await row(ledger)).state is PaymentState.SETTLED


async def test_what_has_failed_stays_failed(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert await ledger.apply(end_settle(applied)) == book.Lost(PaymentState.FAILED)
    assert await ledger.apply(begin(applied)) == book.Lost(PaymentState.FAILED)
    assert await ledger.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=NOW)) == book.Lost(
        PaymentState.FAILED
    )


async def test_another_amount_than_the_payment_s_is_not_taken_for_its_settlement(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    with pytest.raises(LedgerError):
        await ledger.apply(end_settle(applied, moved(999)))
    assert (await row(ledger)).state is PaymentState.SETTLING


async def test_an_outcome_of_what_was_never_submitted_is_an_error_of_the_program(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    with pytest.raises(LedgerError):
        await ledger.apply(end_settle(applied))
    with pytest.raises(LedgerError):
        await ledger.apply(end_settle(book.Applied(new_id())))


# -- delivered before it was paid -------------------------------------------------------------------------------------


async def delivered_and_rejected(ledger: Ledger) -> Any:
    applied = await ledger.apply(reserve(mode="deferred"))
    await ledger.apply(capture(applied, settle_due_ms=NOW))
    leased = await ledger.lease_work(owner="w1", now_ms=NOW, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [p.id for p in leased.settle] == [applied.payment_id]
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    return applied


async def test_a_deferred_payment_that_never_moves_is_a_loss_and_suspends_the_payer(ledger: Ledger) -> None:
    applied = await delivered_and_rejected(ledger)
    (charge,) = await ledger.charges(applied.payment_id)
    assert charge.state is ChargeState.CAPTURED
    assert (await row(ledger)).state is PaymentState.FAILED
    assert await ledger.apply(reserve("b")) == book.Denied("suspended")


async def test_a_pardoned_payer_may_buy_again(ledger: Ledger) -> None:
    applied = await delivered_and_rejected(ledger)
    del applied
    command = reserve("b")
    assert await ledger.pardon(command.payer, command.asset)
    assert not await ledger.pardon(command.payer, command.asset)
    assert isinstance(await ledger.apply(command), book.Applied)


# -- reorganisations --------------------------------------------------------------------------------------------------


async def test_a_reorganised_payment_is_settling_again_and_due_at_once(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied))
    command = book.Reorganise(payment_id=applied.payment_id, now_ms=NOW + 9)
    for _ in range(2):
        answer = await ledger.apply(command)
        assert answer == book.Applied(applied.payment_id, None, PaymentState.SETTLING)
    leased = await ledger.lease_work(owner="w2", now_ms=NOW + 9, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [p.transaction for p in leased.ask] == ["0xfeed"]
    await ledger.apply(end_settle(applied, moved(final=True), owner="w2"))
    assert (await row(ledger)).state is PaymentState.FINAL


async def test_a_final_payment_is_not_reorganised(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied, moved(final=True)))
    lost = await ledger.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=NOW))
    assert lost == book.Lost(PaymentState.FINAL)


async def test_a_payment_that_was_never_settled_is_not_reorganised(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    lost = await ledger.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=NOW))
    assert lost == book.Lost(PaymentState.SETTLING)


async def test_what_was_delivered_and_reorganised_away_for_good_is_a_loss(ledger: Ledger) -> None:
    """Attack: pay, take the goods, have the block replaced, spend the money elsewhere."""
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied))
    await ledger.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=NOW))
    await ledger.lease_work(owner="w1", now_ms=NOW, lease_until_ms=NOW + 60 * SECOND, limit=9)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    (charge,) = await ledger.charges(applied.payment_id)
    assert charge.state is ChargeState.CAPTURED
    assert await ledger.apply(reserve("b")) == book.Denied("suspended")


async def test_a_reorganised_deferred_payment_is_exposure_again(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="deferred"))
    await ledger.apply(capture(applied, settle_due_ms=NOW))
    await ledger.lease_work(owner="w1", now_ms=NOW, lease_until_ms=NOW + 60 * SECOND, limit=9)
    await ledger.apply(end_settle(applied))
    await ledger.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=NOW))
    assert await ledger.apply(reserve("b", mode="deferred", exposure_cap=1999)) == book.Denied("exposure")
    assert isinstance(await ledger.apply(reserve("b", mode="deferred", exposure_cap=2000)), book.Applied)


# -- what the background is given -------------------------------------------------------------------------------------


async def test_work_is_leased_to_one_and_comes_back_when_its_lease_is_over(ledger: Ledger) -> None:
    for name in "abc":
        applied = await ledger.apply(reserve(name, mode="deferred"))
        await ledger.apply(capture(applied, settle_due_ms=NOW + 5))

    async def lease(owner: str, at: int, limit: int = 99) -> book.Work:
        return await ledger.lease_work(owner=owner, now_ms=at, lease_until_ms=at + 60 * SECOND, limit=limit)

    assert (await lease("w1", NOW + 4)).settle == []
    first = await lease("w1", NOW + 5, limit=2)
    rest = await lease("w2", NOW + 5)
    assert (len(first.settle), len(rest.settle)) == (2, 1)
    assert all(p.state is PaymentState.SETTLING for p in [*first.settle, *rest.settle])
    assert (await lease("w3", NOW + 60 * SECOND)).ask == []
    again = await lease("w3", NOW + 5 + 60 * SECOND)
    assert len(again.ask) == 3
    assert again.settle == []


async def test_an_unknown_outcome_is_asked_for_when_it_is_due(ledger: Ledger) -> None:
    applied = await submitted(ledger)
    await ledger.apply(end_settle(applied, Unknown("reset"), retry_ms=NOW + 9))
    early = await ledger.lease_work(owner="w2", now_ms=NOW + 8, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert early.ask == []
    due = await ledger.lease_work(owner="w2", now_ms=NOW + 9, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [p.id for p in due.ask] == [applied.payment_id]


async def test_a_submission_whose_worker_died_is_asked_for(ledger: Ledger) -> None:
    """kill -9 between capture and the rail's answer: the outcome is unknown, and the background finds out."""
    applied = await submitted(ledger)
    work = await ledger.lease_work(owner="w2", now_ms=NOW + 60 * SECOND, lease_until_ms=NOW + 120 * SECOND, limit=9)
    assert [p.id for p in work.ask] == [applied.payment_id]


async def test_what_was_captured_and_not_submitted_is_settled_by_the_background(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied))
    work = await ledger.lease_work(owner="w2", now_ms=NOW, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [p.id for p in work.settle] == [applied.payment_id]


async def test_settled_payments_are_confirmed_in_turn(ledger: Ledger) -> None:
    for index, name in enumerate("abc"):
        await ledger.apply(end_settle(await submitted(ledger, name), at=NOW + index))
    await ledger.apply(release(await ledger.apply(reserve("never"))))

    async def look(at: int) -> list[bytes]:
        return [p.key for p in await ledger.unconfirmed(now_ms=at, limit=2)]

    assert await look(NOW + 10) == [key_of("a"), key_of("b")]
    assert await look(NOW + 11) == [key_of("c"), key_of("a")]
    b = await row(ledger, "b")
    await ledger.apply(end_settle(book.Applied(b.id), moved(final=True)))
    assert await look(NOW + 12) == [key_of("a"), key_of("c")]
