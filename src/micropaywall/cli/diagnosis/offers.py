"""One offer of a 402, explained: what it costs, whom it pays, whether it can be paid at all; and which URL it is for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from micropaywall import limits
from micropaywall.cli.diagnosis.finding import Finding, bad, good, note, warn
from micropaywall.cli.output import local_time
from micropaywall.core.model import Offer
from micropaywall.core.quote import LONG_QUOTE_CHARS, QUOTE_CHARS
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.money import Asset, Money
from micropaywall.proto.x402.networks import V1_OFFERABLE, v1_of_caip2
from micropaywall.sandbox.token import SANDBOX_NETWORK

__all__ = ["LOOPBACK", "Buyer", "offer_findings", "origin_of", "price_of", "resource_findings"]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_KNOWN_ASSETS: Final[Mapping[str, Asset]] = {
    asset.id: asset
    for asset in (
        Asset("eip155:8453/erc20:0x833589fcd6edb6e08f4c7c32d4f71b54bda02913", "USDC", 6, "USD"),
        Asset("eip155:84532/erc20:0x036cbd53842c5426634e7929541ec2318f3dcf7e", "test USDC", 6),
    )
}
"""Tokens that are met most, so that their amounts can be shown in whole units. Nothing is decided by them."""


@dataclass(frozen=True, slots=True)
class Buyer:
    """What our own wallet would make of an offer."""

    assets: Callable[[str, str], Asset | None]
    can_pay: Callable[[Offer], bool]


def offer_findings(offer: Offer, dialect: str, buyer: Buyer) -> Iterator[Finding]:
    known_as = "sandbox" if offer.network == SANDBOX_NETWORK else offer.v1_network or v1_of_caip2(offer.network)
    network = f"{offer.network} ({known_as})" if known_as else offer.network
    yield note(
        "offer",
        f"{dialect}: {price_of(offer)} by {offer.scheme} on {network}, to {offer.pay_to}",
        scheme=offer.scheme,
        network=offer.network,
        amount=str(offer.price.amount_atomic),
        asset=offer.asset_address,
        payTo=offer.pay_to,
        payable=buyer.can_pay(offer),
    )
    if offer.price.amount_atomic == 0:
        yield bad("amount", f"{dialect}: the amount is zero", "Leave the price off a free resource.")
    if offer.max_timeout_s <= limits.AUTHORIZATION_MARGIN_S:
        yield bad(
            "timeout",
            f"{dialect}: a payment would live {offer.max_timeout_s} s, too short to be settled",
            f"maxTimeoutSeconds of {limits.AUTHORIZATION_LIFETIME_S} is usual.",
        )
    if offer.network.startswith("eip155:"):
        yield from _address(offer, dialect)
        if offer.scheme == "exact" and "assetTransferMethod" not in offer.extra:
            missing = [name for name in ("name", "version") if not offer.extra.get(name)]
            if missing:
                yield bad(
                    "extra",
                    f"{dialect}: extra.{missing[0]} is missing",
                    "Clients need the token's EIP-712 name and version to sign.",
                )
    if dialect == "v1" and offer.v1_network not in V1_OFFERABLE:
        yield warn(
            "v1-network",
            f"v1: legacy clients do not know the network {offer.v1_network!r} and reject the whole answer",
            f"Offer v1 clients only {', '.join(sorted(V1_OFFERABLE))}.",
        )
    quote = offer.extra.get("quote")
    if isinstance(quote, str) and len(quote) in (QUOTE_CHARS, LONG_QUOTE_CHARS) and dialect == "v2":
        yield note("quote", f"v2: the price is quoted and bound to the request until {_expiry(quote)}")


def price_of(offer: Offer) -> str:
    """The amount in whole units where the asset is known, else in atomic units of the token."""
    asset = offer.price.asset
    if not asset.symbol:
        asset = _KNOWN_ASSETS.get(asset.id, asset)
    if asset.symbol:
        return str(Money(offer.price.amount_atomic, asset))
    return f"{offer.price.amount_atomic} atomic units of {offer.asset_address}"


def _expiry(quote: str) -> str:
    try:
        seconds = int.from_bytes(base64.urlsafe_b64decode(quote + "=" * (-len(quote) % 4))[:4], "big")
    except (binascii.Error, ValueError):
        return "?"
    return local_time(seconds * 1000)


def _address(offer: Offer, dialect: str) -> Iterator[Finding]:
    try:
        raw = parse_address(offer.pay_to)
    except ValueError:
        yield bad("payee", f"{dialect}: payTo is no address: {offer.pay_to[:60]}")
        return
    if not any(raw):
        yield bad("payee", f"{dialect}: payTo is the zero address; payments to it are burnt or refused")
    digits = offer.pay_to[2:]
    if digits not in (digits.lower(), digits.upper()) and offer.pay_to != to_checksum(raw):
        yield bad(
            "payee",
            f"{dialect}: payTo has a wrong EIP-55 checksum, which hints at a slip",
            f"Is it {to_checksum(raw)}?",
        )


def resource_findings(resource_url: str, asked_url: str, dialect: str) -> Iterator[Finding]:
    if not resource_url:
        if dialect == "v2":
            yield warn(
                "resource", "v2: the resource's URL is missing", "Some clients show it to people who approve payments."
            )
        return
    if not asked_url:
        yield note("resource", f"{dialect}: it is for {resource_url}")
        return
    there, asked = urlsplit(resource_url), urlsplit(asked_url)
    if origin_of(there) == origin_of(asked):
        if there.path != asked.path:
            yield warn(
                "resource",
                f"{dialect}: it names another path, {there.path or '/'}",
                "A proxy that strips or adds a prefix? Set public_url.",
            )
        else:
            yield good("resource", f"{dialect}: it names the URL that was asked")
        return
    if there.hostname == asked.hostname and there.scheme != asked.scheme:
        why = f"it says {there.scheme}://, buyers come by {asked.scheme}://"
    else:
        why = f"it says {there.scheme}://{there.netloc}, buyers come to {asked.scheme}://{asked.netloc}"
    yield bad(
        "public-url",
        f"{dialect}: the resource's URL is not the one that was asked: {why}",
        f'Behind a proxy, tell the seller its public address: public_url = "{asked.scheme}://{asked.netloc}".',
        expected=f"{asked.scheme}://{asked.netloc}",
        received=f"{there.scheme}://{there.netloc}",
    )


def origin_of(parts: SplitResult) -> tuple[str, str, int]:
    try:
        port = parts.port
    except ValueError:
        port = 0
    host = (parts.hostname or "").lower()
    host = "loopback" if host in LOOPBACK else host
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)
