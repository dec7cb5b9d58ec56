"""Settles payments on the sandbox network: `rails.port.Settlement` over a `chain.Network`, in batches, off the event loop.

Idempotent: a transfer that is on the chain already is answered with its own transaction. An authorization that was used for
something else, or cancelled, is rejected. What the network did not say stays unknown.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from micropaywall import limits
from micropaywall.core.book import PaymentRow, RefundRow
from micropaywall.core.model import Headers, Outcome, Rejected, Settled, Unknown
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.errors import LedgerCorrupt, MicropaywallError, OutcomeUnknown, RailError, Unavailable
from micropaywall.ids import ReplayKey
from micropaywall.rails.exact.facilitator import VALUE_MISMATCH
from micropaywall.rails.exact.types import Instruction, read_instruction
from micropaywall.sandbox.chain import Absent, Mined, Network, Pending, Result, Revert, Reverted
from micropaywall.sandbox.faults import HEADER, Fault, FaultState, parse_header
from micropaywall.sandbox.trouble import Trouble
from micropaywall.settlement.gather import Gatherer

__all__ = ["SandboxSettlement", "outcome_of"]

RECEIPT_POLL_S: Final = 0.1

_Failures = (Unavailable, OutcomeUnknown, RailError)
_UNREAD: Final = Unknown("not asked")
_REFUND_TAG: Final = b"micropaywall/sandbox/refund/1"
T = TypeVar("T")


class Job(NamedTuple):
    """A payment on its way to the network."""

    key: bytes
    transfer: Instruction


Done = Result | Sequence[FaultState]
"""What the network said of a job; or, when faults are kept for its payment, those: then nothing was sent."""


class SandboxSettlement:
    """The facilitator's side of the sandbox rail.

    ``faults`` meet every payment; with ``header_faults`` a request may ask for more (`note_request`). ``receipt_wait_s``
    bounds the wait for a block; ``sleep`` is replaced by tests.
    """

    def __init__(
        self,
        network: Network,
        *,
        faults: Sequence[Fault] = (),
        header_faults: bool = True,
        receipt_wait_s: float = limits.SANDBOX_RECEIPT_WAIT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.network = network
        self.header_faults = header_faults
        self.noted_headers: frozenset[bytes] = frozenset({HEADER}) if header_faults else frozenset()
        self._standing: tuple[FaultState, ...] = ()
        self.set_faults(faults)
        self._closed = False
        self._receipt_wait_s = receipt_wait_s
        self._sleep = sleep
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="micropaywall-sandbox")
        most = limits.SETTLEMENTS_PER_BATCH_MAX
        self._submit: Gatherer[Job, Done] = Gatherer(self._submit_batch, most=most, executor=self._thread)
        self._lookup: Gatherer[Job, Done] = Gatherer(self._lookup_batch, most=most, executor=self._thread)
        self._trouble = Trouble(network, self._call, sleep)

    # -- the port -----------------------------------------------------------------------------------------------------

    async def settle(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        return await self._each(payments, self._submit, self._after_submit)

    async def status(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        return await self._each(payments, self._lookup, self._after_lookup)

    async def refund(self, refund: RefundRow) -> Outcome:
        key = hashlib.sha256(_REFUND_TAG + refund.id).digest()
        sender, recipient = parse_address(refund.payee), parse_address(refund.payer)

        async def pay() -> Outcome:
            try:
                result = await self._call(lambda: self.network.transfer(sender, recipient, refund.amount, key=key))
            except _Failures as error:
                return _unanswered(error)
            return outcome_of(result, refund.amount)

        return await self._trouble.refund(key, self._standing, pay)

    async def close(self) -> None:
        """Finish the batches under way, then close the network."""
        if not self._closed:
            self._closed = True
            await self._call(self.network.close)
            self._thread.shutdown(wait=True)

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults that every payment meets."""
        self._standing = tuple(FaultState(fault, 0, asked=False) for fault in faults)

    # -- what the seller's adapters may tell --------------------------------------------------------------------------

    async def note_request(self, key: ReplayKey, headers: Headers) -> None:
        """Keep the faults that a request asks for, before its payment is settled.

        Raises RequestRefused for a ``Sandbox-Fault`` header that names none, Unavailable when it cannot be kept.
        """
        values = [value for name, value in headers if name == HEADER]
        if not values or not self.header_faults:
            return
        faults = parse_header(values)
        if faults:
            await self._call(lambda: self.network.add_faults(key, faults))

    # -- batches, in the thread ---------------------------------------------------------------------------------------

    def _submit_batch(self, jobs: list[Job]) -> list[Done]:
        return self._without_faults(jobs, self.network.submit)

    def _lookup_batch(self, jobs: list[Job]) -> list[Done]:
        return self._without_faults(jobs, self.network.lookup)

    def _without_faults(self, jobs: list[Job], send: Callable[[Sequence[Instruction]], Sequence[Result]]) -> list[Done]:
        met = [self._meets(states) for states in self.network.fault_states([job.key for job in jobs])]
        plain = [job.transfer for job, states in zip(jobs, met, strict=True) if not states]
        results = iter(send(plain) if plain else ())
        return [states or next(results) for states in met]

    def _meets(self, kept: Sequence[FaultState]) -> Sequence[FaultState]:
        """The faults that a payment meets: the standing ones, and those it asked for. Empty: it goes with the others."""
        asked = [state for state in kept if state.asked]
        names = {state.fault.name for state in asked}
        return [*asked, *(state for state in self._standing if state.fault.name not in names)]

    # -- what is left to do for single payments -----------------------------------------------------------------------

    async def _each(
        self,
        payments: Sequence[PaymentRow],
        gather: Gatherer[Job, Done],
        finish: Callable[[Job, Done], Awaitable[Result | Outcome]],
    ) -> list[Outcome]:
        """Send what can be read in one batch, then finish, side by side, the payments that the batch has not decided."""
        outcomes: list[Outcome] = [_UNREAD] * len(payments)
        jobs: list[Job] = []
        places: list[int] = []
        for place, payment in enumerate(payments):
            job = _read(payment)
            if isinstance(job, Job):
                jobs.append(job)
                places.append(place)
            else:
                outcomes[place] = job
        try:
            answers = await gather(jobs)
        except _Failures as error:
            unknown = _unanswered(error)
            for place in places:
                outcomes[place] = unknown
            return outcomes
        undecided = []
        for place, job, answer in zip(places, jobs, answers, strict=True):
            if isinstance(answer, Mined | Reverted | Absent):
                outcomes[place] = outcome_of(answer, payments[place].amount)
            else:
                undecided.append((place, finish(job, answer)))
        results = await asyncio.gather(*(waits for _, waits in undecided), return_exceptions=True)
        for (place, _), result in zip(undecided, results, strict=True):
            outcomes[place] = _outcome(result, payments[place].amount)
        return outcomes

    async def _after_submit(self, job: Job, answer: Done) -> Result | Outcome:
        if isinstance(answer, Pending):
            return await self._await_block(job, answer)
        if isinstance(answer, Mined | Reverted | Absent):
            return answer
        return await self._trouble.settle(job.key, job.transfer, answer)

    async def _after_lookup(self, job: Job, answer: Done) -> Result | Outcome:
        if isinstance(answer, Mined | Pending | Reverted | Absent):
            return answer
        return await self._trouble.status(job.key, job.transfer, answer)

    async def _await_block(self, job: Job, pending: Pending) -> Result:
        """What becomes of a transfer that waits for a block, as far as it is worth waiting for."""
        waited_s = 0.0
        while waited_s < self._receipt_wait_s:
            await self._sleep(RECEIPT_POLL_S)
            waited_s += RECEIPT_POLL_S
            (answer,) = await self._lookup([job])
            if isinstance(answer, Mined | Reverted | Absent):
                return answer
        return pending

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, function)
        except RuntimeError:
            raise Unavailable("the sandbox rail is closed") from None
        return await future


def outcome_of(result: Result, amount: int) -> Outcome:
    """The chain's answer as an outcome of a settlement of ``amount``."""
    match result:
        case Mined(digest, block, final):
            return Settled("0x" + digest.hex(), amount, block, final)
        case Pending(digest):
            return Unknown("the transfer waits for a block", "0x" + digest.hex(), "pending")
        case Reverted(Revert.NOT_YET_VALID):
            # Not a verdict: it will be valid, and nobody but the payer can take it back.
            return Unknown("the authorization is not valid yet by the chain's time", doubt="absent")
        case Reverted(why):
            return Rejected(why.code, why.message)
        case Absent():
            return Unknown("the chain has no transfer with this authorization", doubt="absent")


def _read(payment: PaymentRow) -> Job | Rejected:
    """The instruction of a payment; what the network would move must be what the book says."""
    try:
        transfer = read_instruction(payment.instruction)
    except LedgerCorrupt as error:
        return Rejected("invalid_payload", error.detail)
    authorization = transfer.authorization
    if (authorization.value, to_checksum(authorization.payer), to_checksum(authorization.payee)) != (
        payment.amount,
        payment.payer,
        payment.payee,
    ):
        return Rejected(VALUE_MISMATCH, "the authorization is for another amount, payer or payee than the book has")
    return Job(payment.key, transfer)


def _outcome(result: Result | Outcome | BaseException, amount: int) -> Outcome:
    if isinstance(result, Settled | Rejected | Unknown):
        return result
    if isinstance(result, _Failures):
        return _unanswered(result)
    if isinstance(result, BaseException):
        raise result
    return outcome_of(result, amount)


def _unanswered(error: MicropaywallError) -> Unknown:
    return Unknown(f"the sandbox network gave no answer: {error.detail}")
