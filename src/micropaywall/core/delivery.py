"""The second half of the buyer's flow: a signed payment is sent until there is a verdict on it, then asked for, then held.

The same payment is sent again after a lost answer, a 409 "in progress", a 503 "unknown" or a gateway's error: that costs
nothing, since it can only be spent once. Nothing here signs.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from micropaywall import limits
from micropaywall.core.buyer_effects import Answer, AskStatus, Bought, Call, NoAnswer, Now, Peek, Record, Send, Wait
from micropaywall.core.drive import Effect, do
from micropaywall.core.purchase import OPEN, PurchaseEvent, PurchaseRow
from micropaywall.core.verdict import (
    Delivered,
    Failed,
    Open,
    Refused,
    StatusWord,
    Verdict,
    judge,
    plain_text,
    read_status,
)
from micropaywall.errors import MoneyMoved, PaymentNotAccepted, PaymentOutcomeUnknown

__all__ = ["backoff_s", "deliver", "enquire"]

T = TypeVar("T")
Flow = Generator[Effect[Any], Any, T]


def deliver(call: Call, row: PurchaseRow, onto: Answer, *, fresh: bool) -> Flow[Bought]:
    """Send the signed payment until there is a verdict on it, within bounds; then ask for it.

    ``onto`` is the 402 whose request is repeated. ``fresh``: it was signed by this call, so nobody can have sent it.
    """
    if row.credential is None:
        raise PaymentOutcomeUnknown("a payment without its credential cannot be sent again", facts=_ident(row))
    doubtful = not fresh
    for attempt in range(limits.RESENDS_MAX + 1):
        answer = yield from do(Send(row.credential, onto))
        last = None if isinstance(answer, NoAnswer) else answer
        verdict = yield from _verdict(call, answer, doubtful=doubtful)
        if not isinstance(verdict, Open):
            return (yield from _conclude(row, verdict, last))
        if row.state in OPEN:
            row = yield from do(Record(row, PurchaseEvent.UNANSWERED, "unknown", verdict.code, verdict.status or None))
        doubtful = True
        if not verdict.resend or attempt == limits.RESENDS_MAX:
            return (yield from _after_asking(call, row, onto, verdict, last))
        yield from do(Wait(backoff_s(attempt) if verdict.wait_s is None else verdict.wait_s))
    raise AssertionError("the loop above returns at its last turn")


def backoff_s(attempt: int) -> float:
    """How long to wait before the next attempt when nobody said, ``attempt`` counted from 0."""
    return min(limits.RESEND_WAIT_S_MIN * 2.0**attempt, limits.RESEND_WAIT_S_MAX)


def _verdict(call: Call, answer: Answer | NoAnswer, *, doubtful: bool) -> Flow[Verdict]:
    if isinstance(answer, NoAnswer):
        return Open("no_answer", 0, resend=True)
    body = (yield from do(Peek(answer, limits.PROBLEM_BODY_BYTES_MAX))) if answer.status >= 400 else None
    return judge(call.method, answer.status, answer.headers, body, doubtful=doubtful)


def _conclude(row: PurchaseRow, verdict: Delivered | Refused | Failed, answer: Answer | None) -> Flow[Bought]:
    if isinstance(verdict, Refused):
        if row.state in OPEN:
            row = yield from do(Record(row, PurchaseEvent.REFUSED, verdict.moved, verdict.code, verdict.status))
        raise _not_accepted(row, verdict.code, verdict.moved, verdict.status, verdict.untrusted)
    if answer is None:
        raise PaymentOutcomeUnknown("a verdict without an answer", facts=_ident(row))
    if isinstance(verdict, Failed):
        if row.state in OPEN:
            reason = f"status_{verdict.status}"
            row = yield from do(Record(row, PurchaseEvent.REFUSED, verdict.moved, reason, verdict.status))
        return Bought(answer, row)
    receipt = verdict.receipt
    row = yield from do(
        Record(
            row,
            PurchaseEvent.DELIVERED,
            "yes" if receipt is not None and receipt.settled else "unknown",
            "" if receipt is None else plain_text(receipt.reason),
            answer.status,
            "" if receipt is None else plain_text(receipt.transaction),
        )
    )
    return Bought(answer, row, receipt)


def _after_asking(call: Call, row: PurchaseRow, onto: Answer, verdict: Open, last: Answer | None) -> Flow[Bought]:
    """No answer was a verdict. The seller is asked for the payment itself, and perhaps sent it one last time."""
    word = yield from _ask(row)
    if word is not None and not word.busy and (word.delivered or word.moved == "yes") and row.credential is not None:
        answer = yield from do(Send(row.credential, onto))
        final = yield from _verdict(call, answer, doubtful=True)
        if isinstance(final, Delivered) and not isinstance(answer, NoAnswer):
            return (yield from _conclude(row, final, answer))
        if word.moved == "yes" and isinstance(final, Open) and not final.resend:
            # The money moved, and the seller will not give what it bought. That is a verdict, if a bad one.
            if row.state in OPEN:
                row = yield from do(Record(row, PurchaseEvent.REFUSED, "yes", final.code, final.status))
            raise _not_accepted(row, final.code, "yes", final.status, final.untrusted)
    elif word is not None and not word.busy and word.moved == "no":
        if row.state in OPEN:
            row = yield from do(Record(row, PurchaseEvent.REFUSED, "no", verdict.code, verdict.status or None))
        if verdict.own and last is not None:
            return Bought(last, row)
        raise _not_accepted(row, verdict.code, "no", verdict.status, verdict.untrusted)
    if row.state in OPEN:
        row = yield from do(Record(row, PurchaseEvent.GIVEN_UP, "unknown", verdict.code, verdict.status or None))
    raise PaymentOutcomeUnknown(
        "the payment was sent and the seller gave no verdict on it; its budget stays held",
        received=verdict.code,
        hint="Repeat the call with the same Idempotency-Key: the same payment is sent again, no new one is signed.",
        facts=_ident(row) | {"untrustedSellerText": verdict.untrusted},
    )


def _ask(row: PurchaseRow) -> Flow[StatusWord | None]:
    if row.payment_id is None or row.credential is None:
        return None
    url = f"{row.origin}/payments/{row.payment_id}"
    answered = yield from do(AskStatus(url, row.credential, limits.STATUS_BODY_BYTES_MAX))
    return None if answered is None else read_status(*answered, row.payment_id)


def enquire(row: PurchaseRow) -> Flow[PurchaseRow]:
    """Ask the seller what became of a journaled payment without a verdict, and write the answer down.

    A payment is only written off as expired when its authorization has run out *and* the seller says that it never moved.
    """
    if row.state not in OPEN:
        return row
    word = yield from _ask(row)
    if word is None or word.busy or word.moved == "unknown":
        return row
    if word.delivered:
        return (yield from do(Record(row, PurchaseEvent.DELIVERED, word.moved, word.state, None, word.transaction)))
    if word.moved == "yes":
        return row  # paid and not delivered: the payment is good for another presentation
    now_ms = yield from do(Now())
    if now_ms < row.valid_before_ms + limits.CLOCK_SKEW_S * 1000:
        return row
    return (yield from do(Record(row, PurchaseEvent.LAPSED, "no", word.state)))


def _not_accepted(row: PurchaseRow, code: str, moved: MoneyMoved, status: int, untrusted: str) -> PaymentNotAccepted:
    detail = "the seller refused the payment" if moved == "no" else "the seller took the payment and did not deliver"
    return PaymentNotAccepted(
        f"{detail} ({code})",
        received=code,
        hint="Nothing is owed. See the code; a new call signs a new payment." if moved == "no" else None,
        facts=_ident(row)
        | {"sellerCode": code, "sellerStatus": status, "moneyMoved": moved, "untrustedSellerText": untrusted},
    )


def _ident(row: PurchaseRow) -> dict[str, Any]:
    return {"paymentId": row.payment_id, "price": str(row.price), "validBefore": row.valid_before_ms // 1000}
