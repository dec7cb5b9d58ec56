"""The seller's flow: from a credential to an answer, written once, without I/O.

A generator of typed effects; an adapter (`asgi`, `wsgi`) performs each and sends its result back in. The order is the point:

    verify (pure) -> RESERVE (one durable commit) -> handler -> CAPTURE (one durable commit) -> settle -> answer

and, per route: ``before`` settles ahead of the handler, ``after`` between capture and answer, ``deferred`` in the background.
An exception thrown into the generator at `RunHandler` means that the handler raised or was cancelled; the charge is released.
Whatever is unknown stays unknown: the answer is 503 with "re-send the same payment", never a new price.
"""

from __future__ import annotations

import hmac
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, assert_never

from micropaywall import limits
from micropaywall.core import book
from micropaywall.core.effects import (
    Answer,
    AskPrice,
    Book,
    Effect,
    FindPayment,
    FindResponse,
    Flow,
    Handled,
    NewIds,
    NoteRequest,
    Now,
    ReadBody,
    RunHandler,
    Settle,
    Site,
    Stream,
    Tell,
)
from micropaywall.core.lives import PaymentState
from micropaywall.core.matching import binding_of, check_binding, fingerprint_of, match_offer, pays_for
from micropaywall.core.model import (
    Credential,
    Offer,
    Outcome,
    Receipt,
    Rejected,
    Request,
    Settled,
    StoredResponse,
    Unknown,
    VerifiedPayment,
)
from micropaywall.core.routes import PriceSpec, Route
from micropaywall.errors import (
    AuthorizationExpired,
    ExposureExceeded,
    HandlerTimeout,
    IdempotencyConflict,
    MicropaywallError,
    OfferMismatch,
    OutcomeUnknown,
    PayerSuspended,
    PaymentBoundElsewhere,
    PaymentInProgress,
    PaymentRejected,
    PaymentSpent,
    QuoteExpired,
    QuoteInvalid,
    RequestRefused,
)
from micropaywall.ids import RowId, payment_id
from micropaywall.money import Money, Price, parse_price
from micropaywall.observe import events


def serve(site: Site, route: Route, request: Request, credential: Credential) -> Flow:
    """Serve one request that carries a credential. Raises RequestRefused, OutcomeUnknown or Unavailable subclasses."""
    body_read = False
    if route.price_reads_body or route.bind_body:
        request.body = yield ReadBody(route.max_body)
        body_read = True
    price = yield from price_of(route, request)
    if price is None:
        handled = yield RunHandler(route.timeout_s, {})
        if handled.response is None:
            yield Stream(None)
        return Answer(handled.response, None, credential.dialect, served=True)
    now_ms, fresh_payment, fresh_charge = yield NewIds()
    refused: RequestRefused | None = None
    try:
        rail, offer, quote = match_offer(site, route, price, request, credential, now_s=now_ms // 1000)
        verified = rail.verify(offer, credential, now_s=now_ms // 1000)
        check_binding(route, verified, quote)
    except (OfferMismatch, QuoteInvalid, QuoteExpired, AuthorizationExpired) as error:
        # Prices, quotes and clocks move on while an outcome is open: what the book knows already is answered from it.
        verified, offer = yield from _known(site, route, price, credential, error)
        refused = error
    if not body_read and request.may_have_body:
        request.body = yield ReadBody(route.max_body)
    key = request.header(b"idempotency-key") or b""
    if len(key) > limits.IDEMPOTENCY_KEY_CHARS_MAX:
        raise IdempotencyConflict(
            "the Idempotency-Key is too long", expected=f"at most {limits.IDEMPOTENCY_KEY_CHARS_MAX}"
        )
    reserve = book.Reserve(
        payment_id=fresh_payment,
        charge_id=fresh_charge,
        key=verified.key,
        rail=verified.rail,
        network=verified.network,
        asset=verified.price.asset.id,
        payer=verified.payer,
        payee=verified.payee,
        amount=verified.price.amount_atomic,
        charge_amount=verified.price.amount_atomic,
        mode=route.settle,
        dialect=credential.dialect,
        binding=binding_of(request),
        fingerprint=fingerprint_of(request),
        instruction=verified.instruction,
        valid_before_ms=verified.valid_before * 1000,
        endpoint=route.name,
        url=request.url,
        owner=site.owner,
        now_ms=now_ms,
        lease_until_ms=now_ms + limits.CHARGE_LEASE_S * 1000,
        begin_settle=route.settle == "before" and refused is None,
        settle_lease_ms=now_ms + limits.SETTLE_LEASE_S * 1000,
        exposure_cap=route.exposure_atomic if route.settle == "deferred" else None,
        idempotency_key=key.decode("latin-1"),
    )
    if site.noted_headers and any(name in site.noted_headers for name, _ in request.headers):
        yield NoteRequest(verified.rail, verified.network, verified.key, request.headers)
    answer: book.Answer = yield Book(reserve)
    job = _Job(site, route, reserve, verified, credential, offer.v1_network)
    if isinstance(answer, book.Applied):
        if refused is not None:
            if answer.payment_state is PaymentState.HELD:
                yield from job.give_up(answer)
                raise refused
            # Paid, and not served: what was paid is good for the request that it was quoted for, at no other price.
            if isinstance(refused, QuoteInvalid) or not pays_for(route, offer, verified.price):
                yield from job.give_up(answer)
                raise refusal(book.Foreign("quote or price"), verified)
        return (yield from job.run(answer))
    if isinstance(answer, book.Replayed):
        if site.observed:
            yield Tell(events.Replayed(payment_id=payment_id(verified.key), route=route.name))
        return job.again(answer)
    if isinstance(answer, book.Open):
        return (yield from job.resolve(answer))
    raise refusal(answer, verified)


def _known(
    site: Site, route: Route, price: Price, credential: Credential, refused: RequestRefused
) -> Generator[Effect, Any, tuple[VerifiedPayment, Offer]]:
    """The payment as the book has it, when this very credential was accepted before; raises ``refused`` otherwise."""
    for rail, offer in site.offers(route, price):
        if rail.accepts(credential):
            key, instruction = rail.identify(credential)
            row: book.PaymentRow | None = yield FindPayment(key)
            if row is not None and hmac.compare_digest(row.instruction, instruction):
                known = VerifiedPayment(
                    key=row.key,
                    rail=row.rail,
                    network=row.network,
                    price=Money(row.amount, offer.price.asset),
                    payer=row.payer,
                    payee=row.payee,
                    valid_after=0,
                    valid_before=row.valid_before_ms // 1000,
                    nonce=b"",
                    instruction=row.instruction,
                )
                return known, offer
    raise refused


def price_of(route: Route, request: Request) -> Generator[Effect, Any, Price | None]:
    """The price of this request; None when a price function says that it is free."""
    if isinstance(route.price, Price):
        return route.price
    if route.price_reads_body and request.body is None:
        request.body = yield ReadBody(route.max_body)
    spec: PriceSpec | None = yield AskPrice(route, request)
    return None if spec is None else parse_price(spec)


def refusal(answer: book.Answer, verified: VerifiedPayment) -> MicropaywallError:
    """The typed refusal for a Reserve that was not applied."""
    ident = {"paymentId": payment_id(verified.key)}
    if isinstance(answer, book.Busy):
        return PaymentInProgress(
            "this payment is being served right now; its response will be kept for you",
            hint="Send the same request with the same payment again.",
            retry_after_s=max(limits.RETRY_AFTER_S, -(-answer.retry_after_ms // 1000)),
            facts=ident,
        )
    if isinstance(answer, book.Foreign):
        return PaymentBoundElsewhere(
            "this payment was presented before, for another request or with other contents",
            expected="the request and the credential of its first presentation",
            received=f"a different {answer.field}",
            hint="Sign a new payment for this request.",
            facts=ident,
        )
    if isinstance(answer, book.Spent):
        return PaymentSpent(
            f"this payment is {answer.state.value.replace('_', ' ')}" + (f": {answer.reason}" if answer.reason else ""),
            hint="Sign a new payment.",
            facts=ident,
        )
    if isinstance(answer, book.Denied):
        if answer.why == "exposure":
            return ExposureExceeded(
                "earlier purchases of this payer are not settled yet", retry_after_s=limits.RETRY_AFTER_S, facts=ident
            )
        if answer.why == "suspended":
            return PayerSuspended("an earlier purchase of this payer was never paid", facts=ident)
        return IdempotencyConflict("the Idempotency-Key was used with this credential for another request", facts=ident)
    return OutcomeUnknown("the book gave an answer that does not fit", received=type(answer).__name__, facts=ident)


@dataclass(slots=True)
class _Job:
    """One presentation of a payment that this worker serves."""

    site: Site
    route: Route
    reserve: book.Reserve
    verified: VerifiedPayment
    credential: Credential
    v1_network: str

    def run(self, applied: book.Applied) -> Flow:
        """Handler, capture and settlement in the order of the route's mode."""
        payment_row_id, charge_id = applied.payment_id, applied.charge_id
        if charge_id is None:
            raise OutcomeUnknown("the book reserved no charge", facts=self._ident())
        outcome: Outcome | None = None
        if self.site.observed:
            yield Tell(self._reserved())
        if applied.payment_state is PaymentState.SETTLING:
            outcome = yield from self._settle(self._row(payment_row_id), charge_id, ask_first=False)
        elif applied.payment_state is not PaymentState.HELD:
            outcome = yield from self._moved_before()
        started_ms = self.reserve.now_ms
        try:
            handled: Handled = yield RunHandler(self.route.timeout_s, self._facts(), charge_id)
        except BaseException as error:
            yield from self._release(payment_row_id, charge_id, "handler_failed", None)
            if isinstance(error, TimeoutError):
                raise HandlerTimeout(
                    f"the resource did not answer within {self.route.timeout_s:g} s; nothing was charged",
                    facts=self._ident(),
                ) from None
            raise
        if handled.status >= 400:
            yield from self._release(payment_row_id, charge_id, "handler_refused", handled.status)
            if handled.response is None:
                yield Stream(None)
            return Answer(handled.response, None, self.credential.dialect, served=False)
        now_ms: int = yield Now()
        lasts_until_ms = self.reserve.valid_before_ms - limits.DEFERRED_MARGIN_S * 1000
        if self.route.settle == "deferred" and outcome is None and now_ms > lasts_until_ms:
            # Delivering it would be giving it away: nobody could settle the payment any more.
            yield from self._release(payment_row_id, charge_id, "expired", None)
            raise AuthorizationExpired(
                "the payment's authorization ran out while the resource was made; nothing was charged",
                expected=f"a validBefore later than the answer, by {limits.DEFERRED_MARGIN_S} s",
                facts=self._ident(),
            )
        settle_now = self.route.settle == "after" and applied.payment_state is PaymentState.HELD
        captured: book.Answer = yield Book(
            book.Capture(
                charge_id=charge_id,
                payment_id=payment_row_id,
                amount=self.reserve.charge_amount,
                owner=self.site.owner,
                now_ms=now_ms,
                response=handled.response,
                latency_ms=now_ms - started_ms,
                begin_settle=settle_now,
                settle_lease_ms=now_ms + limits.SETTLE_LEASE_S * 1000,
                settle_due_ms=now_ms if self.route.settle == "deferred" else None,
            )
        )
        if not isinstance(captured, book.Applied):
            raise HandlerTimeout(
                "the resource took longer than the payment was reserved for; nothing was charged", facts=self._ident()
            )
        if settle_now:
            outcome = yield from self._settle(self._row(payment_row_id), charge_id, ask_first=False)
        receipt = self._receipt(outcome)
        if self.site.observed:
            yield Tell(self._served(handled.status, now_ms - started_ms))
        if handled.response is None:
            kept: StoredResponse | None = yield Stream(receipt)
            now_ms = yield Now()
            yield Book(book.Delivered(charge_id=charge_id, now_ms=now_ms, response=kept))
        return Answer(handled.response, receipt, self.credential.dialect, served=True)

    def again(self, replayed: book.Replayed) -> Answer:
        """The stored response of an earlier, identical presentation."""
        if replayed.response is None:
            raise PaymentSpent(
                "this payment was served; the response was too large to keep, or its retention is over",
                facts=self._ident(),
            )
        return Answer(
            replayed.response, receipt_of(replayed.payment, self.v1_network), self.credential.dialect, served=True
        )

    def resolve(self, open_: book.Open) -> Flow:
        """An earlier presentation was handled and its settlement has no verdict: ask the rail, then answer from the store."""
        now_ms: int = yield Now()
        payment = open_.payment
        began: book.Answer = yield Book(
            book.BeginSettle(
                payment_id=payment.id,
                owner=self.site.owner,
                now_ms=now_ms,
                lease_until_ms=now_ms + limits.SETTLE_LEASE_S * 1000,
            )
        )
        if isinstance(began, book.Applied):
            yield from self._settle(payment, open_.charge.id, ask_first=True)
        elif isinstance(began, book.Lost) and began.state in (PaymentState.SETTLED, PaymentState.FINAL):
            pass
        else:
            raise refusal(book.Busy(payment.id, limits.RETRY_AFTER_S * 1000), self.verified)
        response: StoredResponse | None = yield FindResponse(open_.charge.id)
        if response is None:
            raise PaymentSpent("this payment was served; the response is not kept any more", facts=self._ident())
        return Answer(response, self._receipt((yield from self._moved_before())), self.credential.dialect, served=True)

    def give_up(self, applied: book.Applied) -> Generator[Effect, Any, None]:
        """Undo a reservation that must not be served."""
        if applied.charge_id is not None:
            yield from self._release(applied.payment_id, applied.charge_id, "refused", None)

    def _moved_before(self) -> Generator[Effect, Any, Outcome | None]:
        row: book.PaymentRow | None = yield FindPayment(self.reserve.key)
        if row is None or row.state not in (PaymentState.SETTLED, PaymentState.FINAL):
            return None
        return Settled(row.transaction, row.amount, row.block, row.state is PaymentState.FINAL)

    def _settle(
        self, payment: book.PaymentRow, charge_id: RowId, *, ask_first: bool
    ) -> Generator[Effect, Any, Outcome]:
        outcome: Outcome = yield Settle(payment, ask_first)
        now_ms: int = yield Now()
        ended: book.Answer | None = None
        # While the call goes on the lease is kept, so that nobody else submits; the settler records what comes of it.
        if not (isinstance(outcome, Unknown) and outcome.doubt == "in_flight"):
            ended = yield Book(
                book.EndSettle(
                    payment_id=payment.id,
                    owner=self.site.owner,
                    now_ms=now_ms,
                    outcome=outcome,
                    retry_ms=now_ms + int(limits.SETTLE_RETRY_S_MIN * 1000) if isinstance(outcome, Unknown) else None,
                )
            )
        if isinstance(outcome, Settled):
            return outcome
        if isinstance(ended, book.Lost) and ended.state in (PaymentState.SETTLED, PaymentState.FINAL):
            return Settled("", payment.amount)
        if self.route.settle == "before":
            # The charge is still reserved: give it back, so that a retry can draw it once the money has moved.
            yield from self._release(payment.id, charge_id, "payment_rejected", None)
        if isinstance(outcome, Rejected):
            raise PaymentRejected(
                f"the payment did not settle: {outcome.detail or outcome.code}",
                received=outcome.code,
                hint="Nothing was charged. Check balance and validity, then sign a new payment.",
                facts=self._ident(),
            )
        if isinstance(outcome, Unknown):
            raise OutcomeUnknown(
                f"whether the payment settled is not known yet ({outcome.detail})",
                hint="Send the same request with the same payment again. Do not sign a new one.",
                retry_after_s=limits.RETRY_AFTER_S,
                facts=self._ident(),
            )
        assert_never(outcome)

    def _release(
        self, payment_row_id: RowId, charge_id: RowId, reason: str, status: int | None
    ) -> Generator[Effect, Any, None]:
        now_ms: int = yield Now()
        yield Book(
            book.Release(
                charge_id=charge_id,
                payment_id=payment_row_id,
                owner=self.site.owner,
                now_ms=now_ms,
                reason=reason,
                response_status=status,
            )
        )
        if self.site.observed:
            ident = payment_id(self.verified.key)
            yield Tell(events.Released(payment_id=ident, route=self.route.name, reason=reason, status=status))

    def _row(self, payment_row_id: RowId) -> book.PaymentRow:
        r = self.reserve
        return book.PaymentRow(
            id=payment_row_id,
            key=r.key,
            state=PaymentState.SETTLING,
            rail=r.rail,
            network=r.network,
            asset=r.asset,
            payer=r.payer,
            payee=r.payee,
            amount=r.amount,
            drawn=r.charge_amount,
            refunded=0,
            mode=r.mode,
            dialect=r.dialect,
            binding=r.binding,
            instruction=r.instruction,
            valid_before_ms=r.valid_before_ms,
            created_ms=r.now_ms,
        )

    def _receipt(self, outcome: Outcome | None) -> Receipt:
        settled = isinstance(outcome, Settled)
        return Receipt(
            payment_id=payment_id(self.verified.key),
            settled=settled,
            payer=self.verified.payer,
            network=self.verified.network,
            transaction=outcome.transaction if isinstance(outcome, Settled) else "",
            amount_atomic=self.verified.price.amount_atomic,
            v1_network=self.v1_network,
        )

    def _reserved(self) -> events.Event:
        reserve = self.reserve
        return events.Reserved(
            payment_id=payment_id(reserve.key),
            route=self.route.name,
            rail=reserve.rail,
            payer=reserve.payer,
            amount_atomic=reserve.charge_amount,
            asset=reserve.asset,
        )

    def _served(self, status: int, latency_ms: int) -> events.Event:
        return events.Served(
            payment_id=payment_id(self.reserve.key),
            route=self.route.name,
            status=status,
            amount_atomic=self.reserve.charge_amount,
            asset=self.reserve.asset,
            latency_ms=latency_ms,
        )

    def _facts(self) -> dict[str, str]:
        reserve = self.reserve
        return {
            "paymentId": payment_id(reserve.key),
            "payer": reserve.payer,
            "amount": str(reserve.charge_amount),
            "asset": reserve.asset,
            "network": reserve.network,
        }

    def _ident(self) -> dict[str, str]:
        return {"paymentId": payment_id(self.verified.key)}


def receipt_of(payment: book.PaymentRow, v1_network: str) -> Receipt:
    """The receipt of a payment as the book has it."""
    return Receipt(
        payment_id=payment_id(payment.key),
        settled=payment.state in (PaymentState.SETTLED, PaymentState.FINAL),
        payer=payment.payer,
        network=payment.network,
        transaction=payment.transaction,
        amount_atomic=payment.amount,
        v1_network=v1_network,
    )
