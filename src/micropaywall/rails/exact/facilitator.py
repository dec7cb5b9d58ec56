"""How an EIP-3009 payment is judged: one order of checks for whoever settles, with the reason codes of x402.

The seller judges before it serves; the sandbox network and later the chain's facilitator judge again before they move
value. Order and codes are those of the official SDKs (PyPI x402 2.25.0, mechanisms/evm/exact/facilitator.py):

    payee -> amount -> window -> signature

What only the network knows (balance, nonce used, code at the payer's address) comes after, and is not judged here.
Every refusal carries its code as ``facts["x402Reason"]``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from micropaywall.crypto.address import to_checksum
from micropaywall.crypto.secp256k1 import SIGNATURE_BYTES, recover_address_bytes
from micropaywall.errors import (
    AuthorizationExpired,
    AuthorizationNotYetValid,
    MicropaywallError,
    OfferMismatch,
    SignatureInvalid,
)
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX, AUTHORIZATION_MARGIN_S, SIGNERS_REMEMBERED_MAX
from micropaywall.rails.exact.types import Authorization, Token

__all__ = [
    "INSUFFICIENT_BALANCE",
    "NETWORK_MISMATCH",
    "NONCE_ALREADY_USED",
    "PAYEE_MISMATCH",
    "REASON",
    "SETTLEMENT_PENDING",
    "SIGNATURE",
    "TRANSACTION_FAILED",
    "UNSUPPORTED_SCHEME",
    "VALID_AFTER",
    "VALID_BEFORE",
    "VALUE_MISMATCH",
    "canonical_reason",
    "check_amount",
    "check_payee",
    "check_signature",
    "check_window",
    "reason_of",
    "verify",
]

REASON: Final = "x402Reason"
"""The member of `MicropaywallError.facts` that holds the x402 reason code."""

UNSUPPORTED_SCHEME: Final = "unsupported_scheme"
NETWORK_MISMATCH: Final = "network_mismatch"
PAYEE_MISMATCH: Final = "invalid_exact_evm_payload_recipient_mismatch"
VALUE_MISMATCH: Final = "invalid_exact_evm_payload_authorization_value_mismatch"
VALID_BEFORE: Final = "invalid_exact_evm_payload_authorization_valid_before"
VALID_AFTER: Final = "invalid_exact_evm_payload_authorization_valid_after"
SIGNATURE: Final = "invalid_exact_evm_payload_signature"
NONCE_ALREADY_USED: Final = "invalid_exact_evm_nonce_already_used"
INSUFFICIENT_BALANCE: Final = "invalid_exact_evm_insufficient_balance"
TRANSACTION_FAILED: Final = "transaction_failed"
SETTLEMENT_PENDING: Final = "settlement_pending"

_CANONICAL: Final = {
    "invalid_exact_evm_scheme": UNSUPPORTED_SCHEME,
    "invalid_scheme": UNSUPPORTED_SCHEME,
    "invalid_exact_evm_network_mismatch": NETWORK_MISMATCH,
    "invalid_network": NETWORK_MISMATCH,
    "invalid_exact_evm_missing_eip712_domain": "missing_eip712_domain",
    "invalid_exact_evm_recipient_mismatch": PAYEE_MISMATCH,
    "invalid_exact_evm_authorization_value": VALUE_MISMATCH,
    "invalid_exact_evm_payload_authorization_value": VALUE_MISMATCH,
    "invalid_exact_evm_signature": SIGNATURE,
    "invalid_exact_evm_failed_to_parse_signature": SIGNATURE,
    "invalid_exact_evm_failed_to_verify_signature": SIGNATURE,
    "invalid_exact_evm_transaction_failed": TRANSACTION_FAILED,
    "insufficient_funds": INSUFFICIENT_BALANCE,
}
"""Spellings of the TypeScript SDK and of the core specification -> the one that we write (the Python SDK's)."""


def canonical_reason(code: str) -> str:
    """One spelling for the reason codes that the SDKs spell differently; an unknown code stays as it is."""
    return _CANONICAL.get(code, code)


def reason_of(error: MicropaywallError) -> str:
    """The x402 reason code of a refusal, or "invalid_payload" when it carries none."""
    reason = error.facts.get(REASON)
    return reason if isinstance(reason, str) else "invalid_payload"


def verify(
    token: Token,
    authorization: Authorization,
    signature: bytes,
    *,
    chain_id: int,
    payee: bytes,
    value: int,
    now_s: int,
    margin_s: int = AUTHORIZATION_MARGIN_S,
    lifetime_max_s: int = AUTHORIZATION_LIFETIME_S_MAX,
) -> None:
    """Judge an authorization against what was offered, or raise: OfferMismatch (payee, amount, too long a life),
    AuthorizationExpired, AuthorizationNotYetValid, SignatureInvalid.

    ``chain_id`` is the one that the payer signed for. ``margin_s``: how long it must still be valid, to be submitted in
    time. ``lifetime_max_s``: how far ahead it may end, because value promised for ever is never written off.
    """
    check_payee(authorization, payee)
    check_amount(authorization, value)
    check_window(authorization, now_s=now_s, margin_s=margin_s, lifetime_max_s=lifetime_max_s)
    check_signature(token, authorization, signature, chain_id=chain_id)


def check_payee(authorization: Authorization, payee: bytes) -> None:
    """The money goes to ``payee`` (20 bytes)."""
    if authorization.payee != payee:
        raise OfferMismatch(
            "the payment goes to another payee",
            expected=to_checksum(payee),
            received=to_checksum(authorization.payee),
            facts={REASON: PAYEE_MISMATCH},
        )


def check_amount(authorization: Authorization, value: int) -> None:
    """The amount is exactly ``value`` atomic units: `exact` knows no change and no tip."""
    if authorization.value != value:
        raise OfferMismatch(
            "the payment has another amount",
            expected=str(value),
            received=str(authorization.value),
            facts={REASON: VALUE_MISMATCH},
        )


def check_window(authorization: Authorization, *, now_s: int, margin_s: int, lifetime_max_s: int) -> None:
    """The authorization is valid now, for ``margin_s`` more seconds at least and ``lifetime_max_s`` at most."""
    if authorization.valid_before < now_s + margin_s:
        raise AuthorizationExpired(
            "the payment's authorization has expired, or expires before it can be settled",
            expected=f"validBefore of {now_s + margin_s} or later",
            received=str(authorization.valid_before),
            hint="Sign a new payment, unless this one may still be settled; then ask for its outcome first.",
            facts={REASON: VALID_BEFORE},
        )
    if authorization.valid_after >= now_s:  # the token wants block time > validAfter
        raise AuthorizationNotYetValid(
            "the payment's authorization is not valid yet",
            expected=f"validAfter before {now_s}",
            received=str(authorization.valid_after),
            hint="Check the clock of the payer.",
            facts={REASON: VALID_AFTER},
        )
    if authorization.valid_before > now_s + lifetime_max_s:
        raise OfferMismatch(
            "the payment's authorization stays valid for too long",
            expected=f"validBefore of {now_s + lifetime_max_s} or earlier",
            received=str(authorization.valid_before),
            hint="Sign for the offer's maxTimeoutSeconds.",
            facts={REASON: VALID_BEFORE},
        )


@lru_cache(maxsize=SIGNERS_REMEMBERED_MAX)
def _signer(digest: bytes, signature: bytes) -> bytes:
    """Remembered, because the seller asks and then the network's side in the same process: who signed what does not change."""
    return recover_address_bytes(digest, signature)


def check_signature(token: Token, authorization: Authorization, signature: bytes, *, chain_id: int) -> None:
    """The payer signed exactly this, for this token on ``chain_id``; as the token's contract would check it."""
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureInvalid(
            "the signature does not have the 65 bytes of an ordinary account; signatures of contract wallets "
            "(ERC-1271, ERC-6492) cannot be checked here",
            expected="65 bytes: r, low s, v of 27 or 28",
            received=f"{len(signature)} bytes",
            hint="Pay from an ordinary account (EOA).",
            facts={REASON: SIGNATURE},
        )
    try:
        signer = _signer(token.digest(authorization, chain_id), signature)
    except SignatureInvalid as error:
        error.facts[REASON] = SIGNATURE
        raise
    if signer != authorization.payer:
        raise SignatureInvalid(
            "the signature is not the payer's for this token, network, amount, payee, window and nonce",
            expected=f"a signature by {to_checksum(authorization.payer)} for {token.name} {token.version} on {chain_id}",
            received="a signature of something else, or by somebody else",
            facts={REASON: SIGNATURE},
        )
