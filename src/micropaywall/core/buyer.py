"""The buyer's flow: from a request to a paid answer, written once, without I/O.

A generator of typed effects; a client adapter performs those that touch the network, `client.payer` the others.

    send -> 402? -> read -> same origin? -> choose an offer -> RESERVE the budget -> approve -> sign -> JOURNAL -> send again
         -> served | refused | no verdict: the same payment again, then GET /payments/{id}, then held as unknown

At most one payment is signed for a logical call. It is journaled before it is sent, so that whatever happens to this
process the same payment can be sent again; a new 402 after it is a refusal, never a second price to pay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from micropaywall import limits
from micropaywall.core.buyer_effects import (
    Answer,
    ApprovalRequest,
    Approve,
    Bought,
    Buyer,
    Call,
    Draft,
    Entropy,
    FindCall,
    Journal,
    KeepBody,
    KnowHost,
    NoAnswer,
    Now,
    OpenWallet,
    Peek,
    Record,
    Reserve,
    Send,
    Sign,
    Wait,
)
from micropaywall.core.delivery import backoff_s, deliver
from micropaywall.core.drive import Effect, do
from micropaywall.core.hosts import normal_host
from micropaywall.core.model import Offer
from micropaywall.core.policy import Choice, Target, choose
from micropaywall.core.purchase import HeaderLine, PurchaseEvent, PurchaseRow, PurchaseState
from micropaywall.core.quote import derive_nonce
from micropaywall.errors import (
    ApprovalDenied,
    BudgetExceeded,
    ChallengeInvalid,
    CrossOriginPayment,
    IdempotencyConflict,
    InsecureTransport,
    PaymentInProgress,
)
from micropaywall.ids import Fingerprint
from micropaywall.proto.x402.challenge import PAYMENT_REQUIRED, Challenge, OfferRead, read_challenge
from micropaywall.proto.x402.credential import write_payment_v1, write_payment_v2

__all__ = ["buy", "target_of"]

T = TypeVar("T")
Flow = Generator[Effect[Any], Any, T]


def buy(call: Call) -> Flow[Bought]:
    """Carry out one logical call, paying for it when that is asked and allowed.

    Raises PolicyRefused subclasses (nothing was signed), ChallengeInvalid, PaymentNotAccepted, PaymentOutcomeUnknown, and
    whatever the client raises when a request that carries no payment does not get through.
    """
    first = yield from do(Send())
    if isinstance(first, NoAnswer):
        raise first.cause
    raw = yield from _raw_challenge(first)
    if raw is None:
        return Bought(first)
    target = _paying_target(call, first)
    buyer = yield from do(OpenWallet())
    challenge = read_challenge(first.status, first.headers, raw or None, assets=buyer.assets)
    job = _job(buyer, call, target, (yield from do(KeepBody())))
    row = yield from _resumable(job)
    if row is not None:
        return (yield from deliver(call, row, first, fresh=False))
    promised = yield from _promise(job, first, challenge)
    if isinstance(promised, Bought):
        return promised
    return (yield from deliver(call, promised.row, promised.onto, fresh=promised.fresh))


@dataclass(frozen=True, slots=True)
class _Job:
    """A call that must be paid for. ``key`` is the logical call's, given or derived; "" when every call is its own."""

    buyer: Buyer
    call: Call
    target: Target
    fingerprint: Fingerprint
    key: str
    replay_served: bool


def _job(buyer: Buyer, call: Call, target: Target, body_digest: bytes) -> _Job:
    digest = hashlib.sha256(f"{call.method} {call.url}\n".encode("utf-8", "surrogateescape"))
    digest.update(body_digest)
    fingerprint = Fingerprint(digest.digest())
    if len(call.key) > limits.IDEMPOTENCY_KEY_CHARS_MAX:
        raise IdempotencyConflict(
            "the idempotency key is too long", expected=f"at most {limits.IDEMPOTENCY_KEY_CHARS_MAX} characters"
        )
    if call.key:
        return _Job(buyer, call, target, fingerprint, f"key:{call.key}", replay_served=True)
    key = f"request:{fingerprint.hex()}" if call.same_if_equal else ""
    return _Job(buyer, call, target, fingerprint, key, replay_served=False)


def _raw_challenge(answer: Answer) -> Flow[bytes | None]:
    """The body of a 402 that is a challenge, or b"" when the header has it all; None for every other answer.

    A 402 of another kind is none of our business: the caller gets it.
    """
    if answer.status != 402:
        return None
    if any(name == PAYMENT_REQUIRED for name, _ in answer.headers):
        return b""
    body = yield from do(Peek(answer, limits.CHALLENGE_BODY_BYTES_MAX))
    return body if body is not None and b'"x402Version"' in body else None


def target_of(url: str) -> Target:
    """Scheme, host and port of an absolute URL."""
    parts = urlsplit(url)
    return Target(
        parts.scheme, normal_host(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)
    )


def _paying_target(call: Call, answer: Answer) -> Target:
    """Where the payment would go: the origin that the caller asked, when no redirect left it on the way."""
    asked = target_of(call.url)
    for hop in answer.hops:
        target = target_of(hop)
        if target == asked:
            continue
        facts = {"asked": f"{asked.scheme}://{asked.authority}", "redirected": f"{target.scheme}://{target.authority}"}
        if asked.scheme == "https" and target.scheme != "https":
            raise InsecureTransport(
                "the request was redirected from HTTPS to plain HTTP; nothing is paid there", facts=facts
            )
        raise CrossOriginPayment(
            "the request was redirected to another origin, and a payment is only made where the program asked",
            expected=facts["asked"],
            received=facts["redirected"],
            hint="If that is the right place, request it directly.",
            facts=facts,
        )
    return asked


def _resumable(job: _Job) -> Flow[PurchaseRow | None]:
    """The payment of this logical call from before, when there is one that may be sent again."""
    if not job.key:
        return None
    for attempt in range(limits.RESENDS_MAX + 1):
        row = yield from do(FindCall(job.buyer.agent, job.key))
        if row is None or (row.state is PurchaseState.SERVED and not job.replay_served):
            return None
        if row.fingerprint != job.fingerprint or row.authority != job.target.authority:
            raise IdempotencyConflict(
                "this idempotency key was used for another request",
                expected=row.endpoint,
                received=_endpoint(job.call),
                hint="Use a key of its own for each logical call.",
            )
        if row.state is not PurchaseState.RESERVED:
            return row
        yield from do(Wait(backoff_s(attempt)))
    raise PaymentInProgress(
        "another call with the same idempotency key is about to pay", retry_after_s=limits.RETRY_AFTER_S
    )


def _endpoint(call: Call) -> str:
    """Method and URL without userinfo and query, which may hold secrets."""
    parts = urlsplit(call.url)
    return f"{call.method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, slots=True)
class _Promised:
    """A journaled payment, and the 402 whose request is repeated with it. ``fresh``: signed by this very call."""

    row: PurchaseRow
    onto: Answer
    fresh: bool


def _promise(job: _Job, answer: Answer, challenge: Challenge) -> Flow[_Promised | Bought]:
    """Choose, reserve, approve, sign and journal: the one place where money is promised.

    Bought: the resource turned out to cost nothing any more, and here is the answer.
    """
    buyer = job.buyer
    known = yield from do(KnowHost(job.target.authority))
    offers = [read.offer for read in challenge.offers]
    choices = choose(offers, buyer.policy, job.target, known, buyer.can_pay, can_ask=buyer.can_ask)
    choice, row, new = yield from _reserve(job, challenge, choices)
    if not new:
        resumed = yield from _resumable(replace(job, replay_served=True))
        if resumed is None:
            raise PaymentInProgress(
                "another call with the same idempotency key has just ended", retry_after_s=limits.RETRY_AFTER_S
            )
        return _Promised(resumed, answer, fresh=False)
    try:
        read = challenge.offers[choice.position]
        if choice.reasons:
            asked_ms = yield from do(Now())
            yield from _approve(job, choice)
            if (yield from do(Now())) - asked_ms > limits.APPROVAL_FRESH_S * 1000:
                renewed = yield from _renew(buyer, answer, read)
                if isinstance(renewed, Bought):
                    yield from do(Record(row, PurchaseEvent.DROPPED, "no", "no longer priced"))
                    return renewed
                answer, challenge, read = renewed
        now_ms = yield from do(Now())
        nonce = yield from _nonce(buyer.payer, read.offer)
        signed = yield from do(Sign(read.offer, now_ms // 1000, nonce))
        credential = _credential(challenge, read, signed.payload)
    except BaseException as error:
        if not isinstance(error, GeneratorExit):
            yield from do(Record(row, PurchaseEvent.DROPPED, "no", type(error).__name__))
        raise
    row = yield from do(Journal(row, signed.key, credential, signed.valid_before_s))
    return _Promised(row, answer, fresh=True)


def _reserve(job: _Job, challenge: Challenge, choices: list[Choice]) -> Flow[tuple[Choice, PurchaseRow, bool]]:
    """Hold the budget for the cheapest offer that it has room for."""
    refused: BudgetExceeded | None = None
    for choice in choices:
        draft = Draft(
            agent=job.buyer.agent,
            call_key=job.key,
            replay_served=job.replay_served,
            fingerprint=job.fingerprint,
            endpoint=_endpoint(job.call),
            target=job.target,
            offer=choice.offer,
            dialect=challenge.dialect,
            payer=job.buyer.payer,
        )
        try:
            row, new = yield from do(Reserve(draft, job.buyer.budget))
        except BudgetExceeded as error:
            refused = refused or error
            continue
        return choice, row, new
    raise refused or BudgetExceeded("there was no offer to reserve a budget for")


def _approve(job: _Job, choice: Choice) -> Flow[None]:
    offer, authority = choice.offer, job.target.authority
    request = ApprovalRequest(
        job.call.method, job.call.url, authority, offer.price, offer.pay_to, offer.network, choice.reasons
    )
    if not (yield from do(Approve(request))):
        raise ApprovalDenied(
            f"the payment of {offer.price} to {authority} was not approved",
            received=list(choice.reasons),
            facts={"price": str(offer.price)},
        )


def _renew(buyer: Buyer, answer: Answer, approved: OfferRead) -> Flow[tuple[Answer, Challenge, OfferRead] | Bought]:
    """The approved offer with a new quote; refused when the seller changed anything that was approved."""
    again = yield from do(Send(onto=answer))
    if isinstance(again, NoAnswer):
        raise again.cause
    raw = yield from _raw_challenge(again)
    if raw is None:
        return Bought(again)
    challenge = read_challenge(again.status, again.headers, raw or None, assets=buyer.assets)
    if again.hops[-1:] != answer.hops[-1:]:
        raise CrossOriginPayment("the request was redirected elsewhere while its approval was awaited")
    for read in challenge.offers:
        if replace(read.offer, extra={}) == replace(approved.offer, extra={}) and buyer.can_pay(read.offer):
            return again, challenge, read
    raise ApprovalDenied(
        "the seller's offer changed while its approval was awaited", hint="Nothing was signed. Request it again."
    )


def _nonce(payer: str, offer: Offer) -> Flow[bytes]:
    """The payment's nonce: derived from the seller's quote where there is one, so that the signature covers the quote."""
    quote = offer.extra.get("quote")
    if isinstance(quote, str) and 0 < len(quote) <= _QUOTE_CHARS_MAX:
        salt = yield from do(Entropy(16))
        return derive_nonce(quote, bytes.fromhex(payer[2:]), salt)
    return (yield from do(Entropy(32)))


_QUOTE_CHARS_MAX: Final = 1_024


def _credential(challenge: Challenge, read: OfferRead, payload: Mapping[str, Any]) -> HeaderLine:
    """The header that pays. Extensions are echoed where they fit: servers take payments without them."""
    if challenge.dialect == "x402/1":
        return _fitting(HeaderLine(*write_payment_v1(read.offer.scheme, read.offer.v1_network, payload)))
    for resource, extensions in (
        (challenge.resource, challenge.extensions),
        (challenge.resource, None),
    ):
        line = HeaderLine(*write_payment_v2(read.raw, payload, resource=resource, extensions=extensions))
        if len(line.value) <= limits.CREDENTIAL_HEADER_BYTES_MAX:
            return line
    return _fitting(HeaderLine(*write_payment_v2(read.raw, payload)))


def _fitting(line: HeaderLine) -> HeaderLine:
    if len(line.value) > limits.CREDENTIAL_HEADER_BYTES_MAX:
        raise ChallengeInvalid(
            "the offer is so long that its payment would not fit into a header",
            expected=f"at most {limits.CREDENTIAL_HEADER_BYTES_MAX} bytes",
            received=f"{len(line.value)} bytes",
        )
    return line
