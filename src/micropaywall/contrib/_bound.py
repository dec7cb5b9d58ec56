"""What the decorators share: finding the exchange of the running request, and passing its price."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micropaywall.errors import ConfigurationError

SESSION = "micropaywall.exchange"


def exchange_in(place: Mapping[str, Any]) -> Any:
    """The exchange in an ASGI scope or WSGI environ; ConfigurationError when the application is not wrapped."""
    exchange = place.get(SESSION)
    if exchange is None:
        raise ConfigurationError(
            "a priced endpoint was called without its paywall around the application",
            hint="Wrap the application once: app = paywall.asgi(app), or paywall.wsgi(app).",
        )
    return exchange
