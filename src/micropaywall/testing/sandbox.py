"""One test's own world: a chain, a book and a data directory that nobody else uses."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micropaywall.clock import Clock
from micropaywall.core.routes import PriceFunction, PriceSpec, Route
from micropaywall.crypto.address import parse_address
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.money import Money
from micropaywall.sandbox.faults import HEADER, Fault, parse_fault, parse_faults
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.rail import DEFAULT_PAYEE
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.seller.paywall import Paywall
from micropaywall.wallets.signer import LocalSigner

if TYPE_CHECKING:
    from micropaywall.client.payer import Payer

__all__ = ["Faults", "PaywallSandbox"]

_SINK = bytes([0xDE, 0xAD]) * 10
"""Where money goes that an account is to be without."""


class Faults:
    """Trouble for the payments of a test's sellers; ``docs/reference/sandbox-faults.md`` lists it."""

    def __init__(self) -> None:
        self._settlements: list[SandboxSettlement] = []
        self._standing: tuple[Fault, ...] = ()

    def set(self, *faults: str) -> None:
        """From now on, every payment meets these: ``faults.set("slow=2", "late")``. ConfigurationError for an unknown one."""
        self._standing = parse_faults(faults)
        for settlement in self._settlements:
            settlement.set_faults(self._standing)

    def clear(self) -> None:
        """No more trouble."""
        self.set()

    @staticmethod
    def header(*faults: str) -> dict[str, str]:
        """The request header by which one request asks for faults of its own."""
        return {HEADER.decode().title(): ", ".join(str(parse_fault(fault)) for fault in faults)}

    def watch(self, paywall: Paywall) -> None:
        """Let the faults strike the sandbox payments of ``paywall``, too."""
        for rail in paywall.rails:
            if isinstance(rail.settlement, SandboxSettlement):
                self._settlements.append(rail.settlement)
                rail.settlement.set_faults(self._standing)


class PaywallSandbox:
    """The chain and the files under ``home``, and what a test may do to them. Amounts are texts of whole USDC: ``"0.001"``."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.home = home
        self.clock = clock
        self.network = SandboxNetwork(home / "sandbox.db", clock=clock)
        self.ledger_url = f"sqlite:///{home / 'ledger.db'}"
        self.payee = DEFAULT_PAYEE
        self.faults = Faults()
        self._payer: Payer | None = None

    @cached_property
    def buyer(self) -> LocalSigner:
        """The account that the paying clients use: 1,000 USDC."""
        return self.wallet()

    @property
    def payer(self) -> Payer:
        """Wallet, budget ($100 in total) and journal of the paying clients."""
        if self._payer is None:
            from micropaywall.client.payer import Payer

            self._payer = Payer(wallet=self.buyer, budget="$100 in total", home=self.home, clock=self.clock)
        return self._payer

    def paywall(
        self,
        routes: Mapping[str, PriceSpec | PriceFunction | Mapping[str, object]] | Sequence[Route] | None = None,
        **options: Any,
    ) -> Paywall:
        """A Paywall on this chain and this book; ``options`` are those of `micropaywall.Paywall`."""
        given = {
            "ledger": self.ledger_url,
            "clock": self.clock,
            "rail_options": {"sandbox": {"store": str(self.network.path)}},
        }
        paywall = Paywall(routes, **{**given, **options})
        self.faults.watch(paywall)
        return paywall

    def wallet(self, balance: str | None = None) -> LocalSigner:
        """A new account, with the initial balance or with ``balance``."""
        key = PrivateKey(secrets.token_bytes(32))
        if balance is not None:
            wanted = SANDBOX_TOKEN.asset.from_decimal(Decimal(balance)).amount_atomic
            (has,) = self.network.balances([key.address_bytes])
            if wanted > has:
                self.network.fund(key.address_bytes, wanted - has, key=secrets.token_bytes(32))
            elif wanted < has:
                self.network.transfer(key.address_bytes, _SINK, has - wanted, key=secrets.token_bytes(32))
        return LocalSigner(key)

    def balance(self, address: str) -> Money:
        """What an address has now."""
        (amount,) = self.network.balances([parse_address(address)])
        return SANDBOX_TOKEN.asset.money(amount)

    def fund(self, address: str, amount: str) -> None:
        """The faucet."""
        value = SANDBOX_TOKEN.asset.from_decimal(Decimal(amount)).amount_atomic
        self.network.fund(parse_address(address), value, key=secrets.token_bytes(32))

    def mine(self, blocks: int = 1) -> None:
        """Make blocks now; six of them make a payment final."""
        self.network.mine(blocks)

    def reorganise(self, depth: int = 1) -> None:
        """Undo the last blocks and the payments in them."""
        self.network.reorganise(depth)

    def close(self) -> None:
        """Let go of the files."""
        if self._payer is not None:
            self._payer.close()
        self.network.close()
