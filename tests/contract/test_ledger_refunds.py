"""Refunds: a state machine of their own, never more than was paid, and unused credit goes back by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.kit.ledgers import EXPIRY, NOW, SECOND, capture, end_settle, key_of, moved, new_id, refund, release, reserve

from micropaywall.core import book
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Rejected, Unknown
from micropaywall.errors import LedgerError
from micropaywall.ledger.port import Ledger

pytestmark = pytest.mark.anyio


async def paid(ledger: Ledger, name: str = "a", *, final: bool = False, **more: Any) -> Any:
    """Served and settled."""
    command = reserve(name, **more)
    applied = await ledger.apply(command)
    await ledger.apply(capture(applied, amount=command.charge_amount, begin_settle=True))
    await ledger.apply(end_settle(applied, moved(final=final)))
    return applied


async def row(ledger: Ledger, name: str = "a") -> book.PaymentRow:
    found = await ledger.payment(key_of(name))
    assert found is not None
    return found


def end_refund(command: book.BeginRefund, outcome: Any = None, **more: Any) -> book.EndRefund:
    facts: dict[str, Any] = {
        "refund_id": command.refund_id,
        "owner": command.owner,
        "now_ms": NOW,
        "outcome": outcome or moved(command.amount, transaction="0xback"),
    }
    return book.EndRefund(**{**facts, **more})


@pytest.mark.parametrize("final", [True, False])
async def test_a_whole_refund_gives_the_charge_back(ledger: Ledger, final: bool) -> None:
    applied = await paid(ledger, final=final)
    command = refund(applied, 1000)
    begun = await ledger.apply(command)
    assert begun == book.Applied(applied.payment_id, None, PaymentState.REFUND_DUE)
    done = await ledger.apply(end_refund(command))
    assert done == book.Applied(applied.payment_id, None, PaymentState.REFUNDED)
    found = await row(ledger)
    assert (found.refunded, found.drawn) == (1000, 0)
    (charge,) = await ledger.charges(applied.payment_id)
    assert charge.state is ChargeState.RETURNED
    (kept,) = await ledger.refunds(applied.payment_id)
    assert (kept.state, kept.transaction, kept.amount, kept.reason) == ("paid", "0xback", 1000, "asked for")
    assert (kept.payer, kept.payee, kept.rail, kept.network) == (found.payer, found.payee, found.rail, found.network)
    assert await ledger.apply(reserve()) == book.Spent(PaymentState.REFUNDED)


async def test_a_part_goes_back_and_the_rest_stays_income(ledger: Ledger) -> None:
    applied = await paid(ledger)
    command = refund(applied, 400)
    await ledger.apply(command)
    done = await ledger.apply(end_refund(command))
    assert done == book.Applied(applied.payment_id, None, PaymentState.FINAL)
    found = await row(ledger)
    assert (found.refunded, found.drawn) == (400, 600)
    (charge,) = await ledger.charges(applied.payment_id)
    assert (charge.state, charge.amount) == (ChargeState.CAPTURED, 600)
    assert isinstance(await ledger.apply(reserve()), book.Replayed)


async def test_refunds_never_add_up_to_more_than_was_paid(ledger: Ledger) -> None:
    """Attack (or a double click): two refunds of the whole."""
    applied = await paid(ledger)
    assert await ledger.apply(refund(applied, 1001)) == book.Denied("refund")
    assert await ledger.apply(refund(applied, 0)) == book.Denied("refund")
    first = refund(applied, 700)
    await ledger.apply(first)
    assert await ledger.apply(refund(applied, 1)) == book.Lost(PaymentState.REFUND_DUE)
    await ledger.apply(end_refund(first))
    assert await ledger.apply(refund(applied, 301)) == book.Denied("refund")
    last = refund(applied, 300)
    await ledger.apply(last)
    assert await ledger.apply(end_refund(last)) == book.Applied(applied.payment_id, None, PaymentState.REFUNDED)


async def test_the_same_refund_twice_is_one_refund(ledger: Ledger) -> None:
    """The operator's command timed out and is given again with the id it had."""
    applied = await paid(ledger)
    command = refund(applied, 400)
    first = await ledger.apply(command)
    assert await ledger.apply(command) == first
    await ledger.apply(end_refund(command))
    assert isinstance(await ledger.apply(end_refund(command)), book.Applied)
    assert isinstance(await ledger.apply(command), book.Applied)
    assert (await row(ledger)).refunded == 400
    assert len(await ledger.refunds(applied.payment_id)) == 1


async def test_the_same_refund_id_with_another_amount_or_payment_is_refused(ledger: Ledger) -> None:
    applied, other = await paid(ledger, "a"), await paid(ledger, "b")
    command = refund(applied, 400)
    await ledger.apply(command)
    assert await ledger.apply(dataclasses.replace(command, amount=401)) == book.Foreign("amount")
    wrong = dataclasses.replace(command, payment_id=other.payment_id)
    assert await ledger.apply(wrong) == book.Foreign("payment_id")
    assert (await row(ledger, "b")).state is PaymentState.SETTLED


async def test_only_what_has_settled_is_refunded(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    assert await ledger.apply(refund(applied, 1)) == book.Lost(PaymentState.HELD)
    await ledger.apply(capture(applied, begin_settle=True))
    assert await ledger.apply(refund(applied, 1)) == book.Lost(PaymentState.SETTLING)
    with pytest.raises(LedgerError):
        await ledger.apply(refund(book.Applied(new_id()), 1))


async def test_what_is_being_served_is_not_refunded(ledger: Ledger) -> None:
    """Attack: ask for the money back while the answer is on its way."""
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    assert await ledger.apply(refund(applied, 1)) == book.Denied("refund")
    await ledger.apply(capture(applied))
    assert isinstance(await ledger.apply(refund(applied, 1)), book.Applied)


async def test_nothing_is_drawn_while_a_refund_is_due(ledger: Ledger) -> None:
    """Attack: spend the credit that is on its way back."""
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.apply(release(applied))
    await ledger.apply(refund(applied, 1000))
    assert await ledger.apply(reserve(mode="before")) == book.Spent(PaymentState.REFUND_DUE)


async def test_an_unknown_refund_is_asked_for_and_never_cancelled(ledger: Ledger) -> None:
    """Unknown is not failed: a refund that may have been paid is not given up, nor paid under another id."""
    applied = await paid(ledger)
    command = refund(applied, 400)
    await ledger.apply(command)
    cancel = book.CancelRefund(refund_id=command.refund_id, now_ms=NOW)
    assert await ledger.apply(cancel) == book.Lost(PaymentState.REFUND_DUE)
    await ledger.apply(end_refund(command, Unknown("reset"), retry_ms=NOW + 9))
    assert await ledger.apply(cancel) == book.Lost(PaymentState.REFUND_DUE)
    work = await ledger.lease_work(owner="w2", now_ms=NOW + 9, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [(r.id, r.state) for r in work.refunds] == [(command.refund_id, "submitted")]
    await ledger.apply(end_refund(command, owner="w2"))
    assert (await row(ledger)).refunded == 400


async def test_a_late_success_of_a_refund_counts(ledger: Ledger) -> None:
    applied = await paid(ledger)
    command = refund(applied, 400)
    await ledger.apply(command)
    await ledger.lease_work(owner="w2", now_ms=NOW + 60 * SECOND, lease_until_ms=NOW + 120 * SECOND, limit=9)
    late = end_refund(command, Rejected("low"), owner="w1")
    assert await ledger.apply(late) == book.Lost(PaymentState.REFUND_DUE)
    assert isinstance(await ledger.apply(end_refund(command, owner="w1")), book.Applied)
    assert (await row(ledger)).refunded == 400


async def test_a_rejected_refund_is_tried_again_or_cancelled(ledger: Ledger) -> None:
    applied = await paid(ledger)
    command = refund(applied, 400)
    await ledger.apply(command)
    await ledger.apply(end_refund(command, Rejected("low on funds"), retry_ms=NOW + 9))
    (kept,) = await ledger.refunds(applied.payment_id)
    assert kept.state == "due"
    await ledger.lease_work(owner="w2", now_ms=NOW + 9, lease_until_ms=NOW + 60 * SECOND, limit=9)
    done = await ledger.apply(end_refund(command, Rejected("never"), owner="w2", retry_ms=None))
    assert done == book.Applied(applied.payment_id, None, PaymentState.FINAL)
    (kept,) = await ledger.refunds(applied.payment_id)
    assert kept.state == "cancelled"
    assert await ledger.apply(end_refund(command)) == book.Lost(PaymentState.FINAL)
    assert (await row(ledger)).refunded == 0


async def test_a_decided_refund_that_nobody_has_submitted_can_be_cancelled(ledger: Ledger) -> None:
    applied = await paid(ledger)
    command = refund(applied, 400, lease_until_ms=0)
    await ledger.apply(command)
    cancel = book.CancelRefund(refund_id=command.refund_id, now_ms=NOW, reason="a mistake")
    for _ in range(2):
        assert await ledger.apply(cancel) == book.Applied(applied.payment_id, None, PaymentState.FINAL)
    (kept,) = await ledger.refunds(applied.payment_id)
    assert (kept.state, kept.reason) == ("cancelled", "a mistake")
    assert isinstance(await ledger.apply(refund(applied, 1000)), book.Applied)


async def test_the_rail_must_move_the_amount_of_the_refund(ledger: Ledger) -> None:
    applied = await paid(ledger)
    command = refund(applied, 400)
    await ledger.apply(command)
    with pytest.raises(LedgerError):
        await ledger.apply(end_refund(command, moved(399)))
    (kept,) = await ledger.refunds(applied.payment_id)
    assert kept.state == "submitted"


async def test_income_is_given_back_from_the_newest_charge_on(ledger: Ledger) -> None:
    first = await ledger.apply(reserve("acct", request="", charge_amount=300))
    second = await ledger.apply(reserve("acct", request="", charge_amount=500))
    await ledger.apply(capture(first, amount=300))
    await ledger.apply(capture(second, amount=500, begin_settle=True))
    await ledger.apply(end_settle(first))
    command = refund(first, 750)  # 200 unused, the 500 of the second, 50 of the first
    await ledger.apply(command)
    await ledger.apply(end_refund(command))
    charges = await ledger.charges(first.payment_id)
    assert [(c.state, c.amount) for c in charges] == [(ChargeState.CAPTURED, 250), (ChargeState.RETURNED, 500)]
    found = await row(ledger, "acct")
    assert (found.drawn, found.refunded) == (250, 750)


# -- unused credit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [0, 300])
async def test_unused_credit_goes_back_when_it_can_no_longer_be_drawn(ledger: Ledger, used: int) -> None:
    """`before`: the money moved, the handler then failed or took less. Nobody has to ask for it."""
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied, moved(final=True)))
    await ledger.apply(capture(applied, amount=used) if used else release(applied))
    early = await ledger.lease_work(owner="w1", now_ms=EXPIRY - 1, lease_until_ms=EXPIRY, limit=9)
    assert early.refunds == []
    work = await ledger.lease_work(owner="w1", now_ms=EXPIRY, lease_until_ms=EXPIRY + 60 * SECOND, limit=9)
    (back,) = work.refunds
    assert (back.amount, back.payment_id, back.reason) == (1000 - used, applied.payment_id, "unused credit")
    done = await ledger.apply(book.EndRefund(refund_id=back.id, owner="w1", now_ms=EXPIRY, outcome=moved(1000 - used)))
    state = PaymentState.FINAL if used else PaymentState.REFUNDED
    assert done == book.Applied(applied.payment_id, None, state)
    later = await ledger.lease_work(owner="w1", now_ms=2 * EXPIRY, lease_until_ms=3 * EXPIRY, limit=9)
    assert (later.refunds, later.settle, later.ask) == ([], [], [])


async def test_credit_is_not_given_back_while_some_of_it_is_being_served(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True, charge_amount=600))
    await ledger.apply(end_settle(applied))
    work = await ledger.lease_work(owner="w1", now_ms=EXPIRY, lease_until_ms=EXPIRY + 1, limit=0)
    assert work.refunds == []
    longer = book.Extend(charge_id=applied.charge_id, owner="w1", now_ms=NOW, lease_until_ms=2 * EXPIRY)
    await ledger.apply(longer)
    work = await ledger.lease_work(owner="w1", now_ms=EXPIRY, lease_until_ms=EXPIRY + 1, limit=9)
    assert work.refunds == []
    await ledger.apply(capture(applied, amount=600, at=EXPIRY + 5))
    work = await ledger.lease_work(owner="w1", now_ms=EXPIRY + 5, lease_until_ms=2 * EXPIRY, limit=9)
    assert [r.amount for r in work.refunds] == [400]


async def test_a_cancelled_return_of_credit_is_not_decided_again(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied, moved(final=True)))
    await ledger.apply(release(applied))
    work = await ledger.lease_work(owner="w1", now_ms=EXPIRY, lease_until_ms=EXPIRY + SECOND, limit=9)
    (back,) = work.refunds
    await ledger.apply(book.EndRefund(refund_id=back.id, owner="w1", now_ms=EXPIRY, outcome=Rejected("closed")))
    work = await ledger.lease_work(owner="w1", now_ms=2 * EXPIRY, lease_until_ms=3 * EXPIRY, limit=9)
    assert work.refunds == []
    assert (await row(ledger)).state is PaymentState.FINAL
