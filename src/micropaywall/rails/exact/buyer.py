"""The buyer's side of the exact rail: signs a TransferWithAuthorization of a recognised token, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from micropaywall.core.model import Offer
from micropaywall.crypto.address import parse_address
from micropaywall.errors import SignatureRefused
from micropaywall.ids import ReplayKey
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX, AUTHORIZATION_MARGIN_S
from micropaywall.money import Asset
from micropaywall.rails.exact.types import (
    NONCE_BYTES,
    SCHEME,
    Authorization,
    Token,
    parse_payload,
    write_payload,
)
from micropaywall.wallets.signer import Signer, TransferMessage

__all__ = ["ExactBuyer"]

_FLOWS: Final = frozenset({None, "authorization", "upfront"})
"""x402 payment flows in which an EIP-3009 payer signs the same: settled after or before the resource is served."""
_METHODS: Final = frozenset({None, "eip3009"})


class ExactBuyer:
    """Pays in ``tokens``. The domain that is signed is the token's as configured here, never the one in the offer."""

    scheme = SCHEME

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._known: dict[tuple[str, bytes], tuple[Token, int]] = {}
        for token in tokens:
            self._known[token.network, token.address] = (token, token.chain_id)
            if token.v1_chain_id is not None:
                self._known.setdefault((f"eip155:{token.v1_chain_id}", token.address), (token, token.v1_chain_id))

    def asset_of(self, network: str, asset_address: str) -> Asset | None:
        """The asset that an offer's network (CAIP-2) and token address name, or None when it is none of ours."""
        found = self._find(network, asset_address)
        return None if found is None else found[0].asset

    def can_pay(self, offer: Offer) -> bool:
        """Whether `authorize` would sign this offer (for some signer and a good nonce)."""
        try:
            self._terms(offer)
        except SignatureRefused:
            return False
        return True

    def authorize(self, offer: Offer, *, signer: Signer, now_s: int, nonce: bytes) -> Mapping[str, Any]:
        """The payload of a payment of exactly this offer, valid from ever until its maxTimeoutSeconds from now.

        Raises SignatureRefused for a scheme, token, domain, transfer method or window that is not recognised.
        """
        token, chain_id, payee = self._terms(offer)
        if len(nonce) != NONCE_BYTES:
            raise SignatureRefused("a nonce has 32 bytes", received=f"{len(nonce)} bytes")
        authorization = Authorization(
            signer.address_bytes, payee, offer.price.amount_atomic, 0, now_s + offer.max_timeout_s, nonce
        )
        return write_payload(authorization, signer.sign(TransferMessage(token, chain_id, authorization, now_s)))

    def identify(self, offer: Offer, payload: Mapping[str, Any]) -> tuple[ReplayKey, int]:
        """Replay key of a payload that `authorize` made for ``offer``, and when it stops being valid (Unix seconds)."""
        token, _, _ = self._terms(offer)
        authorization, _ = parse_payload(payload)
        return token.replay_key(authorization.payer, authorization.nonce), authorization.valid_before

    def _find(self, network: str, asset_address: str) -> tuple[Token, int] | None:
        try:
            return self._known.get((network, parse_address(asset_address)))
        except ValueError:
            return None

    def _terms(self, offer: Offer) -> tuple[Token, int, bytes]:
        """Token, chain id to sign for, and payee; SignatureRefused when any of them is not plain."""
        if offer.scheme != SCHEME:
            raise SignatureRefused("the offer is of another scheme", expected=SCHEME, received=offer.scheme)
        found = self._find(offer.network, offer.asset_address)
        if found is None:
            raise SignatureRefused(
                "the offer's token is none that this wallet recognises",
                received=f"{offer.asset_address} on {offer.network}",
            )
        token, chain_id = found
        if chain_id != token.chain_id and offer.v1_network != token.v1_network:
            raise SignatureRefused(
                "the offer's network is one that only x402 v1 borrows for this token",
                expected=token.network,
                received=offer.network,
            )
        extra = offer.extra
        if extra.get("name", token.name) != token.name or extra.get("version", token.version) != token.version:
            raise SignatureRefused(
                "the offer names another signing domain than the token has",
                expected=f"{token.name} version {token.version}",
            )
        if _text(extra.get("assetTransferMethod")) not in _METHODS or _text(extra.get("paymentFlow")) not in _FLOWS:
            raise SignatureRefused(
                "the offer asks for a transfer method or a payment flow that this wallet does not know"
            )
        if not AUTHORIZATION_MARGIN_S < offer.max_timeout_s <= AUTHORIZATION_LIFETIME_S_MAX:
            raise SignatureRefused(
                "the offer asks for an authorization with a life that is too short or too long",
                expected=f"{AUTHORIZATION_MARGIN_S + 1} to {AUTHORIZATION_LIFETIME_S_MAX} seconds",
                received=offer.max_timeout_s,
            )
        if offer.price.amount_atomic == 0:
            raise SignatureRefused("the offer asks for nothing, which needs no signature")
        try:
            payee = parse_address(offer.pay_to)
        except ValueError:
            payee = b""
        if not any(payee):
            raise SignatureRefused("the offer has no usable payee", expected="an address", received=offer.pay_to)
        return token, chain_id, payee


def _text(value: object) -> object:
    """``value`` when it can be looked up in a set of names, else something that is in none."""
    return value if value is None or isinstance(value, str) else ""
