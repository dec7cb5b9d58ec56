"""The challenge in a 402: `PAYMENT-REQUIRED` (v2) and the body's `accepts` (v1), written by sellers and read by buyers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from micropaywall.core.model import Dialect, Headers, Offer
from micropaywall.errors import ChallengeInvalid
from micropaywall.limits import (
    AUTHORIZATION_LIFETIME_S_MAX,
    CHALLENGE_BODY_BYTES_MAX,
    CHALLENGE_ERROR_CHARS_MAX,
    CHALLENGE_HEADER_BYTES_MAX,
    CHALLENGE_JSON_DEPTH_MAX,
    OFFERS_READ_MAX,
)
from micropaywall.money import MAX_ATOMIC, Asset, Money
from micropaywall.proto.headers import decode_base64, encode_header
from micropaywall.proto.json import NotReadable, read_json, without_nulls
from micropaywall.proto.x402.networks import V1_OFFERABLE, caip2_of_v1
from micropaywall.proto.x402.wire import (
    PaymentRequired,
    PaymentRequiredOut,
    PaymentRequirements,
    PaymentRequirementsV1,
    ResourceInfo,
    amount_of,
)

__all__ = [
    "PAYMENT_REQUIRED",
    "Assets",
    "Challenge",
    "OfferRead",
    "Resource",
    "asset_id",
    "read_challenge",
    "v1_accepts",
    "write_payment_required_v2",
]

PAYMENT_REQUIRED: Final = b"payment-required"
QUOTE: Final = "quote"
"""Our member of a v2 offer's ``extra``; v1 clients echo nothing, so it is left out there."""

Assets = Callable[[str, str], "Asset | None"]
"""(CAIP-2 network, asset address as on the wire) -> the asset that a rail recognises there, or None."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is being sold, for people and catalogues. ``url`` is absolute."""

    url: str
    description: str = ""
    mime_type: str = ""


def asset_id(network: str, address: str) -> str:
    """The CAIP-19 id of a token on an EVM network (lower case, so that equal tokens have equal ids), or a plain pair."""
    return f"{network}/erc20:{address.lower()}" if network.startswith("eip155:") else f"{network}/{address}"


# -- the seller writes ------------------------------------------------------------------------------------------------


def write_payment_required_v2(
    offers: Sequence[Offer],
    resource: Resource,
    *,
    error: str = "Payment required",
    extensions: Mapping[str, Any] | None = None,
) -> bytes:
    """The value of the PAYMENT-REQUIRED header: every offer, in the order given, for v2 clients."""
    wire = PaymentRequiredOut(
        2,
        [
            PaymentRequirements(
                offer.scheme,
                offer.network,
                str(offer.price.amount_atomic),
                offer.asset_address,
                offer.pay_to,
                offer.max_timeout_s,
                without_nulls(offer.extra),
            )
            for offer in offers
        ],
        ResourceInfo(resource.url, resource.description or None, resource.mime_type or None),
        error,
        without_nulls(extensions) if extensions else None,
    )
    return encode_header(wire)


def v1_accepts(offers: Sequence[Offer], resource: Resource) -> list[dict[str, Any]]:
    """The ``accepts`` of a v1 body: those offers whose ``v1_network`` every legacy client knows, as JSON-able objects.

    Legacy clients reject a whole challenge over one unknown network, and over a missing description or mimeType.
    """
    return [
        {
            "scheme": offer.scheme,
            "network": offer.v1_network,
            "maxAmountRequired": str(offer.price.amount_atomic),
            "resource": resource.url,
            "description": resource.description,
            "mimeType": resource.mime_type,
            "payTo": offer.pay_to,
            "maxTimeoutSeconds": offer.max_timeout_s,
            "asset": offer.asset_address,
            "extra": {key: value for key, value in without_nulls(offer.extra).items() if key != QUOTE},
        }
        for offer in offers
        if offer.v1_network in V1_OFFERABLE
    ]


# -- the buyer reads --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfferRead:
    """An offer as a buyer read it. ``raw`` is its JSON as received, echoed byte for byte when it is accepted.

    ``offer.network`` is CAIP-2 in both dialects; ``offer.v1_network`` is the v1 name, or "" in v2.
    """

    offer: Offer
    raw: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402 as a buyer read it.

    ``offers`` are those that could be read, in the seller's order; ``unreadable`` says why each other was skipped.
    ``error`` is the seller's text, cut short and without control characters: data, never an instruction.
    ``resource`` and ``extensions`` are raw JSON for the echo (v2), or None.
    """

    dialect: Dialect
    offers: tuple[OfferRead, ...]
    unreadable: tuple[str, ...]
    resource_url: str
    error: str
    resource: bytes | None
    extensions: bytes | None


_required: Final = msgspec.json.Decoder(PaymentRequired)
_requirements: Final = msgspec.json.Decoder(PaymentRequirements)
_requirements_v1: Final = msgspec.json.Decoder(PaymentRequirementsV1)
_resource: Final = msgspec.json.Decoder(dict[str, Any])


def read_challenge(status: int, headers: Headers, body: bytes | None, *, assets: Assets | None = None) -> Challenge:
    """The challenge of a 402: the v2 header when there is one, else the v1 body.

    ``assets`` names the assets that the buyer's rails recognise; the price of another is in an asset without symbol and
    decimals, which no budget takes. Raises ChallengeInvalid when nothing can be read, or nothing is offered.
    """
    if status != 402:
        raise ChallengeInvalid(f"the answer has status {status}", expected="402", received=status)
    values = {value for name, value in headers if name == PAYMENT_REQUIRED}
    if len(values) > 1:
        raise ChallengeInvalid("the answer has two PAYMENT-REQUIRED headers that differ")
    try:
        if values:
            text = decode_base64(values.pop(), limit=CHALLENGE_HEADER_BYTES_MAX)
            return _read(text, 2, assets)
        if body:
            if len(body) > CHALLENGE_BODY_BYTES_MAX:
                raise NotReadable(f"its body has more than {CHALLENGE_BODY_BYTES_MAX} bytes")
            return _read(body, 1, assets)
    except NotReadable as error:
        raise ChallengeInvalid(
            f"the 402 cannot be read: {error}",
            expected="a PAYMENT-REQUIRED header (x402 v2) or a JSON body with x402Version 1",
        ) from None
    raise ChallengeInvalid("the 402 has neither a PAYMENT-REQUIRED header nor a body")


def _read(text: bytes, version: int, assets: Assets | None) -> Challenge:
    wire = read_json(text, _required, depth=CHALLENGE_JSON_DEPTH_MAX)
    if wire.x402_version != version:
        raise NotReadable(f"it says x402Version {wire.x402_version}, expected {version}")
    if len(wire.accepts) > OFFERS_READ_MAX:
        raise NotReadable(f"it has more than {OFFERS_READ_MAX} offers")
    if not wire.accepts:
        raise NotReadable("it offers nothing")
    offers: list[OfferRead] = []
    unreadable: list[str] = []
    resource_url = ""
    for number, raw in enumerate(wire.accepts):
        try:
            if version == 2:
                offers.append(OfferRead(_offer(bytes(raw), assets), bytes(raw)))
            else:
                offer, url = _offer_v1(bytes(raw), assets)
                resource_url = resource_url or url
                offers.append(OfferRead(offer, bytes(raw)))
        except NotReadable as error:
            unreadable.append(f"offer {number + 1}: {error}")
    resource = _member(wire.resource) if version == 2 else None
    if resource is not None:
        resource_url = _url(resource)
    return Challenge(
        "x402/2" if version == 2 else "x402/1",
        tuple(offers),
        tuple(unreadable),
        resource_url,
        _plain(wire.error),
        resource,
        _member(wire.extensions) if version == 2 else None,
    )


def _offer(raw: bytes, assets: Assets | None) -> Offer:
    wire = read_json(raw, _requirements, depth=CHALLENGE_JSON_DEPTH_MAX)
    price = _price(wire.network, wire.asset, wire.amount, assets)
    _check_timeout(wire.max_timeout_s)
    return Offer(wire.scheme, wire.network, price, wire.asset, wire.pay_to, wire.max_timeout_s, wire.extra or {})


def _offer_v1(raw: bytes, assets: Assets | None) -> tuple[Offer, str]:
    wire = read_json(raw, _requirements_v1, depth=CHALLENGE_JSON_DEPTH_MAX)
    network = caip2_of_v1(wire.network)
    if network is None:
        raise NotReadable("its network is none that x402 v1 names")
    price = _price(network, wire.asset, wire.max_amount_required, assets)
    _check_timeout(wire.max_timeout_s)
    extra = wire.extra if isinstance(wire.extra, dict) else {}
    offer = Offer(wire.scheme, network, price, wire.asset, wire.pay_to, wire.max_timeout_s, extra, wire.network)
    return offer, wire.resource or ""


def _price(network: str, address: str, amount: str, assets: Assets | None) -> Money:
    value = amount_of(amount)
    if value is None or value > MAX_ATOMIC:
        raise NotReadable("its amount is not a whole number of atomic units below 2^62")
    asset = assets(network, address) if assets is not None else None
    return Money(value, asset or Asset(asset_id(network, address), "", 0))


def _check_timeout(seconds: int) -> None:
    if not 0 < seconds <= AUTHORIZATION_LIFETIME_S_MAX:
        raise NotReadable(f"its maxTimeoutSeconds is not between 1 and {AUTHORIZATION_LIFETIME_S_MAX}")


def _member(raw: msgspec.Raw) -> bytes | None:
    """An optional member as bytes; null is absent."""
    text = bytes(raw)
    return None if text in (b"", b"null") else text


def _url(resource: bytes) -> str:
    try:
        url = read_json(resource, _resource, depth=CHALLENGE_JSON_DEPTH_MAX).get("url")
    except NotReadable:
        return ""
    return url if isinstance(url, str) else ""


def _plain(text: object) -> str:
    if not isinstance(text, str):
        return ""
    return "".join(char if char.isprintable() else " " for char in text[:CHALLENGE_ERROR_CHARS_MAX])
