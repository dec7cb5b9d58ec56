"""One call to a rail, bounded in time, from which nothing but outcomes comes back.

A rail that raises, hangs or answers nonsense has not said that the value did not move: every such case is Unknown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from micropaywall import limits
from micropaywall.core.book import PaymentRow, RefundRow
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.errors import MicropaywallError
from micropaywall.rails.port import Settlement

__all__ = ["Settlements", "backoff_ms", "carry_out", "is_absent", "look_up", "pay_back"]

Settlements = Mapping[tuple[str, str], Settlement]
"""The facilitator's sides by (rail, network)."""


_log = logging.getLogger("micropaywall.settlement")


async def carry_out(
    settlement: Settlement | None,
    *,
    submit: Sequence[PaymentRow] = (),
    ask: Sequence[PaymentRow] = (),
    limit_s: float = limits.SETTLE_CALL_S,
) -> list[Outcome]:
    """Submit the first, ask for the second, and submit of those what the network has not; outcomes in that order."""
    rows = [*submit, *ask]

    async def both(settlement: Settlement) -> list[Outcome]:
        submitted, asked = await asyncio.gather(_call(settlement.settle, submit), _ask_then_submit(settlement, ask))
        return [*submitted, *asked]

    return await _bounded(settlement, rows, both, limit_s)


async def look_up(
    settlement: Settlement | None, rows: Sequence[PaymentRow], *, limit_s: float = limits.SETTLE_CALL_S
) -> list[Outcome]:
    """Ask for payments without submitting any."""
    return await _bounded(settlement, rows, lambda open_: _call(open_.status, rows), limit_s)


async def _bounded(
    settlement: Settlement | None,
    rows: Sequence[PaymentRow],
    use: Callable[[Settlement], Awaitable[list[Outcome]]],
    limit_s: float,
) -> list[Outcome]:
    if settlement is None:
        return [Unknown("the rail of this payment is not configured here")] * len(rows)
    try:
        async with asyncio.timeout(limit_s):
            return await use(settlement)
    except TimeoutError:
        return [Unknown(f"the rail has not answered within {limit_s:g} s")] * len(rows)


async def _ask_then_submit(settlement: Settlement, rows: Sequence[PaymentRow]) -> list[Outcome]:
    outcomes = await _call(settlement.status, rows)
    absent = [place for place, outcome in enumerate(outcomes) if is_absent(outcome)]
    again = await _call(settlement.settle, [rows[place] for place in absent])
    for place, outcome in zip(absent, again, strict=True):
        outcomes[place] = outcome
    return outcomes


async def _call(
    method: Callable[[Sequence[PaymentRow]], Awaitable[list[Outcome]]], rows: Sequence[PaymentRow]
) -> list[Outcome]:
    if not rows:
        return []
    try:
        outcomes = list(await method(rows))
    except MicropaywallError as error:
        return [Unknown(error.detail)] * len(rows)
    except Exception:  # noqa: BLE001 - a rail is a plugin: whatever it raises, it has not said that nothing moved
        _log.exception("a rail failed")
        return [Unknown("the rail failed")] * len(rows)
    if len(outcomes) != len(rows) or not all(isinstance(one, Settled | Rejected | Unknown) for one in outcomes):
        _log.error("a rail answered %d payments with %d outcomes", len(rows), len(outcomes))
        return [Unknown("the rail's answer does not fit the question")] * len(rows)
    return outcomes


async def pay_back(
    settlement: Settlement | None, refund: RefundRow, *, limit_s: float = limits.SETTLE_CALL_S
) -> Outcome:
    """Pay one refund; idempotent by the refund's id."""
    if settlement is None:
        return Unknown("the rail of this refund is not configured here")
    try:
        async with asyncio.timeout(limit_s):
            return await settlement.refund(refund)
    except TimeoutError:
        return Unknown(f"the rail has not answered within {limit_s:g} s")
    except MicropaywallError as error:
        return Unknown(error.detail)
    except Exception:  # noqa: BLE001 - as above
        _log.exception("a rail failed")
        return Unknown("the rail failed")


def is_absent(outcome: Outcome) -> bool:
    """Whether the network has said that it has no such transfer, so that it may be submitted."""
    return isinstance(outcome, Unknown) and outcome.doubt == "absent"


def backoff_ms(attempts: int, jitter: float) -> int:
    """When to ask again after ``attempts`` without verdict: doubling up to the longest wait, spread by ``jitter`` (0 to 1)."""
    whole = min(limits.SETTLE_RETRY_S_MAX, limits.SETTLE_RETRY_S_MIN * float(2 ** min(attempts, 16)))
    return round(whole * (0.5 + jitter / 2) * 1000)
