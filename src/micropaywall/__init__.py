"""Put a price on any HTTP endpoint, and let any program pay it, exactly once.

A seller starts with :class:`Paywall`; a buyer with the client of its choice: `micropaywall.client.httpx2`, `.httpx` or
`.requests`. Names are loaded when they are used, so that a buyer does not import a seller.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from micropaywall.errors import MicropaywallError
    from micropaywall.money import Asset, Money, Price, parse_price
    from micropaywall.seller.paywall import Paywall

__version__ = "0.1.0"

_HOMES: Final = {
    "Asset": "micropaywall.money",
    "MicropaywallError": "micropaywall.errors",
    "Money": "micropaywall.money",
    "Paywall": "micropaywall.seller.paywall",
    "Price": "micropaywall.money",
    "parse_price": "micropaywall.money",
}

__all__ = ["Asset", "MicropaywallError", "Money", "Paywall", "Price", "__version__", "parse_price"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'micropaywall' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
