"""A configuration file, checked as `micropaywall serve` would use it, without serving."""

from __future__ import annotations

import importlib.util
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from micropaywall.cli import parts
from micropaywall.cli.diagnosis.finding import Finding, bad, good, note, warn
from micropaywall.clock import SystemClock
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.errors import ConfigurationError
from micropaywall.ledger import path_of
from micropaywall.money import Price
from micropaywall.rails import registry
from micropaywall.settings import Loaded, load_settings, routes

__all__ = ["examine"]


def examine(file: Path) -> list[Finding]:
    """What is right and wrong with ``file``."""
    try:
        loaded = load_settings(file)
    except ConfigurationError as error:
        expected = f"expected {error.expected}" if error.expected else None
        return [bad("settings", error.detail, error.hint or expected, code=error.code)]
    return [
        good("settings", f"{file} can be read, and every key is a setting"),
        *_seller(loaded),
        *_rails(loaded),
        *_routes(loaded),
        *_server(loaded),
        *_ledger(loaded),
    ]


def _seller(loaded: Loaded) -> Iterator[Finding]:
    seller, server = loaded.settings.seller, loaded.settings.server
    if seller.pay_to:
        address = to_checksum(parse_address(seller.pay_to))
        digits = seller.pay_to[2:]
        if digits not in (digits.lower(), digits.upper()) and seller.pay_to != address:
            yield bad(
                "pay_to",
                f"seller.pay_to has a wrong EIP-55 checksum: {seller.pay_to}",
                f"A slip? {address} would be right.",
            )
        else:
            yield good("pay_to", f"payments go to {address}")
    elif set(loaded.settings.rails) <= {parts.SANDBOX}:
        yield note("pay_to", "no address to be paid at is set: good enough for the sandbox only")
    else:
        yield bad("pay_to", "no address to be paid at is set", "Set seller.pay_to.")
    if seller.public_url:
        if urlsplit(seller.public_url).scheme == "https":
            yield good("public_url", f"buyers come to {seller.public_url}")
        else:
            yield warn("public_url", f"{seller.public_url} is plain HTTP", "Buyers pay real money over HTTPS only.")
    elif server.allow_plain_http:
        yield bad(
            "public_url",
            "a proxy speaks TLS for this server (allow_plain_http), and its address is not known",
            'Set seller.public_url = "https://…", or every offer will name http://.',
        )


def _rails(loaded: Loaded) -> Iterator[Finding]:
    if not loaded.settings.rails:
        yield warn("rails", "no rail is configured", "Add [rails.sandbox], or serve with --sandbox.")
    options = parts.rail_options(loaded)
    for name in loaded.settings.rails:
        try:
            rail = registry.open_rail(
                name, pay_to=loaded.settings.seller.pay_to or None, options=options[name], clock=SystemClock()
            )
        except ConfigurationError as error:
            yield bad("rail", f"rail {name}: {error.detail}", error.hint, rail=name)
        else:
            money = "play money" if rail.seller.play_money else "real money"
            yield good("rail", f"rail {name}: {rail.seller.asset.symbol} on {rail.seller.network}, {money}", rail=name)


def _routes(loaded: Loaded) -> Iterator[Finding]:
    seller = loaded.settings.seller
    if not seller.routes:
        yield note("routes", "no route is priced here", "Price them in [[seller.routes]], or in the application.")
    for route in routes(seller):
        price = str(route.price) if isinstance(route.price, Price) else "by request"
        yield good("route", f"{route.name} costs {price}, settled {route.settle}", route=route.name)


def _server(loaded: Loaded) -> Iterator[Finding]:
    server = loaded.settings.server
    if server.app:
        module = server.app.partition(":")[0]
        if not _can_be_found(module):
            yield bad("app", f"there is no module {module!r}", "Run this where `micropaywall serve` will run.")
        else:
            yield good("app", f"the application {server.app} can be found")
    if server.tls_cert:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(server.tls_cert, server.tls_key)
        except (OSError, ssl.SSLError) as error:
            yield bad("tls", f"the certificate and key cannot be used: {error.strerror or error}")
        else:
            yield good("tls", "certificate and key belong together")
    from micropaywall.cli.serve import check_transport

    try:
        check_transport(loaded.settings)
    except ConfigurationError as error:
        yield bad("transport", error.detail, error.hint)


def _can_be_found(module: str) -> bool:
    here = os.getcwd()  # noqa: PTH109  a string is what sys.path takes
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False
    finally:
        if added:
            sys.path.remove(here)


def _ledger(loaded: Loaded) -> Iterator[Finding]:
    file = path_of(loaded.settings.ledger.url)
    place = file if file.exists() else file.parent
    if not place.exists():
        yield bad(
            "ledger", f"the book's directory {file.parent} does not exist", "Make it, or name another in ledger.url."
        )
    elif not os.access(place, os.W_OK):
        yield bad("ledger", f"the book {file} cannot be written by this user")
    else:
        yield good("ledger", f"the book is {file}{'' if file.exists() else ' (begun at the first start)'}")
