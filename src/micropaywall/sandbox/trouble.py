"""What each fault does to one payment on its way to the network and back. `faults` says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.errors import RailError, Unavailable
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import Absent, Mined, Network, Result, Revert, Reverted
from micropaywall.sandbox.execution import NEVER
from micropaywall.sandbox.faults import Fault, FaultName, FaultState

__all__ = ["Trouble"]

F: Final = FaultName
T = TypeVar("T")
_FALSE_TAG: Final = b"micropaywall/sandbox/false/1"


class Caller(Protocol):
    """Runs a blocking function off the event loop."""

    async def __call__(self, function: Callable[[], T], /) -> T: ...


class Trouble:
    """Carries out faults around calls to ``network``."""

    def __init__(self, network: Network, call: Caller, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._network = network
        self._call = call
        self._sleep = sleep

    async def settle(self, key: bytes, transfer: Instruction, states: Sequence[FaultState]) -> Result | Outcome:
        """Submit one transfer that meets ``states``. Raises what the network raises."""
        faults = {state.fault.name: state.fault for state in states}
        await self._reach(key, faults)
        if await self._strikes(key, faults, F.SETTLE_ANSWER_LOST_BEFORE):
            return Unknown("the connection broke while the transfer was being sent")
        verdict = await self._verdict(key, transfer, faults)
        if verdict is not None:
            return verdict
        delay = 0
        if F.NEVER_MINED in faults:
            delay = NEVER
        elif await self._strikes(key, faults, F.LATE):
            delay = int(faults[F.LATE].number)
        (result,) = await self._call(lambda: self._network.submit([transfer], delay_blocks=delay))
        if F.DUPLICATE_SUCCESS in faults and result == Reverted(Revert.NONCE_USED):
            return _pretend(key, transfer)
        if isinstance(result, Mined):
            return await self._after_success(key, result, faults)
        return result

    async def status(self, key: bytes, transfer: Instruction, states: Sequence[FaultState]) -> Result | Outcome:
        """Ask for one transfer that meets ``states``. Raises what the network raises."""
        faults = {state.fault.name: state.fault for state in states}
        await self._reach(key, faults)
        (result,) = await self._call(lambda: self._network.lookup([transfer]))
        return (_refusal(faults) or result) if isinstance(result, Absent) else result

    async def refund(self, key: bytes, states: Sequence[FaultState], pay: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Pay a refund that meets ``states``."""
        faults = {state.fault.name: state.fault for state in states}
        if F.UNREACHABLE in faults:
            return Unknown("the network cannot be reached")
        if F.REFUND_REJECTED in faults:
            return Rejected(Revert.BALANCE.code, "the refund was refused")
        outcome = await pay()
        if await self._strikes(key, faults, F.REFUND_ANSWER_LOST):
            return Unknown("the connection broke while the refund's answer was awaited")
        return outcome

    # -- in the order in which they strike ----------------------------------------------------------------------------

    async def _reach(self, key: bytes, faults: dict[FaultName, Fault]) -> None:
        if F.UNREACHABLE in faults:
            raise Unavailable("the network cannot be reached")
        if await self._strikes(key, faults, F.FLAPPING):
            raise Unavailable("the network cannot be reached at the moment")

    async def _verdict(
        self, key: bytes, transfer: Instruction, faults: dict[FaultName, Fault]
    ) -> Result | Outcome | None:
        """What the network says before it looks at the transfer."""
        authorization = transfer.authorization
        refusal = _refusal(faults)
        if refusal is not None:
            return refusal
        if await self._strikes(key, faults, F.FALSE_SUCCESS):
            return _pretend(key, transfer)
        if F.REPEAT_REFUSED in faults:
            (known,) = await self._call(lambda: self._network.lookup([transfer]))
            if isinstance(known, Mined):
                return Reverted(Revert.NONCE_USED)
        if await self._strikes(key, faults, F.NONCE_USED):
            await self._call(lambda: self._network.revoke(authorization.payer, authorization.nonce))
        return None

    async def _after_success(self, key: bytes, mined: Mined, faults: dict[FaultName, Fault]) -> Result | Outcome:
        """The value has moved; what happens to the answer, or to the block."""
        if await self._strikes(key, faults, F.REORGANISATION):
            await self._reorganise(mined, int(faults[F.REORGANISATION].number))
        if F.SLOW in faults:
            await self._sleep(float(faults[F.SLOW].number))
        if await self._strikes(key, faults, F.SETTLE_ANSWER_LOST_AFTER):
            return Unknown("the connection broke while the answer was awaited")
        if await self._strikes(key, faults, F.TRUNCATED_ANSWER):
            return Unknown("the network's answer ended in the middle")
        if await self._strikes(key, faults, F.ERROR_502_AFTER_SUCCESS):
            return Unknown("a proxy answered 502 in the network's place")
        return mined

    async def _reorganise(self, mined: Mined, depth: int) -> None:
        def replace() -> None:
            head = self._network.head().number
            try:
                self._network.reorganise(max(depth, head - mined.block + 1), drop=[mined.hash])
            except RailError:
                return  # so deep that it is final, and stays

        await self._call(replace)

    async def _strikes(self, key: bytes, faults: dict[FaultName, Fault], name: FaultName) -> bool:
        fault = faults.get(name)
        if fault is None:
            return False
        return fault.strikes_after(await self._call(lambda: self._network.strike(key, fault)))


def _refusal(faults: dict[FaultName, Fault]) -> Rejected | None:
    if F.INSUFFICIENT_FUNDS in faults:
        return Rejected(Revert.BALANCE.code, Revert.BALANCE.message)
    if F.REJECTED in faults:
        return Rejected(faults[F.REJECTED].argument, "the network refuses the transfer")
    return None


def _pretend(key: bytes, transfer: Instruction) -> Settled:
    """Success without a transaction that anybody could find."""
    return Settled("0x" + hashlib.sha256(_FALSE_TAG + key).hexdigest(), transfer.authorization.value)
