"""Trouble on request: the named faults of the sandbox network.

A fault is written ``name`` or ``name=argument``. It is given by configuration or a flag (then it meets every payment) or in a
request's ``Sandbox-Fault`` header (then it meets that request's payment). Only the sandbox honours any of them.
``docs/reference/sandbox-faults.md`` is generated from this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Final

from micropaywall import limits
from micropaywall.errors import ConfigurationError, RequestRefused

__all__ = [
    "HEADER",
    "Fault",
    "FaultName",
    "FaultState",
    "Strikes",
    "parse_fault",
    "parse_faults",
    "parse_header",
]

HEADER: Final = b"sandbox-fault"
"""The request header, lower case. Several faults are separated by commas."""


class Strikes(Enum):
    """How often a fault meets one payment."""

    ONCE = "once"
    COUNTED = "as often as the argument says"
    ALWAYS = "every time"


@dataclass(frozen=True, slots=True)
class Argument:
    """What may follow the ``=``: a number between ``least`` and ``most``, or a word; ``default`` when nothing does."""

    unit: str
    default: str
    least: Decimal = Decimal(0)
    most: Decimal = Decimal(0)
    pattern: str = r"[0-9]{1,5}"

    def check(self, text: str) -> bool:
        if not re.fullmatch(self.pattern, text, re.ASCII):
            return False
        return self.most == 0 or self.least <= Decimal(text) <= self.most


_BLOCKS = Argument("blocks", "1", Decimal(1), Decimal(1_000))
_SECONDS = Argument("seconds", "5", Decimal(0), Decimal(600), r"[0-9]{1,3}(\.[0-9]{1,3})?")
_TIMES = Argument("times", "2", Decimal(1), Decimal(10_000))
_REASON = Argument("x402 reason", "invalid_exact_evm_transaction_simulation_failed", pattern=r"[a-z][a-z0-9_]{0,79}")


class FaultName(Enum):
    """Every fault: when it strikes, how often, what it takes, what one sees."""

    SETTLE_ANSWER_LOST_BEFORE = (
        "settle_answer_lost_before",
        Strikes.ONCE,
        None,
        "The connection breaks before the network has read the transfer. Nothing moves; the seller cannot know that.",
    )
    SETTLE_ANSWER_LOST_AFTER = (
        "settle_answer_lost_after",
        Strikes.ONCE,
        None,
        "The value moves, then the connection breaks. The seller cannot know that it moved until it asks.",
    )
    TRUNCATED_ANSWER = (
        "truncated_answer",
        Strikes.ONCE,
        None,
        "The value moves; the answer that says so ends in the middle and cannot be read.",
    )
    ERROR_502_AFTER_SUCCESS = (
        "error_502_after_success",
        Strikes.ONCE,
        None,
        "The value moves; a proxy in between answers 502 in the network's place.",
    )
    SLOW = (
        "slow",
        Strikes.ALWAYS,
        _SECONDS,
        (
            "The value moves at once, the answer comes so many seconds later. With more than the settle timeout, the buyer is "
            "told that the outcome is unknown."
        ),
    )
    LATE = (
        "late",
        Strikes.ONCE,
        _BLOCKS,
        "The transfer is accepted and has a transaction hash, but is mined only so many blocks later.",
    )
    NEVER_MINED = (
        "never_mined",
        Strikes.ALWAYS,
        None,
        "The transfer is accepted and has a transaction hash, but no block takes it before the authorization expires.",
    )
    FLAPPING = (
        "flapping",
        Strikes.COUNTED,
        _TIMES,
        "The network cannot be reached for so many calls (to settle or to ask), then it can.",
    )
    UNREACHABLE = (
        "unreachable",
        Strikes.ALWAYS,
        None,
        "The network cannot be reached at all, as long as the fault is configured. By configuration only.",
    )
    REORGANISATION = (
        "reorganisation",
        Strikes.ONCE,
        _BLOCKS,
        (
            "The value moves and the answer says so; then the last blocks (so many) are replaced by ones without this "
            "transfer. The authorization can be used again, and the seller has to notice and submit it again."
        ),
    )
    INSUFFICIENT_FUNDS = (
        "insufficient_funds",
        Strikes.ALWAYS,
        None,
        "The network says that the payer's balance is too small. Nothing moves.",
    )
    NONCE_USED = (
        "nonce_used",
        Strikes.ONCE,
        None,
        "The payer cancels the authorization just before it is submitted, so that its nonce is used. Nothing moves.",
    )
    REJECTED = (
        "rejected",
        Strikes.ALWAYS,
        _REASON,
        "The network refuses for good, with this x402 reason. Nothing moves.",
    )
    FALSE_SUCCESS = (
        "false_success",
        Strikes.ONCE,
        None,
        "The network answers success although nothing moved. Confirmation finds out, as after a reorganisation.",
    )
    DUPLICATE_SUCCESS = (
        "duplicate_success",
        Strikes.ALWAYS,
        None,
        (
            "Every submission of an authorization that was used before is answered with success, whatever it asks for, as rails do "
            "that recognise a transaction instead of a payment. Only the seller's own book keeps one payment from buying twice."
        ),
    )
    REPEAT_REFUSED = (
        "repeat_refused",
        Strikes.ALWAYS,
        None,
        (
            "A repeated submission of a transfer that did happen is refused as 'nonce already used', as facilitators do that are "
            "not idempotent. Who asks before submitting again is not misled."
        ),
    )
    REFUND_ANSWER_LOST = (
        "refund_answer_lost",
        Strikes.ONCE,
        None,
        "A refund of the payment is paid, then the connection breaks. By configuration only.",
    )
    REFUND_REJECTED = (
        "refund_rejected",
        Strikes.ALWAYS,
        None,
        "A refund of the payment is refused. Nothing moves. By configuration only.",
    )

    def __init__(self, text: str, strikes: Strikes, argument: Argument | None, meaning: str) -> None:
        self.text = text
        self.strikes = strikes
        self.argument = argument
        self.meaning = meaning

    @property
    def by_header(self) -> bool:
        """Whether one request may ask for it: not what would never end, nor what happens long after the request."""
        return self not in (FaultName.UNREACHABLE, FaultName.REFUND_ANSWER_LOST, FaultName.REFUND_REJECTED)


_BY_TEXT: Final = {name.text: name for name in FaultName}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault as written: its name, and its argument or "" when it takes none."""

    name: FaultName
    argument: str = ""

    @property
    def number(self) -> Decimal:
        """The argument as a number."""
        return Decimal(self.argument)

    def strikes_after(self, struck: int) -> bool:
        """Whether it strikes a payment that it has struck ``struck`` times."""
        match self.name.strikes:
            case Strikes.ALWAYS:
                return True
            case Strikes.ONCE:
                return struck == 0
            case Strikes.COUNTED:
                return struck < self.number

    def __str__(self) -> str:
        return f"{self.name.text}={self.argument}" if self.argument else self.name.text


@dataclass(frozen=True, slots=True)
class FaultState:
    """What is kept of a fault for one payment: how often it struck, and whether the payment itself asked for it."""

    fault: Fault
    struck: int
    asked: bool


def parse_fault(text: str) -> Fault:
    """Read ``name`` or ``name=argument``; ConfigurationError says what there is."""
    name_text, equals, argument = text.strip().partition("=")
    name = _BY_TEXT.get(name_text)
    if name is None:
        raise ConfigurationError(
            "there is no such sandbox fault", expected=sorted(_BY_TEXT), received=name_text[:80], hint=_HINT
        )
    spec = name.argument
    if spec is None:
        if equals:
            raise ConfigurationError(f"the sandbox fault {name.text} takes no argument", received=text[:80], hint=_HINT)
        return Fault(name)
    if not equals:
        return Fault(name, spec.default)
    if not spec.check(argument):
        expected = f"{spec.least} to {spec.most} {spec.unit}" if spec.most else f"an {spec.unit}"
        raise ConfigurationError(
            f"the argument of the sandbox fault {name.text} does not fit",
            expected=expected,
            received=text[:80],
            hint=_HINT,
        )
    return Fault(name, argument)


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Read a list of faults, each by `parse_fault`; ConfigurationError also when there are too many or one comes twice."""
    faults: dict[FaultName, Fault] = {}
    for text in texts:
        fault = parse_fault(text)
        if fault.name in faults or len(faults) == limits.SANDBOX_FAULTS_MAX:
            raise ConfigurationError(
                "too many sandbox faults",
                expected=f"at most {limits.SANDBOX_FAULTS_MAX}, each once",
                received=text[:80],
                hint=_HINT,
            )
        faults[fault.name] = fault
    return tuple(faults.values())


def parse_header(values: Sequence[bytes]) -> tuple[Fault, ...]:
    """Read the ``Sandbox-Fault`` lines of a request; RequestRefused when they name no fault that a request may ask for."""
    text = b",".join(values).decode("latin-1")
    if not text.strip():
        return ()
    try:
        faults = parse_faults(text.split(","))
    except ConfigurationError as error:
        raise RequestRefused(error.detail, expected=error.expected, received=error.received, hint=error.hint) from None
    for fault in faults:
        if not fault.name.by_header:
            raise RequestRefused(
                f"the sandbox fault {fault.name.text} is for the seller's configuration only",
                expected=sorted(name.text for name in FaultName if name.by_header),
                received=str(fault),
                hint=_HINT,
            )
    return faults


_HINT: Final = "See docs/reference/sandbox-faults.md."
