"""What an answer to a paid request means: delivered, refused, the resource's own failure, or no verdict yet. Pure.

Two kinds of seller answer. Ours write RFC 9457 problems that say whether money moved. Others (the official x402 servers)
answer a plain 402, sometimes with a receipt that names a reason, and say "failed" for outcomes that they do not know: so
only reasons that cannot follow a submitted transfer are taken as "no money moved".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from micropaywall import limits
from micropaywall.core.model import Headers, Receipt
from micropaywall.errors import PROBLEM_BASE, MoneyMoved
from micropaywall.proto.x402.receipt import read_receipt

__all__ = [
    "Delivered",
    "Failed",
    "Open",
    "Refused",
    "StatusWord",
    "Verdict",
    "judge",
    "plain_text",
    "read_status",
    "retry_after_s",
]


@dataclass(frozen=True, slots=True)
class Delivered:
    """The resource came."""

    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The seller refused the payment. ``code`` is its word for why; ``untrusted`` its text for people, cut and cleaned."""

    code: str
    moved: MoneyMoved
    status: int
    untrusted: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The resource itself answered with an error: the caller gets that answer."""

    status: int
    moved: MoneyMoved


@dataclass(frozen=True, slots=True)
class Open:
    """No verdict. ``resend``: the same payment may get one when it is sent again, after ``wait_s`` (None: nothing said).

    ``own``: the answer is the resource's own error rather than a word about the payment.
    """

    code: str
    status: int
    resend: bool
    wait_s: float | None = None
    own: bool = False
    untrusted: str = ""


Verdict = Delivered | Refused | Failed | Open

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "QUERY"})
"""Methods that mean the same when repeated (RFC 9110 section 9.2.2)."""
_GATEWAY: Final = frozenset({502, 503, 504})
_DEFINITE: Final = re.compile(
    r"invalid_(?!transaction_state|exact_evm_transfer_event_mismatch)|insufficient_|unsupported_|missing_eip712|"
    r"network_mismatch|permit2_|eip2612_|erc20_approval_|eip6492_|asset_not_deployed|transaction_failed|"
    r"smart_wallet_deployment_failed|balance_check_failed|extension_echo_mismatch|no matching payment"
)
"""x402 reasons after which nothing can have moved by this presentation: refused before submission, or reverted."""
_MOVED_BEFORE: Final = re.compile(r"nonce_already_used|nonce_used|already_used|duplicate_settlement")
"""x402 reasons that mean: this very authorization was settled, or is being settled, by another presentation."""
_ASK_FIRST: Final = frozenset({"payment_spent", "payment_bound_elsewhere"})
"""Our sellers' refusals of one presentation that say nothing of what the payment itself came to."""


def judge(method: str, status: int, headers: Headers, body: bytes | None, *, doubtful: bool) -> Verdict:
    """The meaning of an answer. ``body`` is its decoded beginning, or None where it was not read or is too long.

    ``doubtful``: the payment was sent before without a verdict, so that a refusal of this presentation proves nothing.
    """
    if status < 400:
        return Delivered(read_receipt(headers))
    problem = _problem(body)
    if problem is not None:
        return _judge_problem(problem, status, headers, doubtful=doubtful)
    receipt = read_receipt(headers)
    if status == 402:
        return _judge_402(receipt, body, doubtful=doubtful)
    if status >= 500:
        resend = status in _GATEWAY or method in _SAFE_METHODS
        return Open(f"status_{status}", status, resend=resend, wait_s=retry_after_s(headers), own=True)
    if receipt is not None and receipt.settled:
        return Failed(status, "yes")
    return Failed(status, "unknown" if doubtful else "no")


def _judge_problem(problem: Mapping[str, Any], status: int, headers: Headers, *, doubtful: bool) -> Verdict:
    code = _code(problem.get("code"))
    moved = problem.get("moneyMoved")
    text = plain_text(problem.get("detail"))
    wait = retry_after_s(headers)
    if wait is None and isinstance(problem.get("retryAfter"), int):
        wait = _bounded(problem["retryAfter"])
    if code in _ASK_FIRST or moved not in get_args(MoneyMoved) or (status == 402 and moved == "unknown"):
        return Open(code, status, resend=False, untrusted=text)
    if status != 402 and (moved == "unknown" or problem.get("retryable") is True):
        return Open(code, status, resend=True, wait_s=wait, untrusted=text)
    if doubtful and moved == "no":
        return Open(code, status, resend=False, untrusted=text)
    return Refused(code, cast("MoneyMoved", moved), status, text)


def _judge_402(receipt: Receipt | None, body: bytes | None, *, doubtful: bool) -> Verdict:
    """A 402 of a foreign seller. A new price after a payment is a refusal, never a reason to pay again."""
    if receipt is None or not receipt.reason:
        text = _error_text(body)
        if doubtful or (receipt is not None and receipt.settled):
            return Open("payment_required", 402, resend=False, untrusted=text)
        return Refused("payment_required", "no", 402, text)
    reason = plain_text(receipt.reason)
    if _MOVED_BEFORE.search(reason):
        return Open(reason, 402, resend=False)
    if _DEFINITE.match(reason.lower()) and not doubtful:
        return Refused(reason, "no", 402)
    return Open(reason, 402, resend=reason == "settlement_pending", wait_s=None)


def _problem(body: bytes | None) -> Mapping[str, Any] | None:
    """A problem document of ours, or None."""
    document = _object(body)
    kind = None if document is None else document.get("type")
    return document if isinstance(kind, str) and kind.startswith(PROBLEM_BASE) else None


def _error_text(body: bytes | None) -> str:
    document = _object(body)
    return "" if document is None else plain_text(document.get("error"))


def _object(body: bytes | None) -> dict[str, Any] | None:
    if not body:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _code(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch(r"[a-z0-9_]{1,64}", value) else "refused"


def plain_text(value: object) -> str:
    """A stranger's text as it may be kept: printable, one line, at most UNTRUSTED_CHARS_MAX characters; else ""."""
    if not isinstance(value, str):
        return ""
    return "".join(c if c.isprintable() else " " for c in value[: limits.UNTRUSTED_CHARS_MAX])


def retry_after_s(headers: Headers) -> float | None:
    """The seconds in Retry-After, within RESEND_WAIT_S_MAX; None when there are none.

    An HTTP date is read as the longest wait: clocks differ, and a re-send that comes late costs nothing.
    """
    for name, value in headers:
        if name == b"retry-after":
            text = value.strip()
            if text.isdigit() and len(text) <= 9:
                return _bounded(int(text))
            return limits.RESEND_WAIT_S_MAX if text else None
    return None


def _bounded(seconds: int) -> float:
    return min(max(float(seconds), 0.0), limits.RESEND_WAIT_S_MAX)


# -- GET /payments/{id} -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusWord:
    """What a seller says of a payment when asked.

    ``delivered``: a response was made and is kept or was sent. ``busy``: it is being served right now.
    """

    moved: MoneyMoved
    delivered: bool
    busy: bool
    state: str
    transaction: str


def read_status(status: int, body: bytes | None, payment_id: str) -> StatusWord | None:
    """The seller's word on ``payment_id``, or None when it has none: no such service, or nothing that can be read.

    "No such payment" (404 of ours) is a word: the seller never took it.
    """
    document = _object(body)
    if document is None:
        return None
    if status == 404:
        known = document.get("type") == f"{PROBLEM_BASE}payment_not_found"
        return StatusWord("no", delivered=False, busy=False, state="not_found", transaction="") if known else None
    moved = document.get("moneyMoved")
    charges = document.get("charges")
    if status != 200 or document.get("paymentId") != payment_id or moved not in get_args(MoneyMoved):
        return None
    states = [c.get("state") for c in charges if isinstance(c, dict)] if isinstance(charges, list) else []
    return StatusWord(
        cast("MoneyMoved", moved),
        delivered="captured" in states,
        busy="reserved" in states,
        state=plain_text(document.get("state")),
        transaction=plain_text(document.get("transaction")),
    )
