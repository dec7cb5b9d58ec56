"""Capture, Release, Delivered, Extend: a charge ends once, and nobody pays for what was not served."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.kit.ledgers import EXPIRY, LEASE, NOW, RESPONSE, SECOND, capture, end_settle, key_of, release, reserve

from micropaywall import limits
from micropaywall.core import book
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.core.model import Rejected, StoredResponse
from micropaywall.errors import LedgerError
from micropaywall.ledger.port import Ledger

pytestmark = pytest.mark.anyio

STREAM_LEASE = limits.CHARGE_LEASE_S * SECOND


async def charge_of(ledger: Ledger, applied: Any) -> book.ChargeRow:
    return next(c for c in await ledger.charges(applied.payment_id) if c.id == applied.charge_id)


async def payment(ledger: Ledger, name: str = "a") -> book.PaymentRow:
    row = await ledger.payment(key_of(name))
    assert row is not None
    return row


async def work(ledger: Ledger, at: int, owner: str = "worker") -> book.Work:
    return await ledger.lease_work(owner=owner, now_ms=at, lease_until_ms=at + 60 * SECOND, limit=100)


async def test_a_capture_keeps_the_response_and_submits_the_payment_in_one_commit(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    answer = await ledger.apply(capture(applied, at=NOW + 9, begin_settle=True))
    assert answer == book.Applied(applied.payment_id, applied.charge_id, PaymentState.SETTLING)
    charge = await charge_of(ledger, applied)
    assert (charge.state, charge.captured_ms, charge.latency_ms, charge.lease_until_ms) == (
        ChargeState.CAPTURED,
        NOW + 9,
        7,
        0,
    )
    assert (charge.response_status, charge.response_bytes, charge.delivered) == (200, len(RESPONSE.body), False)
    assert await ledger.response(charge.id) == RESPONSE


async def test_a_response_comes_back_byte_for_byte(ledger: Ledger) -> None:
    odd = StoredResponse(
        203, ((b"set-cookie", b"a=1"), (b"set-cookie", b"b: \xff\x00"), (b"x", b"")), bytes(range(256))
    )
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied, response=odd))
    assert await ledger.response(applied.charge_id) == odd


async def test_the_same_capture_twice_has_the_effect_of_one(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    command = capture(applied, begin_settle=True)
    first = await ledger.apply(command)
    assert await ledger.apply(command) == first
    assert (await payment(ledger)).drawn == 1000


async def test_a_capture_by_somebody_else_changes_nothing(ledger: Ledger) -> None:
    """A worker whose lease was taken over must not fix a charge that another worker is serving now."""
    applied = await ledger.apply(reserve())
    assert await ledger.apply(capture(applied, owner="w2")) == book.Lost(ChargeState.RESERVED)
    assert (await charge_of(ledger, applied)).state is ChargeState.RESERVED
    assert await ledger.response(applied.charge_id) is None


async def test_a_late_capture_counts_when_nobody_took_the_charge(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    late = await ledger.apply(capture(applied, at=NOW + LEASE + 5, begin_settle=True))
    assert isinstance(late, book.Applied)


async def test_a_late_capture_is_lost_once_the_charge_was_given_back(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await work(ledger, NOW + LEASE)
    assert await ledger.apply(capture(applied, at=NOW + LEASE)) == book.Lost(ChargeState.RELEASED)
    assert (await payment(ledger)).drawn == 0


async def test_a_capture_of_more_than_was_reserved_is_an_error_of_the_program(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve("acct", request="", charge_amount=300))
    with pytest.raises(LedgerError):
        await ledger.apply(capture(applied, amount=301))
    assert (await charge_of(ledger, applied)).state is ChargeState.RESERVED
    assert (await payment(ledger, "acct")).drawn == 300


async def test_a_capture_for_another_payment_is_an_error_of_the_program(ledger: Ledger) -> None:
    """Attack (or slip): the charge of one payment, the settlement of another."""
    first, second = await ledger.apply(reserve("a")), await ledger.apply(reserve("b"))
    for settle in (True, False):
        with pytest.raises(LedgerError):
            await ledger.apply(dataclasses.replace(capture(first), payment_id=second.payment_id, begin_settle=settle))
    assert (await charge_of(ledger, first)).state is ChargeState.RESERVED
    assert (await payment(ledger, "b")).state is PaymentState.HELD


async def test_a_released_charge_leaves_the_credit_whole(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    command = release(applied, reason="handler_failed", response_status=500)
    assert isinstance(await ledger.apply(command), book.Applied)
    assert isinstance(await ledger.apply(command), book.Applied)
    charge = await charge_of(ledger, applied)
    assert (charge.state, charge.response_status, charge.lease_until_ms) == (ChargeState.RELEASED, 500, 0)
    row = await payment(ledger)
    assert (row.drawn, row.state) == (0, PaymentState.HELD)


async def test_a_release_by_somebody_else_changes_nothing(ledger: Ledger) -> None:
    """A worker that was thought dead comes back and gives up a charge that its successor is serving."""
    applied = await ledger.apply(reserve())
    assert await ledger.apply(release(applied, owner="w2")) == book.Lost(ChargeState.RESERVED)
    assert (await payment(ledger)).drawn == 1000


async def test_a_captured_charge_cannot_be_released(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied))
    assert await ledger.apply(release(applied)) == book.Lost(ChargeState.CAPTURED)


# -- responses that are not kept --------------------------------------------------------------------------------------


async def test_a_stream_is_busy_until_it_was_delivered(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.apply(capture(applied, response=None))
    assert isinstance(await ledger.apply(reserve(mode="before")), book.Busy)
    assert isinstance(await ledger.apply(book.Delivered(charge_id=applied.charge_id, now_ms=NOW)), book.Applied)
    replayed = await ledger.apply(reserve(mode="before"))
    assert isinstance(replayed, book.Replayed)
    assert replayed.response is None
    assert replayed.charge.delivered


async def test_a_stream_that_stayed_small_is_kept_after_all(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied, response=None))
    command = book.Delivered(charge_id=applied.charge_id, now_ms=NOW, response=RESPONSE)
    await ledger.apply(command)
    assert isinstance(await ledger.apply(command), book.Applied)
    assert await ledger.response(applied.charge_id) == RESPONSE
    assert (await charge_of(ledger, applied)).response_status == 200


@pytest.mark.parametrize("by", ["retry", "background"])
async def test_a_crash_before_a_stream_was_delivered_gives_the_charge_back(ledger: Ledger, by: str) -> None:
    """The buyer paid, the server died before the last byte: a retry is served, not refused."""
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.apply(capture(applied, response=None))
    if by == "background":
        await work(ledger, NOW + STREAM_LEASE)
        assert (await charge_of(ledger, applied)).state is ChargeState.RETURNED
    again = await ledger.apply(reserve(mode="before", at=NOW + STREAM_LEASE))
    assert isinstance(again, book.Applied)
    assert again.payment_state is PaymentState.SETTLED
    assert (await charge_of(ledger, applied)).state is ChargeState.RETURNED
    assert await ledger.apply(book.Delivered(charge_id=applied.charge_id, now_ms=NOW + STREAM_LEASE)) == book.Lost(
        ChargeState.RETURNED
    )


async def test_a_stream_that_begins_late_has_time_of_its_own(ledger: Ledger) -> None:
    """The handler took nearly as long as its lease: what it answers is not taken for lost while it leaves."""
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    await ledger.apply(capture(applied, at=NOW + LEASE - 1, response=None))
    await work(ledger, NOW + LEASE + STREAM_LEASE - 2)
    assert (await charge_of(ledger, applied)).state is ChargeState.CAPTURED
    await work(ledger, NOW + LEASE + STREAM_LEASE - 1)
    assert (await charge_of(ledger, applied)).state is ChargeState.RETURNED


async def test_a_long_stream_keeps_its_charge_while_it_says_so(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied))
    longer = book.Extend(charge_id=applied.charge_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 10 * LEASE)
    assert isinstance(await ledger.apply(longer), book.Applied)
    await ledger.apply(capture(applied, response=None))
    await work(ledger, NOW + 9 * LEASE)
    assert (await charge_of(ledger, applied)).state is ChargeState.CAPTURED
    stranger = book.Extend(charge_id=applied.charge_id, owner="w2", now_ms=NOW, lease_until_ms=NOW + 99 * LEASE)
    assert await ledger.apply(stranger) == book.Lost(ChargeState.CAPTURED)
    await ledger.apply(book.Delivered(charge_id=applied.charge_id, now_ms=NOW))
    assert await ledger.apply(longer) == book.Lost(ChargeState.CAPTURED)


async def test_a_lease_is_never_made_shorter(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(book.Extend(charge_id=applied.charge_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 1))
    assert (await charge_of(ledger, applied)).lease_until_ms == NOW + LEASE


# -- a payment that never moves ---------------------------------------------------------------------------------------


async def test_a_rejected_payment_that_was_not_delivered_costs_nobody_and_leaves_no_response(ledger: Ledger) -> None:
    """Attack: fetch the stored response of a payment that the rail refused."""
    applied = await ledger.apply(reserve())
    await ledger.apply(capture(applied, begin_settle=True))
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert (await charge_of(ledger, applied)).state is ChargeState.RETURNED
    assert await ledger.response(applied.charge_id) is None
    row = await payment(ledger)
    assert (row.state, row.reason, row.drawn) == (PaymentState.FAILED, "insufficient_funds", 0)
    assert isinstance(await ledger.apply(reserve("b")), book.Applied)


async def test_a_rejected_payment_releases_what_was_only_reserved(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve(mode="before", begin_settle=True))
    await ledger.apply(end_settle(applied, Rejected("insufficient_funds")))
    assert (await charge_of(ledger, applied)).state is ChargeState.RELEASED
    assert isinstance(await ledger.apply(release(applied)), book.Applied)
    assert await ledger.apply(capture(applied)) == book.Lost(ChargeState.RELEASED)


async def test_an_unused_payment_is_void_when_it_expires_and_not_before(ledger: Ledger) -> None:
    applied = await ledger.apply(reserve())
    await ledger.apply(release(applied))
    await work(ledger, EXPIRY - 1)
    assert (await payment(ledger)).state is PaymentState.HELD
    await work(ledger, EXPIRY)
    assert (await payment(ledger)).state is PaymentState.VOID


async def test_a_payment_is_not_void_while_something_is_drawn_from_it(ledger: Ledger) -> None:
    """The handler takes longer than the authorization lives: what it serves must still be settled or counted."""
    await ledger.apply(reserve("late", at=EXPIRY - 1))
    await work(ledger, EXPIRY + 1)
    assert (await payment(ledger, "late")).state is PaymentState.HELD
    served = await ledger.apply(reserve("served", mode="deferred"))
    await ledger.apply(capture(served, settle_due_ms=NOW))
    leased = await work(ledger, EXPIRY + 1)
    assert [row.id for row in leased.settle] == [served.payment_id]
