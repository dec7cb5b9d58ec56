"""What types cannot say of the settings: addresses, URLs, prices, pairs that belong together."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from micropaywall.core.routes import Route, make_route
from micropaywall.errors import ConfigurationError, PriceError, RailError
from micropaywall.money import parse_price
from micropaywall.sandbox.faults import parse_faults
from micropaywall.settings.model import SellerSettings, Settings
from micropaywall.settings.origin import Loaded, place
from micropaywall.settings.secrets import shown

__all__ = ["check", "routes"]

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_APP: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(?:\(\))?")


def routes(seller: SellerSettings) -> tuple[Route, ...]:
    """The priced routes, with the seller's defaults filled in. Raises PriceError or ConfigurationError, naming the route."""
    return tuple(
        make_route(
            f"{route.method} {route.path}".strip(),
            {
                "price": route.price,
                "settle": route.settle or seller.settle,
                "binding": route.binding or seller.binding,
                "bind_body": route.bind_body,
                "description": route.description,
                "mime_type": route.mime_type,
                "max_body": seller.max_body_bytes if route.max_body_bytes is None else route.max_body_bytes,
                "timeout_s": float(route.timeout_s or seller.handler_timeout_s),
                "exposure_atomic": seller.exposure_atomic if route.exposure_atomic is None else route.exposure_atomic,
                "rails": route.rails,
            },
        )
        for route in seller.routes
    )


def check(loaded: Loaded) -> None:
    """Raise ConfigurationError (RailError for a rail) for the first setting that cannot work."""
    settings = loaded.settings
    _check_seller(loaded, settings)
    _check_rails(loaded, settings)
    _check_ledger(loaded, settings.ledger.url)
    server = settings.server
    if bool(server.tls_cert) != bool(server.tls_key):
        missing = "server.tls_key" if server.tls_cert else "server.tls_cert"
        raise _wrong(loaded, missing, "TLS needs certificate and key", "both tls_cert and tls_key", "only one of them")
    if server.app and not _APP.fullmatch(server.app):
        raise _wrong(loaded, "server.app", "does not name an application", "module:attribute", server.app)
    for index, budget in enumerate(settings.buyer.budgets):
        _price(loaded, f"buyer.budgets[{index}].limit", budget.limit)
    if settings.buyer.approve_above is not None:
        _price(loaded, "buyer.approve_above", settings.buyer.approve_above)


def _check_seller(loaded: Loaded, settings: Settings) -> None:
    seller = settings.seller
    if seller.pay_to and not _ADDRESS.fullmatch(seller.pay_to):
        raise _wrong(loaded, "seller.pay_to", "is not an address", "0x and 40 hex digits", seller.pay_to)
    if seller.public_url:
        _check_public_url(loaded, seller.public_url)
    for index, proxy in enumerate(seller.trusted_proxies):
        try:
            ipaddress.ip_network(proxy, strict=False)
        except ValueError:
            key = f"seller.trusted_proxies[{index}]"
            raise _wrong(loaded, key, "is not an IP address or network", "10.0.0.7 or 10.0.0.0/8", proxy) from None
    seen: dict[tuple[str, str], int] = {}
    for index, route in enumerate(seller.routes):
        key = f"seller.routes[{index}]"
        _price(loaded, f"{key}.price", route.price)
        first = seen.setdefault((route.method, route.path), index)
        if first != index:
            raise _wrong(loaded, key, f"prices the same as seller.routes[{first}]", "one price a route", route.path)
        for rail in route.rails:
            if rail not in settings.rails:
                raise _wrong(
                    loaded, f"{key}.rails", f"no rail is called {rail!r}", sorted(settings.rails), rail, RailError
                )
    routes(seller)


def _check_public_url(loaded: Loaded, url: str) -> None:
    key, expected = "seller.public_url", "https://host or https://host:port, without a path"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong(loaded, key, "is not a URL", expected, url) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _wrong(loaded, key, "is not the URL of a server", expected, url)
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise _wrong(loaded, key, "is scheme, host and port only", expected, url)


def _check_rails(loaded: Loaded, settings: Settings) -> None:
    for name, rail in settings.rails.items():
        key = f"rails.{name}"
        try:
            parse_faults(rail.faults)
        except ConfigurationError as error:
            raise _placed(loaded, f"{key}.faults", error, RailError) from None
        if "://" in rail.store and not rail.store.startswith(("http://", "https://", "sqlite:///")):
            raise _wrong(
                loaded,
                f"{key}.store",
                "is neither a file nor a URL of a sandbox",
                "a path, or http(s)://host:port",
                rail.store,
                RailError,
            )


def _check_ledger(loaded: Loaded, url: str) -> None:
    if not url:
        return
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        raise _wrong(
            loaded,
            "ledger.url",
            "PostgreSQL is not available yet in this version",
            "sqlite:///path/to/ledger.db",
            scheme,
            hint="Use SQLite: any number of workers on one host share it.",
        )
    if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
        raise _wrong(loaded, "ledger.url", "is not the URL of a book", "sqlite:///path/to/ledger.db", url)


def _price(loaded: Loaded, key: str, value: str | int) -> None:
    try:
        parse_price(value)
    except PriceError as error:
        raise _placed(loaded, key, error, PriceError) from None


def _placed(loaded: Loaded, key: str, error: ConfigurationError, kind: type[ConfigurationError]) -> ConfigurationError:
    """``error`` of somebody who did not know which setting it was about."""
    return kind(
        f"{place(loaded.origins, key)}: {error.detail}",
        expected=error.expected,
        received=shown(key, error.received),
        hint=error.hint,
    )


def _wrong(
    loaded: Loaded,
    key: str,
    what: str,
    expected: object,
    received: object,
    kind: type[ConfigurationError] = ConfigurationError,
    *,
    hint: str | None = None,
) -> ConfigurationError:
    return kind(f"{place(loaded.origins, key)}: {what}", expected=expected, received=shown(key, received), hint=hint)
