"""Settles one payment while its buyer waits: bounded by a timeout, after which the call goes on and its result is recorded."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from micropaywall import limits
from micropaywall.clock import Clock
from micropaywall.core.book import EndSettle, PaymentRow
from micropaywall.core.model import Headers, Outcome, Unknown
from micropaywall.errors import MicropaywallError
from micropaywall.ids import ReplayKey
from micropaywall.ledger.port import Ledger
from micropaywall.observe import SILENT, Observer
from micropaywall.settlement.carry import Settlements, backoff_ms, carry_out
from micropaywall.settlement.events import outcome_event

__all__ = ["NotesRequests", "Settler"]

_log = logging.getLogger("micropaywall.settlement")


@runtime_checkable
class NotesRequests(Protocol):
    """A Settlement that wants to see the request behind a payment before it is settled (the sandbox, for its faults)."""

    async def note_request(self, key: ReplayKey, headers: Headers) -> None:
        """Take what it wants from the headers; RequestRefused when they make no sense."""
        ...


class Settler:
    """What the paywall calls for an immediate settlement. Whoever calls holds the payment's settlement lease.

    One call per payment is under way in this process at any time: who asks for the same payment waits for the same call.
    """

    def __init__(
        self,
        ledger: Ledger,
        settlements: Settlements,
        *,
        clock: Clock,
        owner: str,
        timeout_s: float = limits.SETTLE_TIMEOUT_S,
        observer: Observer = SILENT,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._clock = clock
        self._owner = owner
        self._timeout_s = timeout_s
        self._observer = observer
        self._jitter = jitter
        self._flights: dict[ReplayKey, asyncio.Task[Outcome]] = {}
        self._late: dict[asyncio.Task[Outcome], asyncio.Task[None]] = {}
        self._hears = {place: s for place, s in settlements.items() if isinstance(s, NotesRequests)}

    async def settle(self, payment: PaymentRow, *, ask_first: bool) -> Outcome:
        """Submit the payment, or ask for it first when it was submitted before; the rail's outcome.

        An Unknown with doubt ``in_flight`` means that the call goes on: keep the lease, its result is recorded here.
        Any other outcome is for the caller to record.
        """
        flight = self._flights.get(payment.key)
        if flight is None:
            flight = asyncio.create_task(self._call(payment, ask_first), name="micropaywall-settle")
            self._flights[payment.key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(payment.key, None))
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(flight)
        except TimeoutError:
            self._record_late(payment, flight)
            return Unknown(f"the rail has not answered within {self._timeout_s:g} s", doubt="in_flight")
        except asyncio.CancelledError:
            self._record_late(payment, flight)
            raise

    async def note_request(self, rail: str, network: str, key: ReplayKey, headers: Headers) -> None:
        """Show a rail the request behind a payment, if it wants to see any; raises RequestRefused or Unavailable."""
        hears = self._hears.get((rail, network))
        if hears is not None:
            await hears.note_request(key, headers)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self._flights)

    async def drain(self, timeout_s: float = limits.SETTLE_TIMEOUT_S) -> None:
        """Wait for the calls under way and for their results to be recorded; what takes longer is left to recovery."""
        tasks = [*self._flights.values(), *self._late.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
            # A flight that just ended may have begun to be recorded.
            if self._late:
                await asyncio.wait(list(self._late.values()), timeout=timeout_s)
        for task in (*self._flights.values(), *self._late.values()):
            task.cancel()

    async def _call(self, payment: PaymentRow, ask_first: bool) -> Outcome:
        settlement = self._settlements.get((payment.rail, payment.network))
        rows = [payment]
        (outcome,) = await carry_out(
            settlement, submit=[] if ask_first else rows, ask=rows if ask_first else [], limit_s=limits.SETTLE_CALL_S
        )
        return outcome

    def _record_late(self, payment: PaymentRow, flight: asyncio.Task[Outcome]) -> None:
        if flight not in self._late:
            self._late[flight] = asyncio.create_task(self._record(payment, flight), name="micropaywall-settle-late")

    async def _record(self, payment: PaymentRow, flight: asyncio.Task[Outcome]) -> None:
        try:
            outcome = await flight
            now_ms = self._clock.now_ms()
            retry_ms = now_ms + backoff_ms(payment.attempts, self._jitter()) if isinstance(outcome, Unknown) else None
            await self._ledger.apply(
                EndSettle(payment_id=payment.id, owner=self._owner, now_ms=now_ms, outcome=outcome, retry_ms=retry_ms)
            )
            self._observer.notify(outcome_event(payment, outcome))
        except MicropaywallError as error:
            # The lease runs out, and whoever takes it next asks the rail.
            _log.warning("a late settlement could not be recorded: %s", error.code)
        finally:
            self._late.pop(flight, None)
