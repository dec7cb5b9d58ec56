"""Reserve: what a replay key buys, once, and how a second presentation of it is told from an attack."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from tests.kit.ledgers import (
    EXPIRY,
    LEASE,
    NOW,
    RESPONSE,
    SECOND,
    USDC,
    capture,
    end_settle,
    key_of,
    new_id,
    release,
    reserve,
)

from micropaywall.core import book
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Rejected, Unknown
from micropaywall.errors import LedgerError
from micropaywall.ledger.port import Ledger

pytestmark = pytest.mark.anyio


async def served(ledger: Ledger, name: str = "a", **more: Any) -> book.Applied:
    """A payment that was reserved and captured in the way of its mode, and not settled yet."""
    command = reserve(name, **more)
    applied = await ledger.apply(command)
    assert isinstance(applied, book.Applied)
    later = {"begin_settle": True} if command.mode == "after" else {"settle_due_ms": NOW + 5 * SECOND}
    done = await ledger.apply(capture(applied, amount=command.charge_amount, **later))
    assert isinstance(done, book.Applied)
    return applied


async def states(ledger: Ledger, applied: Any) -> list[ChargeState]:
    return [charge.state for charge in await ledger.charges(applied.payment_id)]


async def test_a_new_payment_is_known_with_everything_that_was_verified(ledger: Ledger) -> None:
    command = reserve(agent="agent-7")
    answer = await ledger.apply(command)
    assert answer == book.Applied(command.payment_id, command.charge_id, PaymentState.HELD)
    row = await ledger.payment(command.key)
    assert row is not None
    for field in ("key", "rail", "network", "asset", "payer", "payee", "amount", "mode", "dialect", "binding"):
        assert getattr(row, field) == getattr(command, field), field
    assert (row.id, row.instruction, row.valid_before_ms) == (command.payment_id, command.instruction, EXPIRY)
    assert (row.drawn, row.refunded, row.created_ms, row.attempts) == (1000, 0, NOW, 0)
    (charge,) = await ledger.charges(row.id)
    assert (charge.id, charge.state, charge.amount, charge.agent) == (
        command.charge_id,
        ChargeState.RESERVED,
        1000,
        "agent-7",
    )
    assert (charge.endpoint, charge.url, charge.lease_until_ms) == (command.endpoint, command.url, NOW + LEASE)


async def test_a_payment_is_found_by_its_public_id(ledger: Ledger) -> None:
    await ledger.apply(reserve("a"))
    await ledger.apply(reserve("b"))
    row = await ledger.payment(key_of("b")[:20])
    assert row is not None
    assert row.key == key_of("b")
    assert await ledger.payment(key_of("c")[:20]) is None
    assert await ledger.payment(key_of("c")) is None


async def test_many_presentations_at_once_are_one_charge(ledger: Ledger) -> None:
    """Attack: one credential, sent as often as the network takes it, hoping that two requests pass the check together."""
    answers = await asyncio.gather(*(ledger.apply(reserve()) for _ in range(250)))
    assert [type(answer) for answer in answers].count(book.Applied) == 1
    assert [type(answer) for answer in answers].count(book.Busy) == 249
    (charge,) = await ledger.charges(next(a.payment_id for a in answers if isinstance(a, book.Applied)))
    assert charge.state is ChargeState.RESERVED


async def test_the_same_command_twice_has_the_effect_of_one(ledger: Ledger) -> None:
    command = reserve()
    first = await ledger.apply(command)
    assert await ledger.apply(command) == first
    assert len(await ledger.charges(first.payment_id)) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rail", "other"),
        ("network", "eip155:8453"),
        ("asset", "eip155:8453/erc20:0x00"),
        ("payer", "0x" + "cc" * 20),
        ("payee", "0x" + "dd" * 20),
        ("amount", 1001),
        ("instruction", b"signed again"),
        ("binding", b"\x07" * 32),
    ],
)
async def test_a_known_key_with_other_contents_is_foreign(ledger: Ledger, field: str, value: object) -> None:
    """Attack: a second authorization with the nonce of the first, for more, to somebody else, or for another resource."""
    applied = await ledger.apply(reserve())
    again = dataclasses.replace(reserve(), **{field: value})
    assert await ledger.apply(again) == book.Foreign(field)
    await ledger.apply(release(applied))
    assert await ledger.apply(again) == book.Foreign(field)
    row = await ledger.payment(key_of("a"))
    assert row is not None
    assert row.drawn == 0


async def test_another_request_while_the_first_is_served_is_foreign(ledger: Ledger) -> None:
    """Attack: one payment, two bodies: the price of one search, the results of two."""
    await ledger.apply(reserve(body="one"))
    assert await ledger.apply(reserve(body="two")) == book.Foreign("fingerprint")


async def test_another_request_after_the_first_was_served_is_foreign(ledger: Ledger) -> None:
    """Attack: as above, once the first answer has come."""
    applied = await served(ledger, body="one")
    await ledger.apply(end_settle(applied))
    assert await ledger.apply(reserve(body="two")) == book.Foreign("fingerprint")


async def test_after_a_release_the_payment_may_be_drawn_again_with_another_body(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(body="misspelt"))
    await ledger.apply(release(applied))
    again = await ledger.apply(reserve(body="right"))
    assert isinstance(again, book.Applied)
    assert again.payment_id == applied.payment_id
    assert again.charge_id != applied.charge_id
    assert await states(ledger, again) == [ChargeState.RELEASED, ChargeState.RESERVED]


async def test_a_retry_is_busy_while_the_first_is_served(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    assert await ledger.apply(reserve(at=NOW + 1)) == book.Busy(applied.payment_id, 1000)
    assert await ledger.apply(reserve(at=NOW + LEASE - 10)) == book.Busy(applied.payment_id, 10)


async def test_a_retry_takes_over_when_the_worker_has_died(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    again = await ledger.apply(reserve(at=NOW + LEASE, owner="w2"))
    assert isinstance(again, book.Applied)
    assert await states(ledger, again) == [ChargeState.RELEASED, ChargeState.RESERVED]
    assert await ledger.apply(capture(applied, at=NOW + LEASE + 1)) == book.Lost(ChargeState.RELEASED)


async def test_after_mode_replays_only_what_has_settled(ledger: Ledger) -> None:
    """Attack: draw the stored response of a payment whose settlement is unknown, then make it fail."""
    applied = await served(ledger)
    assert await ledger.apply(reserve()) == book.Busy(applied.payment_id, 1000)
    late = await ledger.apply(reserve(at=NOW + 60 * SECOND))
    assert isinstance(late, book.Open)
    assert (late.payment.id, late.charge.id) == (applied.payment_id, applied.charge_id)
    await ledger.apply(end_settle(applied, Unknown("timed out"), retry_ms=NOW + 1))
    assert isinstance(await ledger.apply(reserve()), book.Open)
    await ledger.apply(end_settle(applied))
    replayed = await ledger.apply(reserve())
    assert isinstance(replayed, book.Replayed)
    assert (replayed.response, replayed.payment.state) == (RESPONSE, PaymentState.SETTLED)


async def test_deferred_mode_replays_as_soon_as_it_was_served(ledger: Ledger) -> None:
    applied = await served(ledger, mode="deferred")
    replayed = await ledger.apply(reserve(mode="deferred"))
    assert isinstance(replayed, book.Replayed)
    assert (replayed.response, replayed.charge.id) == (RESPONSE, applied.charge_id)


async def test_deferred_mode_replays_nothing_once_the_payment_has_failed(ledger: Ledger) -> None:
    applied = await served(ledger, mode="deferred")
    await ledger.lease_work(owner="w1", now_ms=NOW + 5 * SECOND, lease_until_ms=NOW + 65 * SECOND, limit=9)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert await ledger.apply(reserve(mode="deferred")) == book.Spent(PaymentState.FAILED, "insufficient_funds")


async def test_a_failed_payment_buys_nothing(ledger: Ledger) -> None:
    applied = await served(ledger)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert await ledger.apply(reserve()) == book.Spent(PaymentState.FAILED, "insufficient_funds")


async def test_a_void_payment_buys_nothing(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(release(applied))
    await ledger.lease_work(owner="w1", now_ms=EXPIRY, lease_until_ms=EXPIRY + 1, limit=9)
    assert await ledger.apply(reserve(at=EXPIRY)) == book.Spent(PaymentState.VOID, "expired unused")


# -- credit, and credentials that are good for many requests ----------------------------------------------------------


async def test_credit_is_never_overdrawn(ledger: Ledger) -> None:
    """Attack: many requests at once on an account that has credit for three."""
    many = [reserve("acct", request="", body=str(n), amount=1000, charge_amount=300) for n in range(20)]
    answers = await asyncio.gather(*(ledger.apply(command) for command in many))
    assert [type(answer) for answer in answers].count(book.Applied) == 3
    assert book.Spent(PaymentState.HELD, "used up") in answers
    row = await ledger.payment(key_of("acct"))
    assert row is not None
    assert row.drawn == 900


async def test_a_capture_of_less_leaves_the_rest_as_credit(ledger: Ledger) -> None:
    first = await ledger.apply(reserve("acct", request="", charge_amount=800))
    await ledger.apply(capture(first, amount=100))
    second = await ledger.apply(reserve("acct", request="", charge_amount=900))
    assert isinstance(second, book.Applied)


async def test_an_idempotency_key_makes_two_requests_one(ledger: Ledger) -> None:
    def ask(body: str, key: str = "k1") -> book.Reserve:
        return reserve(
            "acct", request="", body=body, charge_amount=100, idempotency_key=key, mode="deferred", exposure_cap=None
        )

    first = await ledger.apply(ask("x"))
    assert isinstance(await ledger.apply(ask("x")), book.Busy)
    await ledger.apply(capture(first, amount=100, settle_due_ms=NOW))
    replayed = await ledger.apply(ask("x"))
    assert isinstance(replayed, book.Replayed)
    assert replayed.charge.id == first.charge_id
    assert isinstance(await ledger.apply(ask("x", "k2")), book.Applied)


async def test_an_idempotency_key_of_another_request_is_refused(ledger: Ledger) -> None:
    """Attack: the key of a cheap request, presented with a dear one, to be taken for its retry."""

    def ask(body: str) -> book.Reserve:
        return reserve("acct", request="", body=body, charge_amount=100, idempotency_key="k1")

    applied = await ledger.apply(ask("cheap"))
    assert await ledger.apply(ask("dear")) == book.Denied("idempotency")
    await ledger.apply(release(applied))
    assert isinstance(await ledger.apply(ask("dear")), book.Applied)


async def test_without_an_idempotency_key_an_account_pays_for_each_request(ledger: Ledger) -> None:
    first = await ledger.apply(reserve("acct", request="", charge_amount=100))
    second = await ledger.apply(reserve("acct", request="", charge_amount=100))
    assert isinstance(second, book.Applied)
    assert first.charge_id != second.charge_id


# -- before, and what begins settling ---------------------------------------------------------------------------------


async def test_before_mode_is_settling_from_the_first_commit(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    assert applied.payment_state is PaymentState.SETTLING
    assert isinstance(await ledger.apply(reserve(mode="before", begin_settle=True)), book.Busy)


async def test_before_mode_resumes_an_unknown_settlement_with_the_same_payment(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied, Unknown("timed out"), retry_ms=NOW + 1))
    await ledger.apply(release(applied))
    again = await ledger.apply(reserve(mode="before", begin_settle=True, owner="w2"))
    assert isinstance(again, book.Applied)
    assert again.payment_state is PaymentState.SETTLING
    third = await ledger.apply(reserve(mode="before", begin_settle=True, owner="w3"))
    assert isinstance(third, book.Busy)
    await ledger.apply(end_settle(again, owner="w2"))
    assert isinstance(await ledger.apply(capture(again, owner="w2")), book.Applied)


async def test_before_mode_draws_again_from_what_was_paid_when_the_handler_failed(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.apply(release(applied))
    again = await ledger.apply(reserve(mode="before", begin_settle=True))
    assert isinstance(again, book.Applied)
    assert again.payment_state is PaymentState.SETTLED


async def test_a_draw_waits_for_whoever_is_settling(ledger: Ledger) -> None:
    """The worker has submitted the payment and may hear that it never moves: nothing is served from it meanwhile."""
    applied = await ledger.apply(reserve())
    await ledger.apply(release(applied))
    await ledger.apply(book.BeginSettle(payment_id=applied.payment_id, owner="w9", now_ms=NOW, lease_until_ms=NOW + 50))
    assert await ledger.apply(reserve()) == book.Busy(applied.payment_id, 50)
    taken = await ledger.apply(reserve(at=NOW + 50))
    assert isinstance(taken, book.Applied)
    assert taken.payment_state is PaymentState.SETTLING


@pytest.mark.parametrize(("first", "then"), [("after", "deferred"), ("deferred", "after"), ("after", "before")])
async def test_a_payment_keeps_its_mode_until_it_has_settled(ledger: Ledger, first: str, then: str) -> None:
    """Attack: a payment is presented under `after`, released, and captured under `deferred`, outside every cap."""
    applied = await ledger.apply(reserve(mode=first))
    await ledger.apply(release(applied))
    assert await ledger.apply(reserve(mode=then)) == book.Foreign("mode")
    begin = book.BeginSettle(payment_id=applied.payment_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 1)
    await ledger.apply(begin)
    assert await ledger.apply(reserve(mode=then, at=NOW + 1)) == book.Foreign("mode")
    await ledger.apply(end_settle(applied))
    assert isinstance(await ledger.apply(reserve(mode=then)), book.Applied)


# -- exposure ---------------------------------------------------------------------------------------------------------


async def test_exposure_is_capped_per_payer_and_asset(ledger: Ledger) -> None:
    """Attack: many deferred purchases at once, all delivered before the first one fails to settle."""
    commands = [reserve(f"p{n}", mode="deferred", exposure_cap=3_500) for n in range(20)]
    answers = await asyncio.gather(*(ledger.apply(command) for command in commands))
    assert [type(answer) for answer in answers].count(book.Applied) == 3
    assert answers.count(book.Denied("exposure")) == 17
    others = [
        reserve("q1", mode="deferred", exposure_cap=3_500, payer="0x" + "ee" * 20),
        reserve("q2", mode="deferred", exposure_cap=3_500, asset="eip155:1/erc20:0x01"),
    ]
    assert all([isinstance(await ledger.apply(command), book.Applied) for command in others])


async def test_exposure_ends_with_release_settlement_and_a_smaller_capture(ledger: Ledger) -> None:
    def ask(name: str) -> book.Reserve:
        return reserve(name, mode="deferred", exposure_cap=1_000)

    first = await ledger.apply(ask("p1"))
    assert await ledger.apply(ask("p2")) == book.Denied("exposure")
    await ledger.apply(release(first))
    second = await ledger.apply(ask("p2"))
    await ledger.apply(capture(second, settle_due_ms=NOW))
    assert await ledger.apply(ask("p3")) == book.Denied("exposure")
    await ledger.lease_work(owner="w1", now_ms=NOW, lease_until_ms=NOW + 1, limit=9)
    await ledger.apply(end_settle(second))
    third = await ledger.apply(ask("p3"))
    assert isinstance(third, book.Applied)
    await ledger.apply(capture(third, amount=600, settle_due_ms=NOW))
    small = reserve("p4", mode="deferred", exposure_cap=1_000, amount=400)
    assert isinstance(await ledger.apply(small), book.Applied)


async def test_a_denied_reservation_leaves_nothing_behind(ledger: Ledger) -> None:
    assert await ledger.apply(reserve("p", mode="deferred", exposure_cap=999)) == book.Denied("exposure")
    assert await ledger.payment(key_of("p")) is None


@pytest.mark.parametrize("mode", ["before", "after", "deferred"])
async def test_a_suspended_payer_buys_nothing_new(ledger: Ledger, mode: str) -> None:
    """Attack: having taken delivery and let the settlement fail, the payer comes back."""
    applied = await served(ledger, mode="deferred")
    await ledger.lease_work(owner="w1", now_ms=NOW + 5 * SECOND, lease_until_ms=NOW + 65 * SECOND, limit=9)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert await ledger.apply(reserve("b", mode=mode)) == book.Denied("suspended")
    assert await ledger.payment(key_of("b")) is None
    assert isinstance(await ledger.apply(reserve("c", mode=mode, payer="0x" + "ee" * 20)), book.Applied)


async def test_a_payer_that_was_suspended_meanwhile_draws_nothing_from_an_older_payment(ledger: Ledger) -> None:
    """Attack: several authorizations are presented and released first, to be drawn after the suspension."""
    older = await ledger.apply(reserve("older"))
    await ledger.apply(release(older))
    applied = await served(ledger, "bad", mode="deferred")
    await ledger.lease_work(owner="w1", now_ms=NOW + 5 * SECOND, lease_until_ms=NOW + 65 * SECOND, limit=9)
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert await ledger.apply(reserve("older")) == book.Denied("suspended")


# -- programs that are wrong ------------------------------------------------------------------------------------------


async def test_a_charge_above_its_payment_is_an_error_of_the_program(ledger: Ledger) -> None:
    with pytest.raises(LedgerError):
        await ledger.apply(reserve(charge_amount=1001))
    assert await ledger.payment(key_of("a")) is None


async def test_an_id_that_is_taken_is_an_error_of_the_program_and_spoils_nothing_else(ledger: Ledger) -> None:
    first = reserve("a")
    await ledger.apply(first)
    wrong = dataclasses.replace(reserve("b"), payment_id=first.payment_id)
    worse = dataclasses.replace(reserve("c"), charge_id=first.charge_id)
    good = reserve("d")
    answers = await asyncio.gather(*(ledger.apply(c) for c in (wrong, worse, good)), return_exceptions=True)
    assert [type(a) for a in answers] == [LedgerError, LedgerError, book.Applied]
    assert await ledger.payment(key_of("b")) is None
    assert await ledger.payment(key_of("c")) is None
    assert await ledger.payment(key_of("d")) is not None


async def test_an_unknown_charge_is_an_error_of_the_program(ledger: Ledger) -> None:
    nobody = book.Applied(new_id(), new_id())
    for command in (capture(nobody), release(nobody), book.Delivered(charge_id=new_id(), now_ms=NOW)):
        with pytest.raises(LedgerError):
            await ledger.apply(command)


async def test_assets_are_told_apart(ledger: Ledger) -> None:
    assert USDC.id.startswith("eip155:")
    await ledger.apply(reserve("a", mode="deferred", exposure_cap=1000))
    other = reserve("b", mode="deferred", exposure_cap=1000, asset="btc")
    assert isinstance(await ledger.apply(other), book.Applied)
