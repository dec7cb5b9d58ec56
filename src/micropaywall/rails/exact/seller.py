"""The seller's side of the exact rail: offers a price in one token, and checks payments of it locally."""

from __future__ import annotations

from typing import Final

from micropaywall.core.model import Credential, Offer, VerifiedPayment
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.errors import OfferMismatch, RailError
from micropaywall.ids import ReplayKey
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX, AUTHORIZATION_MARGIN_S
from micropaywall.money import Asset, Price
from micropaywall.rails.exact.facilitator import NETWORK_MISMATCH, REASON, UNSUPPORTED_SCHEME, verify
from micropaywall.rails.exact.types import SCHEME, Authorization, Instruction, Token, parse_payload

__all__ = ["ExactSeller"]

_V1: Final = "x402/1"
_NAME_CHARS_SHOWN: Final = 64
"""How much of a stranger's scheme or network a refusal repeats."""


class ExactSeller:
    """Takes EIP-3009 payments in ``token`` to ``pay_to``. ``name`` is what the book calls this rail."""

    scheme = SCHEME

    def __init__(
        self,
        token: Token,
        pay_to: str,
        *,
        name: str = SCHEME,
        margin_s: int = AUTHORIZATION_MARGIN_S,
        lifetime_max_s: int = AUTHORIZATION_LIFETIME_S_MAX,
    ) -> None:
        try:
            payee = parse_address(pay_to)
        except ValueError:
            raise RailError(
                f"the rail {name!r} has no usable payee", expected="an address: 0x and 40 hex digits", received=pay_to
            ) from None
        if not any(payee):
            raise RailError(f"the rail {name!r} would pay the zero address, from which nothing comes back")
        self.name = name
        self.network = token.network
        self.asset: Asset = token.asset
        self.token = token
        self.play_money = token.play_money
        self.pay_to = to_checksum(payee)
        self._payees = {self.pay_to: payee}
        self._margin_s = margin_s
        self._lifetime_max_s = lifetime_max_s

    def offer(self, price: Price, *, lifetime_s: int) -> Offer | None:
        """The offer for ``price`` without a quote, or None when this token cannot pay it."""
        amount = price.in_asset(self.asset)
        if amount is None:
            return None
        return Offer(
            SCHEME,
            self.network,
            amount,
            self.token.address_text,
            self.pay_to,
            lifetime_s,
            {"name": self.token.name, "version": self.token.version},
            self.token.v1_network,
        )

    def accepts(self, credential: Credential) -> bool:
        """Whether the credential is for this scheme, network and token.

        v1 names no token; there the signature tells. In v2 the echoed asset is a hint that tells two tokens of one
        network apart; a false one only leads to a refusal.
        """
        if credential.scheme != SCHEME:
            return False
        if credential.dialect == _V1:
            return bool(self.token.v1_network) and credential.network == self.token.v1_network
        if credential.network != self.network:
            return False
        asset = credential.accepted.get("asset") if credential.accepted is not None else None
        return not isinstance(asset, str) or asset.lower() == self.token.address_text.lower()

    def identify(self, credential: Credential) -> tuple[ReplayKey, bytes]:
        """Replay key and instruction of a credential, without judging it; CredentialMalformed or OfferMismatch."""
        chain_id = self._signing_chain(credential)
        authorization, signature = parse_payload(credential.payload)
        key = self.token.replay_key(authorization.payer, authorization.nonce)
        return key, self._instruction(chain_id, authorization, signature)

    def verify(self, offer: Offer, credential: Credential, *, now_s: int) -> VerifiedPayment:
        """Check a credential against our own ``offer``; what the client echoed has no say."""
        chain_id = self._signing_chain(credential)
        authorization, signature = parse_payload(credential.payload)
        payee = self._payees.get(offer.pay_to)
        verify(
            self.token,
            authorization,
            signature,
            chain_id=chain_id,
            payee=parse_address(offer.pay_to) if payee is None else payee,
            value=offer.price.amount_atomic,
            now_s=now_s,
            margin_s=self._margin_s,
            lifetime_max_s=self._lifetime_max_s,
        )
        return VerifiedPayment(
            self.token.replay_key(authorization.payer, authorization.nonce),
            self.name,
            self.network,
            offer.price,
            to_checksum(authorization.payer),
            to_checksum(authorization.payee),
            authorization.valid_after,
            authorization.valid_before,
            authorization.nonce,
            self._instruction(chain_id, authorization, signature),
        )

    def _instruction(self, chain_id: int, authorization: Authorization, signature: bytes) -> bytes:
        return Instruction(self.token.address, chain_id, authorization, signature).encode()

    def _signing_chain(self, credential: Credential) -> int:
        """The chain id that the payer's wallet put into the signature, in the credential's dialect."""
        token = self.token
        if credential.scheme != SCHEME:
            raise OfferMismatch(
                "the payment is for another scheme",
                expected=SCHEME,
                received=credential.scheme[:_NAME_CHARS_SHOWN],
                facts={REASON: UNSUPPORTED_SCHEME},
            )
        if credential.dialect == _V1:
            if token.v1_chain_id is not None and credential.network == token.v1_network:
                return token.v1_chain_id
            expected = token.v1_network or "x402 v2, which names this network"
        else:
            if credential.network == token.network:
                return token.chain_id
            expected = token.network
        raise OfferMismatch(
            "the payment is for another network",
            expected=expected,
            received=credential.network[:_NAME_CHARS_SHOWN],
            facts={REASON: NETWORK_MISMATCH},
        )
