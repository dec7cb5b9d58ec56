"""Every refusal and failure of micropaywall, as one closed tree.

Each class has a stable ``code`` (unique, asserted by a test), the HTTP ``status`` a seller answers with, the guilty
``side``, whether the same request may be repeated as it is (``retryable``) and whether money moved.

    MicropaywallError
    ├── ConfigurationError              the operator must change a setting
    │   ├── PriceError                  a price that cannot be read, or has too many decimals
    │   └── RailError                   a rail that is unknown, broken or not installed
    ├── RequestRefused                  the seller's answer to a buyer; always rendered as RFC 9457
    │   ├── AmbiguousPath               a path that could mean two resources
    │   ├── RequestBodyTooLarge
    │   ├── CredentialMalformed         not readable as what the header claims
    │   ├── CredentialsConflict         two payment headers that differ
    │   ├── OfferMismatch               a payment for something this route does not offer
    │   ├── QuoteInvalid                a quote we did not write, or for another request
    │   ├── QuoteExpired
    │   ├── SignatureInvalid
    │   ├── AuthorizationNotYetValid
    │   ├── AuthorizationExpired
    │   ├── PaymentBoundElsewhere       already presented for another request
    │   ├── PaymentSpent                used up, void, failed or refunded
    │   ├── PaymentInProgress           another presentation of it is being served
    │   ├── IdempotencyConflict         the key was used for another request
    │   ├── PaymentRejected             the rail says it will never move
    │   ├── PayerSuspended
    │   ├── ExposureExceeded            too much delivered and not yet settled for this payer
    │   ├── PaymentNotFound
    │   └── HandlerTimeout              the seller's handler did not answer in time
    ├── OutcomeUnknown                  ask again with the same payment; never sign anew
    ├── Unavailable                     store or queue cannot take the request now
    │   ├── StoreUnavailable
    │   └── Overloaded
    ├── LedgerError
    │   ├── LedgerCorrupt               the book does not add up, or the hash chain is broken
    │   ├── LedgerInUse                 another host owns this SQLite book
    │   └── RefundRefused
    └── BuyerError                      raised to the program that wanted to buy
        ├── PolicyRefused               nothing was signed
        │   ├── BudgetExceeded
        │   ├── ApprovalDenied
        │   ├── HostDenied
        │   ├── AddressDenied           private, loopback or link-local address
        │   ├── InsecureTransport
        │   ├── PayeeChanged
        │   ├── KillSwitchOn
        │   └── CrossOriginPayment
        ├── ChallengeInvalid            a 402 that cannot be read or has no offer that we can pay
        │   └── NoAcceptableOffer
        ├── PaymentNotAccepted          the seller refused what was signed
        ├── PaymentOutcomeUnknown       sent, no verdict yet; journaled and held
        ├── ResponseTooLarge
        ├── RequestNotReplayable        its body cannot be sent twice, so it cannot be paid for
        └── WalletError
            ├── KeystoreInvalid
            ├── PassphraseWrong
            └── SignatureRefused        typed data that the signer does not recognise
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

Side = Literal["buyer", "seller", "rail", "operator"]
MoneyMoved = Literal["yes", "no", "unknown"]

PROBLEM_BASE = "https://micropaywall.dev/problems/"
"""RFC 9457 ``type`` is this plus the code; the same names are the anchors of ``docs/reference/errors.md``."""


class MicropaywallError(Exception):
    """Something that micropaywall refuses or cannot do; subclasses say what.

    ``detail`` is one sentence for people. ``expected`` and ``received`` name what was looked for and what came;
    ``hint`` says what to do next. None of them may hold a secret.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    side: ClassVar[Side] = "seller"
    retryable: ClassVar[bool] = False
    money_moved: ClassVar[MoneyMoved] = "no"

    def __init__(
        self,
        detail: str = "",
        *,
        expected: object = None,
        received: object = None,
        hint: str | None = None,
        retry_after_s: int | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.expected = expected
        self.received = received
        self.hint = hint
        self.retry_after_s = retry_after_s
        self.facts: dict[str, Any] = dict(facts or {})

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 members of this error, ready for JSON."""
        members: dict[str, Any] = {
            "type": PROBLEM_BASE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "side": self.side,
            "retryable": self.retryable,
            "moneyMoved": self.money_moved,
        }
        if self.expected is not None:
            members["expected"] = self.expected
        if self.received is not None:
            members["received"] = self.received
        if self.hint is not None:
            members["hint"] = self.hint
        if self.retry_after_s is not None:
            members["retryAfter"] = self.retry_after_s
        members.update(self.facts)
        return members


# -- configuration ----------------------------------------------------------------------------------------------------


class ConfigurationError(MicropaywallError):
    code, status, title, side = "configuration_invalid", 500, "The configuration is not usable", "operator"


class PriceError(ConfigurationError):
    code, title = "price_invalid", "The price cannot be used"


class RailError(ConfigurationError):
    code, title = "rail_unusable", "A payment rail cannot be used"


# -- the seller's refusals --------------------------------------------------------------------------------------------


class RequestRefused(MicropaywallError):
    code, status, title = "request_refused", 400, "The request was refused"
    side: ClassVar[Side] = "buyer"


class AmbiguousPath(RequestRefused):
    code, status, title = "path_ambiguous", 400, "The path could mean more than one resource"


class RequestBodyTooLarge(RequestRefused):
    code, status, title = "request_body_too_large", 413, "The request body is larger than this route accepts"


class CredentialMalformed(RequestRefused):
    code, status, title = "credential_malformed", 400, "The payment could not be read"


class CredentialsConflict(RequestRefused):
    code, status, title = "credentials_conflict", 400, "The request carries payments that differ"


class OfferMismatch(RequestRefused):
    code, status, title = "offer_mismatch", 402, "The payment does not match an offer of this resource"


class QuoteInvalid(RequestRefused):
    code, status, title = "quote_invalid", 402, "The quote was not written for this request"


class QuoteExpired(RequestRefused):
    code, status, title = "quote_expired", 402, "The quote has expired"


class SignatureInvalid(RequestRefused):
    code, status, title = "signature_invalid", 402, "The signature is not the payer's"


class AuthorizationNotYetValid(RequestRefused):
    code, status, title = "authorization_not_yet_valid", 402, "The authorization is not valid yet"


class AuthorizationExpired(RequestRefused):
    code, status, title = "authorization_expired", 402, "The authorization has expired"


class PaymentBoundElsewhere(RequestRefused):
    code, status, title = "payment_bound_elsewhere", 409, "The payment was presented for another request"


class PaymentSpent(RequestRefused):
    code, status, title = "payment_spent", 402, "The payment cannot be used any more"


class PaymentInProgress(RequestRefused):
    code, status, title = "payment_in_progress", 409, "The same payment is being served right now"
    retryable, money_moved = True, "unknown"


class IdempotencyConflict(RequestRefused):
    code, status, title = "idempotency_conflict", 409, "The idempotency key was used for another request"


class PaymentRejected(RequestRefused):
    code, status, title = "payment_rejected", 402, "The payment will not settle"


class PayerSuspended(RequestRefused):
    code, status, title = "payer_suspended", 403, "This payer is suspended"


class ExposureExceeded(RequestRefused):
    code, status, title = "exposure_exceeded", 429, "Too much is delivered and not yet settled for this payer"
    retryable = True


class PaymentNotFound(RequestRefused):
    code, status, title = "payment_not_found", 404, "No such payment for this credential"


class HandlerTimeout(RequestRefused):
    code, status, title, side = "handler_timeout", 504, "The resource did not answer in time", "seller"
    retryable = True


# -- not a verdict ----------------------------------------------------------------------------------------------------


class OutcomeUnknown(MicropaywallError):
    code, status, title, side = "outcome_unknown", 503, "The outcome of the payment is not known yet", "rail"
    retryable, money_moved = True, "unknown"


class Unavailable(MicropaywallError):
    code, status, title, side = "unavailable", 503, "Not available right now", "seller"
    retryable = True


class StoreUnavailable(Unavailable):
    code, title = "store_unavailable", "The book cannot be written right now"


class Overloaded(Unavailable):
    code, title = "overloaded", "Too many requests are waiting"


# -- the book ---------------------------------------------------------------------------------------------------------


class LedgerError(MicropaywallError):
    code, status, title, side = "ledger_error", 500, "The book refused", "operator"


class LedgerCorrupt(LedgerError):
    code, title = "ledger_corrupt", "The book does not add up"


class LedgerInUse(LedgerError):
    code, title = "ledger_in_use", "Another host uses this SQLite book"


class RefundRefused(LedgerError):
    code, status, title = "refund_refused", 409, "The refund is not possible"


# -- the buyer --------------------------------------------------------------------------------------------------------


class BuyerError(MicropaywallError):
    code, status, title = "buyer_error", 0, "The purchase did not happen"
    side: ClassVar[Side] = "buyer"


class PolicyRefused(BuyerError):
    code, title = "policy_refused", "The policy does not allow this payment"


class BudgetExceeded(PolicyRefused):
    code, title = "budget_exceeded", "The payment would exceed a budget"


class ApprovalDenied(PolicyRefused):
    code, title = "approval_denied", "The payment was not approved"


class HostDenied(PolicyRefused):
    code, title = "host_denied", "Payments to this host are not allowed"


class AddressDenied(PolicyRefused):
    code, title = "address_denied", "Connections to this address are not allowed"


class InsecureTransport(PolicyRefused):
    code, title = "insecure_transport", "Payments need HTTPS"


class PayeeChanged(PolicyRefused):
    code, title = "payee_changed", "A known host asks for payment to a new address"


class KillSwitchOn(PolicyRefused):
    code, title = "kill_switch_on", "All payments are stopped"


class CrossOriginPayment(PolicyRefused):
    code, title = "cross_origin_payment", "The request was redirected to another origin"


class ChallengeInvalid(BuyerError):
    code, title, side = "challenge_invalid", "The 402 answer cannot be read", "seller"


class NoAcceptableOffer(ChallengeInvalid):
    code, title = "no_acceptable_offer", "None of the offers can be paid"


class PaymentNotAccepted(BuyerError):
    code, title, side = "payment_not_accepted", "The seller refused the payment", "seller"


class PaymentOutcomeUnknown(BuyerError):
    code, title, side = "payment_outcome_unknown", "The payment was sent and its outcome is not known", "rail"
    retryable, money_moved = True, "unknown"


class ResponseTooLarge(BuyerError):
    code, title, side = "response_too_large", "The answer is larger than allowed", "seller"


class RequestNotReplayable(BuyerError):
    code, title = "request_not_replayable", "The request cannot be sent twice"


class WalletError(BuyerError):
    code, title = "wallet_error", "The wallet cannot be used"


class KeystoreInvalid(WalletError):
    code, title = "keystore_invalid", "The keystore file cannot be read"


class PassphraseWrong(WalletError):
    code, title = "passphrase_wrong", "The passphrase does not open the keystore"


class SignatureRefused(WalletError):
    code, title = "signature_refused", "The signer does not sign this"


def all_errors() -> dict[str, type[MicropaywallError]]:
    """Every class of the tree by its code; raises AssertionError when a code is used twice."""
    found: dict[str, type[MicropaywallError]] = {}

    def visit(cls: type[MicropaywallError]) -> None:
        if cls.code in found:
            raise AssertionError(f"error code {cls.code!r} is used by {found[cls.code].__name__} and {cls.__name__}")
        found[cls.code] = cls
        for child in cls.__subclasses__():
            visit(child)

    visit(MicropaywallError)
    return found
