"""What a rail is to a seller, to a settlement worker and to a buyer.

Seller and buyer sides are pure: they check and sign values and never touch a network. The facilitator side talks to the
network; it is asynchronous and takes batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from micropaywall.core.book import PaymentRow, RefundRow
from micropaywall.core.model import Credential, Offer, Outcome, VerifiedPayment
from micropaywall.ids import ReplayKey
from micropaywall.money import Asset, Price


class SellerRail(Protocol):
    """One (scheme, network, asset) that a seller takes. ``play_money``: a sandbox, worth nothing."""

    name: str
    scheme: str
    network: str
    asset: Asset
    play_money: bool

    def offer(self, price: Price, *, lifetime_s: int) -> Offer | None:
        """The offer for ``price`` without a quote, or None when this rail's asset cannot pay it.

        Raises PriceError when the price has more decimals than the asset.
        """
        ...

    def accepts(self, credential: Credential) -> bool:
        """Whether scheme and network of the credential (in its own dialect) are this rail's."""
        ...

    def identify(self, credential: Credential) -> tuple[ReplayKey, bytes]:
        """Replay key and instruction of a credential, without judging it: who holds these bytes holds the payment.

        Raises CredentialMalformed.
        """
        ...

    def verify(self, offer: Offer, credential: Credential, *, now_s: int) -> VerifiedPayment:
        """Check payload, payee, amount, window and signature against *our* offer; raises RequestRefused subclasses."""
        ...


class Settlement(Protocol):
    """The facilitator side of a rail: moves value, tells what became of it."""

    async def settle(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        """Submit each payment; the same payment may be submitted any number of times and moves once. Never raises for one row."""
        ...

    async def status(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        """What became of payments submitted before, without submitting. Unknown when the network cannot tell."""
        ...

    async def refund(self, refund: RefundRow) -> Outcome:
        """Pay a refund, idempotent by its id."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Rail:
    """A way to be paid, whole: what a seller checks with, and what moves the value."""

    seller: SellerRail
    settlement: Settlement


class BuyerRail(Protocol):
    """A scheme that a wallet can pay with."""

    scheme: str

    def can_pay(self, offer: Offer) -> bool:
        """Whether scheme, network and extra are ones this rail recognises and would sign."""
        ...

    def authorize(self, offer: Offer, *, signer: Any, now_s: int, nonce: bytes) -> Mapping[str, Any]:
        """The scheme payload, signed. ``nonce`` is 32 bytes chosen by the caller (derived from the quote when there is one)."""
        ...

    def asset_of(self, network: str, asset_address: str) -> Asset | None:
        """The asset that an offer's network (CAIP-2) and asset address name, or None when this rail does not know it."""
        ...

    def identify(self, offer: Offer, payload: Mapping[str, Any]) -> tuple[ReplayKey, int]:
        """Replay key of a payload that `authorize` made for ``offer``, and when it stops being valid (Unix seconds)."""
        ...
