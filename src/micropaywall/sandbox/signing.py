"""Signatures that the sandbox token takes: EIP-3009's transfer and cancellation, under either of its chain ids."""

from __future__ import annotations

from typing import Final

from micropaywall.crypto.eip712 import domain_separator, hash_struct, type_hash, typed_digest, word_address
from micropaywall.crypto.secp256k1 import recover_address_bytes
from micropaywall.errors import SignatureInvalid
from micropaywall.rails.exact.facilitator import check_signature
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID, SANDBOX_TOKEN

__all__ = ["CANCEL_AUTHORIZATION", "cancel_digest", "is_cancel_signed", "is_transfer_signed"]

CANCEL_AUTHORIZATION: Final = type_hash("CancelAuthorization(address authorizer,bytes32 nonce)")
"""EIP-3009."""


def is_transfer_signed(transfer: Instruction) -> bool:
    """Whether the payer signed this transfer of this token, as ECRecover and FiatToken v2.2 check it (EOA only)."""
    token = SANDBOX_TOKEN
    if transfer.token != token.address or not token.knows_chain(transfer.chain_id):
        return False
    try:
        check_signature(token, transfer.authorization, transfer.signature, chain_id=transfer.chain_id)
    except SignatureInvalid:
        return False
    return True


def cancel_digest(authorizer: bytes, nonce: bytes, *, chain_id: int = SANDBOX_CHAIN_ID) -> bytes:
    """What an authorizer (20 bytes) signs to cancel ``nonce`` (32 bytes)."""
    token = SANDBOX_TOKEN
    separator = domain_separator(token.name, token.version, chain_id, token.address)
    return typed_digest(separator, hash_struct(CANCEL_AUTHORIZATION, word_address(authorizer), nonce))


def is_cancel_signed(authorizer: bytes, nonce: bytes, signature: bytes, chain_id: int) -> bool:
    """Whether the authorizer signed the cancellation."""
    if not SANDBOX_TOKEN.knows_chain(chain_id):
        return False
    try:
        return recover_address_bytes(cancel_digest(authorizer, nonce, chain_id=chain_id), signature) == authorizer
    except SignatureInvalid:
        return False
