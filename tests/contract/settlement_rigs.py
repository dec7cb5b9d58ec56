"""What the contract of a Settlement is tried on: each rig is an implementation, and hands on the network behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.kit.chain import PAYEE, instruct, new_key, payment

from micropaywall.clock import ManualClock
from micropaywall.core.book import PaymentRow
from micropaywall.rails.port import Settlement
from micropaywall.sandbox.chain import Network, Rules
from micropaywall.sandbox.client import RemoteNetwork
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.server import SandboxServer
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.sandbox.signing import cancel_digest


class Rig(Protocol):
    """A settlement on a network that does what it is told. Amounts are atomic units."""

    settlement: Settlement
    finality_depth: int

    def pay(self, value: int, **authorization: Any) -> PaymentRow:
        """A payment of a payer with enough money, as it stands in the book while it settles."""
        ...

    def pay_poor(self, value: int) -> PaymentRow:
        """A payment of a payer with less than ``value``."""
        ...

    def again(self, row: PaymentRow, **changes: Any) -> PaymentRow:
        """Another payment with the same authorization nonce."""
        ...

    def cancel(self, row: PaymentRow) -> None:
        """The payer takes the authorization back."""
        ...

    def received(self) -> int:
        """What the payee has got so far."""
        ...

    def mine(self, blocks: int) -> None: ...

    def reorganise(self, depth: int) -> None:
        """Undo the last blocks and all that was in them."""
        ...

    def pass_time(self, seconds: int) -> None: ...


class SandboxRig:
    """The sandbox's settlement over a chain in a file, or over HTTP."""

    def __init__(self, network: Network, clock: ManualClock) -> None:
        self.network = network
        self.clock = clock
        self.settlement = SandboxSettlement(network)
        self.finality_depth = Rules().finality_depth
        self._keys: dict[bytes, Any] = {}
        (self._before,) = network.balances([PAYEE])

    def pay(self, value: int, **authorization: Any) -> PaymentRow:
        key = new_key()
        row = payment(instruct(key, value, **authorization))
        self._keys[row.key] = (key, authorization)
        return row

    def pay_poor(self, value: int) -> PaymentRow:
        row = self.pay(value)
        key, _ = self._keys[row.key]
        (balance,) = self.network.balances([key.address_bytes])
        self.network.transfer(key.address_bytes, bytes([9]) * 20, balance - value + 1, key=row.key)
        return row

    def again(self, row: PaymentRow, **changes: Any) -> PaymentRow:
        key, authorization = self._keys[row.key]
        fields = {"value": row.amount, **authorization, "nonce": self._nonce(row), **changes}
        return payment(instruct(key, **fields), id=row.id)

    def cancel(self, row: PaymentRow) -> None:
        key, _ = self._keys[row.key]
        nonce = self._nonce(row)
        signature = key.sign_digest(cancel_digest(key.address_bytes, nonce))
        assert self.network.cancel(key.address_bytes, nonce, signature) is None

    def received(self) -> int:
        (now,) = self.network.balances([PAYEE])
        return now - self._before

    def mine(self, blocks: int) -> None:
        self.network.mine(blocks)

    def reorganise(self, depth: int) -> None:
        self.network.reorganise(depth)

    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @staticmethod
    def _nonce(row: PaymentRow) -> bytes:
        from micropaywall.rails.exact.types import read_instruction

        return read_instruction(row.instruction).authorization.nonce


@asynccontextmanager
async def sandbox_file(place: Path) -> AsyncIterator[Rig]:
    clock = ManualClock()
    rig = SandboxRig(SandboxNetwork(place / "sandbox.db", clock=clock), clock)
    yield rig
    await rig.settlement.close()


@asynccontextmanager
async def sandbox_http(place: Path) -> AsyncIterator[Rig]:
    clock = ManualClock()
    network = SandboxNetwork(place / "sandbox.db", clock=clock)
    with SandboxServer(network, port=0) as server:
        rig = SandboxRig(RemoteNetwork(server.url), clock)
        yield rig
        await rig.settlement.close()
    network.close()


RIGS: dict[str, Callable[[Path], AbstractAsyncContextManager[Rig]]] = {
    "sandbox file": sandbox_file,
    "sandbox over HTTP": sandbox_http,
}
