"""Exit codes: the same in every command, so that scripts can tell what happened without reading text."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from micropaywall import errors

__all__ = ["MEANINGS", "ExitCode", "exit_code"]


class ExitCode(IntEnum):
    """What a command's process ends with."""

    DONE = 0
    FOUND_WRONG = 1
    USAGE = 2
    REFUSED_BY_POLICY = 3
    PAYMENT_REJECTED = 4
    OUTCOME_UNKNOWN = 5
    FAILED = 6
    INTERRUPTED = 130


MEANINGS: Final = {
    ExitCode.DONE: "done; for `get`: served",
    ExitCode.FOUND_WRONG: "`doctor`, `demo`, `ledger verify`: something is not as it should be",
    ExitCode.USAGE: "the command line or the configuration is wrong",
    ExitCode.REFUSED_BY_POLICY: "a budget or the policy refused; nothing was signed",
    ExitCode.PAYMENT_REJECTED: "the seller refused the payment",
    ExitCode.OUTCOME_UNKNOWN: "the payment was sent and its outcome is not known yet; run the same command again",
    ExitCode.FAILED: "any other failure",
    ExitCode.INTERRUPTED: "interrupted",
}

_BY_ERROR: Final[tuple[tuple[type[errors.MicropaywallError], ExitCode], ...]] = (
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.PolicyRefused, ExitCode.REFUSED_BY_POLICY),
    (errors.SignatureRefused, ExitCode.REFUSED_BY_POLICY),
    (errors.PaymentNotAccepted, ExitCode.PAYMENT_REJECTED),
    (errors.PaymentRejected, ExitCode.PAYMENT_REJECTED),
    (errors.PaymentOutcomeUnknown, ExitCode.OUTCOME_UNKNOWN),
    (errors.OutcomeUnknown, ExitCode.OUTCOME_UNKNOWN),
    (errors.LedgerCorrupt, ExitCode.FOUND_WRONG),
)


def exit_code(error: errors.MicropaywallError) -> ExitCode:
    """The code for an error that ended a command."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILED)
