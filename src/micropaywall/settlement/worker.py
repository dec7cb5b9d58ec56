"""The background: settles what is due, asks for what has no verdict, pays refunds, confirms, notices reorganisations.

The book is the queue (`Ledger.lease_work`): a leased payment is this worker's alone until the lease ends, and every call to a
rail ends before that. So a payment is never submitted twice at once, and a worker that dies leaves nothing behind but leases
that run out. One loop serves a process; any number of processes may run one on the same book.

    submitted before, no verdict    ask; submit again only when the network has nothing of it
    settled, not yet final          ask; final when deep enough, settling again when the chain has lost it
    refund due                      pay, idempotent by its id
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from micropaywall import limits, observe
from micropaywall.clock import Clock
from micropaywall.core.book import Applied, EndRefund, EndSettle, PaymentRow, RefundRow, Reorganise, Work
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.errors import MicropaywallError
from micropaywall.ids import payment_id
from micropaywall.ledger.port import Ledger
from micropaywall.observe import SILENT, Observer
from micropaywall.settlement.carry import Settlements, backoff_ms, carry_out, look_up, pay_back
from micropaywall.settlement.events import outcome_event

__all__ = ["SettlementWorker", "Tick"]


_log = logging.getLogger("micropaywall.settlement")


@dataclass(slots=True)
class Tick:
    """What one look at the book has brought: payments with that outcome, refunds paid, blocks lost."""

    leased: int = 0
    settled: int = 0
    rejected: int = 0
    unknown: int = 0
    final: int = 0
    reorganised: int = 0
    refunded: int = 0


class SettlementWorker:
    """Runs settlement and recovery for one book. ``jitter`` gives numbers from 0 to 1 that spread retries."""

    def __init__(
        self,
        ledger: Ledger,
        settlements: Settlements,
        *,
        clock: Clock,
        owner: str,
        observer: Observer = SILENT,
        jitter: Callable[[], float] = random.random,
        interval_s: float = limits.RECOVERY_INTERVAL_S,
        call_limit_s: float = limits.SETTLE_CALL_S,
        drain_s: float = limits.WORKER_DRAIN_S,
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._clock = clock
        self._owner = owner
        self._observer = observer
        self._jitter = jitter
        self._interval_s = interval_s
        self._call_limit_s = call_limit_s
        self._drain_s = drain_s
        self._stopping = asyncio.Event()
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._confirming: asyncio.Task[None] | None = None

    # -- running ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take no more work; `run` returns when what is under way has ended, or after the drain time."""
        self._stopping.set()
        self._woken.set()

    def wake(self) -> None:
        """Look at the book now rather than at the next interval."""
        self._woken.set()

    async def run(self) -> None:
        """Work until `stop`. The first look is the recovery of whatever an earlier process left."""
        failures = 0
        while not self._stopping.is_set():
            self._woken.clear()
            full = False
            try:
                if len(self._tasks) < limits.SETTLE_BATCHES_MAX:
                    tick = Tick()
                    full = await self._begin(tick)
                failures = 0
            except MicropaywallError as error:
                # The store is away. Nothing is lost: everything is in the book.
                failures += 1
                _log.warning("the settlement worker cannot read the book: %s", error.code)
            except Exception:  # noqa: BLE001 - the background's top frame: payments must go on settling
                failures += 1
                _log.exception("the settlement worker failed")
            wait_s = backoff_ms(failures, self._jitter()) / 1000 if failures else self._interval_s
            if not full:
                await self._pause(wait_s)
        await self._drain()

    async def tick(self) -> Tick:
        """Look once, and wait until everything that was found has ended. Raises StoreUnavailable."""
        tick = Tick()
        await self._begin(tick)
        while self._tasks:
            await asyncio.gather(*self._tasks)
        return tick

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=self._drain_s)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left)

    # -- one look -----------------------------------------------------------------------------------------------------

    async def _begin(self, tick: Tick) -> bool:
        """Lease what is due and start on it; whether there may be more."""
        now_ms = self._clock.now_ms()
        limit = limits.SETTLEMENTS_PER_BATCH_MAX
        work = await self._ledger.lease_work(
            owner=self._owner, now_ms=now_ms, lease_until_ms=now_ms + limits.SETTLE_LEASE_S * 1000, limit=limit
        )
        count = len(work.settle) + len(work.ask) + len(work.refunds)
        tick.leased += count
        if work.ask:
            self._observer.notify(observe.Recovered(what="asked", count=len(work.ask)))
        for place, (submit, ask) in _by_rail(work).items():
            self._start(self._settle(tick, place, submit, ask))
        if work.refunds:
            self._start(self._refund_all(tick, work.refunds))
        if self._confirming is None or self._confirming.done():
            self._confirming = self._start(self._confirm(tick))
        return count >= limit

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work), name="micropaywall-settlement-batch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except MicropaywallError as error:
            _log.warning("a batch of settlements could not be recorded: %s", error.code)
        except Exception:  # noqa: BLE001 - the batch's top frame; its leases run out
            _log.exception("a batch of settlements failed")

    # -- payments -----------------------------------------------------------------------------------------------------

    async def _settle(
        self, tick: Tick, place: tuple[str, str], submit: Sequence[PaymentRow], ask: Sequence[PaymentRow]
    ) -> None:
        outcomes = await carry_out(self._settlements.get(place), submit=submit, ask=ask, limit_s=self._call_limit_s)
        rows = [*submit, *ask]
        await asyncio.gather(*(self._end(tick, row, outcome) for row, outcome in zip(rows, outcomes, strict=True)))

    async def _end(self, tick: Tick, row: PaymentRow, outcome: Outcome) -> None:
        now_ms = self._clock.now_ms()
        retry_ms = now_ms + backoff_ms(row.attempts, self._jitter()) if isinstance(outcome, Unknown) else None
        answer = await self._ledger.apply(
            EndSettle(payment_id=row.id, owner=self._owner, now_ms=now_ms, outcome=outcome, retry_ms=retry_ms)
        )
        if not isinstance(answer, Applied):
            return  # the lease was over; whoever has it now asks the rail again
        match outcome:
            case Settled():
                tick.settled += 1
            case Rejected():
                tick.rejected += 1
            case Unknown():
                tick.unknown += 1
            case _:
                assert_never(outcome)
        self._observer.notify(outcome_event(row, outcome))

    async def _refund_all(self, tick: Tick, refunds: Sequence[RefundRow]) -> None:
        await asyncio.gather(*(self._refund(tick, refund) for refund in refunds))

    async def _refund(self, tick: Tick, refund: RefundRow) -> None:
        settlement = self._settlements.get((refund.rail, refund.network))
        outcome = await pay_back(settlement, refund, limit_s=self._call_limit_s)
        now_ms = self._clock.now_ms()
        retry_ms = None if isinstance(outcome, Settled) else now_ms + backoff_ms(3, self._jitter())
        answer = await self._ledger.apply(
            EndRefund(refund_id=refund.id, owner=self._owner, now_ms=now_ms, outcome=outcome, retry_ms=retry_ms)
        )
        if isinstance(answer, Applied) and isinstance(outcome, Settled):
            tick.refunded += 1
            self._observer.notify(
                observe.Refunded(
                    payment_id=refund.payment_id.hex(),
                    transaction=outcome.transaction,
                    amount_atomic=refund.amount,
                    asset=refund.asset,
                )
            )

    # -- confirmation -------------------------------------------------------------------------------------------------

    async def _confirm(self, tick: Tick) -> None:
        """Ask for settled payments until they are final; one that the chain has lost is settling again."""
        rows = await self._ledger.unconfirmed(now_ms=self._clock.now_ms(), limit=limits.SETTLEMENTS_PER_BATCH_MAX)
        groups: dict[tuple[str, str], list[PaymentRow]] = defaultdict(list)
        for row in rows:
            groups[row.rail, row.network].append(row)
        await asyncio.gather(*(self._confirm_rail(tick, place, group) for place, group in groups.items()))

    async def _confirm_rail(self, tick: Tick, place: tuple[str, str], rows: Sequence[PaymentRow]) -> None:
        outcomes = await look_up(self._settlements.get(place), rows, limit_s=self._call_limit_s)
        lost = False
        for row, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, Settled):
                if outcome.final:
                    await self._finalise(tick, row, outcome)
            # Where nobody could tell, there is no reason to believe that anything has changed.
            elif isinstance(outcome, Rejected) or outcome.doubt in ("absent", "pending"):
                lost = True
                await self._reorganise(tick, row)
        if lost:
            self.wake()

    async def _finalise(self, tick: Tick, row: PaymentRow, outcome: Settled) -> None:
        answer = await self._ledger.apply(
            EndSettle(payment_id=row.id, owner=self._owner, now_ms=self._clock.now_ms(), outcome=outcome)
        )
        if isinstance(answer, Applied):
            tick.final += 1

    async def _reorganise(self, tick: Tick, row: PaymentRow) -> None:
        answer = await self._ledger.apply(Reorganise(payment_id=row.id, now_ms=self._clock.now_ms()))
        if isinstance(answer, Applied):
            tick.reorganised += 1
            self._observer.notify(observe.Reorganised(payment_id=payment_id(row.key), rail=row.rail))


def _by_rail(work: Work) -> dict[tuple[str, str], tuple[list[PaymentRow], list[PaymentRow]]]:
    groups: dict[tuple[str, str], tuple[list[PaymentRow], list[PaymentRow]]] = defaultdict(lambda: ([], []))
    for row in work.settle:
        groups[row.rail, row.network][0].append(row)
    for row in work.ask:
        groups[row.rail, row.network][1].append(row)
    return groups
