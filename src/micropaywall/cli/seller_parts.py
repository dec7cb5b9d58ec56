"""What `refund` and `worker` share: the book and the rails of a configuration, without a paywall."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from micropaywall.cli import parts
from micropaywall.clock import Clock, SystemClock
from micropaywall.rails import registry
from micropaywall.seller.owner import new_owner

if TYPE_CHECKING:
    from micropaywall.ledger.port import Ledger
    from micropaywall.rails.port import Rail
    from micropaywall.settings import Loaded
    from micropaywall.settlement.carry import Settlements

__all__ = ["Backroom", "backroom"]


@dataclass(frozen=True, slots=True)
class Backroom:
    """A seller's book and rails, open. ``owner`` names this process in leases."""

    ledger: Ledger
    rails: tuple[Rail, ...]
    clock: Clock
    owner: str

    @property
    def settlements(self) -> Settlements:
        """The facilitator's sides by (rail, network)."""
        return {(rail.seller.name, rail.seller.network): rail.settlement for rail in self.rails}


@asynccontextmanager
async def backroom(loaded: Loaded) -> AsyncIterator[Backroom]:
    """Open the configured rails (the sandbox when none is) and the book; close them at the end."""
    settings, clock = loaded.settings, SystemClock()
    options = parts.rail_options(loaded)
    rails = tuple(
        registry.open_rail(name, pay_to=settings.seller.pay_to or None, options=options.get(name, {}), clock=clock)
        for name in settings.rails or (parts.SANDBOX,)
    )
    ledger = await parts.open_book(settings)
    try:
        yield Backroom(ledger, rails, clock, new_owner())
    finally:
        for rail in rails:
            await rail.settlement.close()
        await ledger.close()
