"""``micropaywall refund``: value back to a payer."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from micropaywall import limits
from micropaywall.cli.books import find_payment
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.core.book import Applied, BeginRefund, Denied, EndRefund, Lost, PaymentRow
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Rejected, Settled
from micropaywall.errors import OutcomeUnknown, PaymentNotFound, RailError, RefundRefused
from micropaywall.ids import RowId, payment_id, row_id
from micropaywall.money import Money, parse_price

if TYPE_CHECKING:
    from micropaywall.cli.seller_parts import Backroom
    from micropaywall.settings import Loaded

__all__ = ["refund"]


@click.command()
@click.argument("payment")
@click.option(
    "--amount", metavar="PRICE", help="How much to give back, for example '$0.001'. Default: all that is left."
)
@click.option("--reason", default="", metavar="TEXT", help="Why, for the book.")
@config_option
@json_option
def refund(out: Output, payment: str, amount: str | None, reason: str, config_file: Path | None) -> None:
    """Give PAYMENT (its id, or the beginning of it) back to its payer, wholly or in part.

    The refund is in the book before anything moves, and it moves once: a command that was interrupted may be run again, and
    what it left is finished by the server or by `micropaywall worker`.
    """
    from micropaywall.settings import load_settings

    asyncio.run(_refund(out, load_settings(config_file), payment, amount, reason))


async def _refund(out: Output, loaded: Loaded, name: str, amount: str | None, reason: str) -> None:
    from micropaywall.cli.seller_parts import backroom

    async with backroom(loaded) as room:
        row = await find_payment(room.ledger, name)
        money = _amount(room, row, amount)
        paid = await _pay(room, row, money, reason)
        after = await room.ledger.payment(row.key)
    if after is None:
        raise PaymentNotFound("the payment is not in the book any more")
    out.document(
        {
            "paymentId": payment_id(row.key),
            "refunded": str(money.decimal),
            "refundedAtomic": str(money.amount_atomic),
            "currency": money.asset.symbol,
            "payer": row.payer,
            "transaction": paid.transaction,
            "paymentState": after.state.value,
            "refundedInAllAtomic": str(after.refunded),
        }
    )
    out.check(True, f"{money} went back to {row.payer}")
    out.pairs([("payment", f"{payment_id(row.key)}: {after.state.value}"), ("transaction", paid.transaction)])


def _amount(room: Backroom, row: PaymentRow, amount: str | None) -> Money:
    rail = next(
        (rail.seller for rail in room.rails if (rail.seller.name, rail.seller.network) == (row.rail, row.network)), None
    )
    if rail is None:
        raise RailError(
            "the rail of this payment is not configured", expected=f"[rails.{row.rail}]", received=row.network
        )
    if amount is None:
        if row.amount == row.refunded:
            raise RefundRefused("all of this payment was given back already", facts={"paymentId": payment_id(row.key)})
        return Money(row.amount - row.refunded, rail.asset)
    money = parse_price(amount).in_asset(rail.asset)
    if money is None:
        raise RefundRefused(f"the payment was made in {rail.asset.symbol}", received=amount)
    return money


def refund_id(row: PaymentRow, money: Money) -> RowId:
    """The same for the same refund: a command that is run again while the first is under way joins it."""
    digest = hashlib.sha256(
        b"micropaywall/cli/refund/" + row.id + f"{row.refunded}/{money.amount_atomic}".encode()
    ).digest()
    return row_id(row.created_ms, digest[:10])


async def _pay(room: Backroom, row: PaymentRow, money: Money, reason: str) -> Settled:
    from micropaywall.settlement.carry import pay_back

    now_ms, id_ = room.clock.now_ms(), refund_id(row, money)
    answer = await room.ledger.apply(
        BeginRefund(
            refund_id=id_,
            payment_id=row.id,
            amount=money.amount_atomic,
            reason=reason,
            owner=room.owner,
            now_ms=now_ms,
            lease_until_ms=now_ms + limits.SETTLE_LEASE_S * 1000,
        )
    )
    if not isinstance(answer, Applied):
        raise _refused(answer, row, money)
    pending = next(found for found in await room.ledger.refunds(row.id) if found.id == id_)
    outcome = await pay_back(room.settlements.get((row.rail, row.network)), pending)
    await room.ledger.apply(
        EndRefund(
            refund_id=id_, owner=room.owner, now_ms=room.clock.now_ms(), outcome=outcome, retry_ms=_retry(room, outcome)
        )
    )
    if isinstance(outcome, Settled):
        return outcome
    if isinstance(outcome, Rejected):
        raise RefundRefused(f"the rail refused the refund: {outcome.detail or outcome.code}", received=outcome.code)
    raise OutcomeUnknown(
        f"whether the refund moved is not known yet: {outcome.detail}",
        hint="It is in the book and is finished by the server or by `micropaywall worker`; this command may be run again.",
    )


def _retry(room: Backroom, outcome: object) -> int | None:
    """A refusal cancels the refund; without a verdict the background asks again, soon."""
    return None if isinstance(outcome, (Settled, Rejected)) else room.clock.now_ms() + limits.RETRY_AFTER_S * 1000


def _refused(answer: object, row: PaymentRow, money: Money) -> RefundRefused:
    facts = {"paymentId": payment_id(row.key)}
    if isinstance(answer, Lost):
        state = answer.state
        if state is PaymentState.REFUND_DUE:
            return RefundRefused(
                "another refund of this payment is under way", hint="Wait for it: micropaywall ledger show", facts=facts
            )
        return RefundRefused(
            f"a payment that is {state.value} cannot be given back", expected="settled or final", facts=facts
        )
    if isinstance(answer, Denied):
        return RefundRefused(
            "there is not so much left to give back",
            expected=f"at most {Money(row.amount - row.refunded, money.asset)}",
            received=str(money),
            facts=facts,
        )
    return RefundRefused("the book refused the refund", received=type(answer).__name__, facts=facts)
