"""The port through which payments are signed.

A signer is handed a *message that it can read*, never a bare digest: what it signs is what it understands. Anything else
is refused (SignatureRefused), so that a signer cannot be talked into approving a token or moving another account's money.
A hardware wallet, a key service or a cosigner implements :class:`Signer`; `wallets.remote` is an example that works.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import SignatureRefused
from micropaywall.limits import AUTHORIZATION_LIFETIME_S_MAX
from micropaywall.rails.exact.types import NONCE_BYTES, Authorization, Token

__all__ = ["LocalSigner", "Signer", "TransferMessage", "check_message"]

_UINT256_END: Final = 2**256


@dataclass(frozen=True, slots=True)
class TransferMessage:
    """EIP-712 typed data that a payer signs: one EIP-3009 TransferWithAuthorization in the domain of ``token``.

    ``chain_id`` is the one in the domain: the token's own, or the one that x402 v1 borrows for it. ``asked_at_s`` (Unix
    seconds) is when the signature was asked for; it is not signed, and bounds how long the authorization may live.
    """

    token: Token
    chain_id: int
    authorization: Authorization
    asked_at_s: int

    def digest(self) -> bytes:
        """The 32 bytes that are signed."""
        return self.token.digest(self.authorization, self.chain_id)


class Signer(Protocol):
    """Somebody who signs payments of one account. Implementations may block (a network, a person with a button)."""

    @property
    def address(self) -> str:
        """The account, as EIP-55 text."""
        ...

    @property
    def address_bytes(self) -> bytes:
        """The account, as 20 bytes."""
        ...

    def sign(self, message: TransferMessage) -> bytes:
        """The 65-byte signature (r, low s, v of 27 or 28) of ``message``.

        Raises SignatureRefused for a message of another type, or of another account, or one that this signer's own rules
        do not allow.
        """
        ...


class LocalSigner:
    """A key in this process. ``tokens``: addresses (20 bytes) of the only tokens that it signs for, or None for any.

    The key's bytes are in no repr, copy or pickle of it.
    """

    __slots__ = ("_key", "_tokens", "address", "address_bytes")

    address: str
    address_bytes: bytes

    def __init__(self, key: PrivateKey, *, tokens: Collection[bytes] | None = None) -> None:
        self._key = key
        self._tokens = None if tokens is None else frozenset(tokens)
        self.address = key.address
        self.address_bytes = key.address_bytes

    @property
    def pays_only(self) -> frozenset[bytes] | None:
        """The token addresses that it signs for, or None for any."""
        return self._tokens

    def sign(self, message: TransferMessage) -> bytes:
        """See :class:`Signer`."""
        check_message(message, self.address_bytes)
        if self._tokens is not None and message.token.address not in self._tokens:
            raise SignatureRefused(
                "this wallet does not pay with that token",
                expected=sorted("0x" + token.hex() for token in self._tokens),
                received=f"{message.token.address_text} on chain {message.chain_id}",
                hint="A sandbox wallet holds play money only. For real money: micropaywall wallet create NAME",
            )
        return self._key.sign_digest(message.digest())

    def __repr__(self) -> str:
        return f"LocalSigner(address={self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is not pickled or copied: it holds a secret key")


def check_message(message: TransferMessage, own_address: bytes) -> None:
    """What every signer checks before it signs; raises SignatureRefused."""
    if type(message) is not TransferMessage:
        raise SignatureRefused(
            "only messages of a known type are signed", expected="TransferMessage", received=type(message).__name__
        )
    authorization = message.authorization
    if authorization.payer != own_address:
        raise SignatureRefused(
            "the message moves another account's money",
            expected="0x" + own_address.hex(),
            received="0x" + bytes(authorization.payer).hex(),
        )
    if not message.token.knows_chain(message.chain_id):
        raise SignatureRefused("the token is not on that chain", received=message.chain_id)
    if len(authorization.payee) != 20 or not any(authorization.payee):
        raise SignatureRefused("the payee is no account", received="0x" + bytes(authorization.payee).hex())
    if not 0 < authorization.value < _UINT256_END:
        raise SignatureRefused("the value is not between 1 and 2^256-1 atomic units")
    if len(authorization.nonce) != NONCE_BYTES:
        raise SignatureRefused(f"a nonce has {NONCE_BYTES} bytes", received=f"{len(authorization.nonce)} bytes")
    lives_until = message.asked_at_s + AUTHORIZATION_LIFETIME_S_MAX
    if not 0 <= authorization.valid_after < authorization.valid_before <= lives_until:
        raise SignatureRefused(
            "the authorization would live too long, or never",
            expected=f"at most {AUTHORIZATION_LIFETIME_S_MAX} s",
            received=f"{authorization.valid_after} to {authorization.valid_before}, asked for at {message.asked_at_s}",
        )
