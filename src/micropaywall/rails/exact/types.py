"""The values of the exact rail: token, authorization, instruction, and the replay key that all encodings share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.eip712 import domain_separator, transfer_digest
from micropaywall.errors import CredentialMalformed, LedgerCorrupt, OfferMismatch
from micropaywall.ids import ReplayKey
from micropaywall.limits import SIGNATURE_BYTES_MAX
from micropaywall.money import Asset
from micropaywall.proto.x402.wire import amount_of

__all__ = [
    "SCHEME",
    "Authorization",
    "Instruction",
    "Token",
    "parse_payload",
    "read_instruction",
    "write_payload",
]

SCHEME: Final = "exact"
NONCE_BYTES: Final = 32
_KEY_TAG: Final = b"micropaywall/exact/eip3009/1"


class Authorization(NamedTuple):
    """EIP-3009's TransferWithAuthorization. Addresses are 20 bytes, the nonce 32, times Unix seconds."""

    payer: bytes
    payee: bytes
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Token:
    """An EIP-3009 token on one network. ``name`` and ``version`` are its EIP-712 domain.

    ``v1_network`` and ``v1_chain_id`` say how x402 v1 clients know the same token: the network's v1 name, and the chain id
    that they sign for. For a live chain that is ``chain_id`` again; a network that v1 cannot name borrows another's.
    Both encodings of an authorization have one replay key, under ``chain_id``. ``play_money``: worth nothing, a sandbox's.
    """

    asset: Asset
    network: str
    chain_id: int
    address: bytes
    name: str
    version: str
    v1_network: str = ""
    v1_chain_id: int | None = None
    play_money: bool = False
    address_text: str = field(init=False)
    separator: bytes = field(init=False, repr=False)
    _separators: Mapping[int, bytes] = field(init=False, repr=False, compare=False)
    _key_prefix: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if bool(self.v1_network) != (self.v1_chain_id is not None):
            raise ValueError("a token has both a v1 network name and a v1 chain id, or neither")
        chains = {self.chain_id} if self.v1_chain_id is None else {self.chain_id, self.v1_chain_id}
        separators = {chain: domain_separator(self.name, self.version, chain, self.address) for chain in chains}
        set_once = object.__setattr__  # a frozen dataclass fills its derived fields so
        set_once(self, "address_text", to_checksum(self.address))
        set_once(self, "separator", separators[self.chain_id])
        set_once(self, "_separators", separators)
        set_once(self, "_key_prefix", _KEY_TAG + self.chain_id.to_bytes(32, "big") + self.address)

    def digest(self, authorization: Authorization, chain_id: int) -> bytes:
        """What the payer signs, in the token's domain on ``chain_id`` (the token's own or its v1 alias)."""
        return transfer_digest(self._separators[chain_id], *authorization)

    def knows_chain(self, chain_id: int) -> bool:
        """Whether authorizations signed for ``chain_id`` are this token's."""
        return chain_id in self._separators

    def replay_key(self, payer: bytes, nonce: bytes) -> ReplayKey:
        """SHA-256 of tag, settling chain, token, payer and nonce, each of fixed length: what the token itself spends once."""
        return ReplayKey(hashlib.sha256(self._key_prefix + payer + nonce).digest())


# -- payload on the wire ----------------------------------------------------------------------------------------------

_EXPECTED: Final = "payload {authorization: {from, to, value, validAfter, validBefore, nonce}, signature}"


def parse_payload(payload: Mapping[str, Any]) -> tuple[Authorization, bytes]:
    """Authorization and signature of an exact payload in canonical form: the case of hex digits is gone.

    Raises CredentialMalformed, or OfferMismatch for the scheme's other transfer methods (Permit2, ERC-7710).
    """
    members = payload.get("authorization")
    if not isinstance(members, dict):
        if "permit2Authorization" in payload or "delegationManager" in payload:
            raise OfferMismatch(
                "the payment uses another transfer method than EIP-3009",
                expected=_EXPECTED,
                facts={"x402Reason": "unsupported_payload_type"},
            )
        raise _malformed("authorization", "an object")
    get = members.get
    return (
        Authorization(
            _address(get("from"), "from"),
            _address(get("to"), "to"),
            _uint(get("value"), "value"),
            _uint(get("validAfter"), "validAfter"),
            _uint(get("validBefore"), "validBefore"),
            _nonce(get("nonce")),
        ),
        _signature(payload.get("signature")),
    )


def write_payload(authorization: Authorization, signature: bytes) -> dict[str, Any]:
    """The payload of x402's exact scheme, for the wire."""
    return {
        "authorization": {
            "from": to_checksum(authorization.payer),
            "to": to_checksum(authorization.payee),
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": "0x" + authorization.nonce.hex(),
        },
        "signature": "0x" + signature.hex(),
    }


def _malformed(member: str, form: str) -> CredentialMalformed:
    return CredentialMalformed(
        f"the payment's {member} is not {form}", expected=_EXPECTED, facts={"x402Reason": "invalid_payload"}
    )


def _address(value: object, member: str) -> bytes:
    try:
        return parse_address(value)
    except ValueError:
        raise _malformed(member, "0x and 40 hex digits") from None


def _uint(value: object, member: str) -> int:
    number = amount_of(value)
    if number is None:
        raise _malformed(member, "a decimal string of a uint256")
    return number


def _nonce(value: object) -> bytes:
    raw = _hex(value)
    if raw is None or len(raw) != NONCE_BYTES:
        raise _malformed("nonce", "0x and 64 hex digits")
    return raw


def _signature(value: object) -> bytes:
    raw = _hex(value)
    if raw is None or len(raw) > SIGNATURE_BYTES_MAX:
        raise _malformed("signature", "0x and hex digits")
    return raw


def _hex(value: object) -> bytes | None:
    if type(value) is not str or not value.startswith("0x"):
        return None
    try:
        raw = bytes.fromhex(value[2:])  # takes blanks between bytes, which the length below excludes
    except ValueError:
        return None
    return raw if 2 * len(raw) + 2 == len(value) else None


# -- instruction in the book ------------------------------------------------------------------------------------------


class Instruction(NamedTuple):
    """All that settling needs: the authorization, its signature, the token and the chain id that was signed for."""

    token: bytes
    chain_id: int
    authorization: Authorization
    signature: bytes

    def encode(self) -> bytes:
        """Stable JSON: equal instructions have equal bytes."""
        auth = self.authorization
        return (
            f'{{"v":1,"token":"0x{self.token.hex()}","chainId":{self.chain_id},"from":"0x{auth.payer.hex()}",'
            f'"to":"0x{auth.payee.hex()}","value":"{auth.value}","validAfter":"{auth.valid_after}",'
            f'"validBefore":"{auth.valid_before}","nonce":"0x{auth.nonce.hex()}","signature":"0x{self.signature.hex()}"}}'
        ).encode("ascii")


def read_instruction(text: bytes) -> Instruction:
    """The instruction that `Instruction.encode` wrote; LedgerCorrupt for anything else."""
    try:
        members = json.loads(text)
        if not isinstance(members, dict) or members.get("v") != 1:
            raise LedgerCorrupt("a stored payment instruction has an unknown version")
        authorization, signature = parse_payload({"authorization": members, "signature": members.get("signature")})
        instruction = Instruction(parse_address(members.get("token")), members["chainId"], authorization, signature)
        if instruction.encode() != text:
            raise LedgerCorrupt("a stored payment instruction is not in its stable form")
    except (ValueError, KeyError, RecursionError, CredentialMalformed):
        raise LedgerCorrupt("a stored payment instruction cannot be read") from None
    return instruction
