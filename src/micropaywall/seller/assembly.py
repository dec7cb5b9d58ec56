"""From names in a configuration to open parts: rails and the book. What cannot be opened stops the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from micropaywall.clock import Clock
from micropaywall.errors import ConfigurationError, RailError
from micropaywall.rails import registry
from micropaywall.rails.port import Rail

if TYPE_CHECKING:
    from micropaywall.ledger.port import Ledger


def open_rails(
    rails: Sequence[str | Rail], *, pay_to: str | None, options: Mapping[str, Mapping[str, object]], clock: Clock
) -> tuple[Rail, ...]:
    """The rails of a seller, in the order of preference; RailError for an unknown, broken or doubled one."""
    opened: list[Rail] = []
    for rail in rails:
        if isinstance(rail, str):
            found = registry.open_rail(rail, pay_to=pay_to, options=options.get(rail, {}), clock=clock)
        else:
            found = rail
        if any(found.seller.name == other.seller.name for other in opened):
            raise RailError(f"the rail {found.seller.name!r} is named twice", expected="each rail once")
        opened.append(found)
    if not opened:
        raise ConfigurationError("a paywall needs at least one rail", expected='rails=("sandbox",)')
    return tuple(opened)


async def open_ledger(url: str | None, rails: Sequence[Rail], clock: Clock, *, response_retention_s: int) -> Ledger:
    """The book at ``url`` (``sqlite:///path``), or the user's own (``<home>/ledger.db``) when it is None."""
    from micropaywall.ledger import open_ledger as opening

    assets = {rail.seller.asset for rail in rails}
    return await opening(url, assets=assets, clock=clock, response_retention_s=response_retention_s)
