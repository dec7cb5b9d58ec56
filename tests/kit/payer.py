"""A payer that builds its payments by hand, so that every field of one can be made wrong."""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from micropaywall.crypto.address import parse_address
from micropaywall.crypto.eip712 import domain_separator, transfer_digest
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID, SANDBOX_TOKEN

V1_CHAIN_ID = 84_532


@dataclass
class Payer:
    """A key, and the payments it can sign. Keyword arguments of `pay` overwrite what is *signed*; ``edit`` what is sent."""

    key: PrivateKey = field(default_factory=lambda: PrivateKey(secrets.token_bytes(32)))

    @property
    def address(self) -> str:
        return self.key.address

    def sign(self, *, chain_id: int = SANDBOX_CHAIN_ID, **authorization: Any) -> tuple[dict[str, str], str]:
        separator = domain_separator("USDC", "2", chain_id, SANDBOX_TOKEN.address)
        members = {
            "from": self.address,
            "to": authorization["to"],
            "value": str(authorization["value"]),
            "validAfter": str(authorization.get("valid_after", 0)),
            "validBefore": str(authorization.get("valid_before", int(time.time()) + 300)),
            "nonce": "0x" + authorization.get("nonce", secrets.token_bytes(32)).hex(),
        }
        digest = transfer_digest(
            separator,
            parse_address(members["from"]),
            parse_address(members["to"]),
            int(members["value"]),
            int(members["validAfter"]),
            int(members["validBefore"]),
            bytes.fromhex(members["nonce"][2:]),
        )
        return members, "0x" + self.key.sign_digest(digest).hex()

    def pay(self, required: dict[str, Any], **signed: Any) -> tuple[bytes, bytes]:
        """An x402 v2 payment header of the first offer of a decoded PAYMENT-REQUIRED."""
        offer = required["accepts"][0]
        terms = {"to": offer["payTo"], "value": offer["amount"], **signed}
        members, signature = self.sign(**terms)
        return v2_header(offer, members, signature)

    def pay_v1(self, body: dict[str, Any], **signed: Any) -> tuple[bytes, bytes]:
        """An x402 v1 payment header of the first offer of a 402's body."""
        offer = body["accepts"][0]
        terms = {"to": offer["payTo"], "value": offer["maxAmountRequired"], "chain_id": V1_CHAIN_ID, **signed}
        members, signature = self.sign(**terms)
        document = {
            "x402Version": 1,
            "scheme": "exact",
            "network": offer["network"],
            "payload": {"authorization": members, "signature": signature},
        }
        return b"x-payment", encode(document)


def v2_header(offer: dict[str, Any], members: dict[str, str], signature: str) -> tuple[bytes, bytes]:
    document = {"x402Version": 2, "accepted": offer, "payload": {"authorization": members, "signature": signature}}
    return b"payment-signature", encode(document)


def encode(document: Any) -> bytes:
    return base64.b64encode(json.dumps(document).encode())


def decode(value: bytes | str) -> Any:
    return json.loads(base64.b64decode(value))
