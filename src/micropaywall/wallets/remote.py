"""A signer in another place, reached over HTTPS: an example of the port, and a small protocol of its own.

    POST {url}      {"type": "TransferWithAuthorization", "domain": {...}, "message": {...}, "account": "0x..."}
    200             {"signature": "0x..."}
    anything else   refused; ``detail`` of a problem document is kept as the remote's word

The remote gets EIP-712 typed data, so that it can apply rules of its own. It is not trusted: its account is pinned here,
and a signature that is not that account's, over exactly what was asked, is refused. Plain HTTP only to loopback.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from micropaywall.core.hosts import is_loopback_host
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.secp256k1 import SIGNATURE_BYTES, recover_address_bytes
from micropaywall.errors import ConfigurationError, SignatureInvalid, SignatureRefused, WalletError
from micropaywall.wallets.secret import Secret
from micropaywall.wallets.signer import TransferMessage, check_message

__all__ = ["RemoteSigner", "typed_data"]

_ANSWER_BYTES_MAX: Final = 65_536
_WORD_CHARS_MAX: Final = 200


class RemoteSigner:
    """Asks a service for signatures of ``address``. ``token`` is sent as a bearer token when given.

    Raises WalletError when the service cannot be reached or does not answer in ``timeout_s``, SignatureRefused when it
    refuses or answers with another signature than asked for.
    """

    def __init__(
        self,
        url: str,
        *,
        address: str,
        token: Secret[str] | None = None,
        timeout_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        host = parts.hostname
        if (
            host is None
            or parts.username
            or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback_host(host)))
        ):
            raise ConfigurationError(
                "a remote signer is reached over https, or over http on this machine",
                expected="https://host/path",
                received=f"{parts.scheme}://{host}",
            )
        self.address_bytes = parse_address(address)
        self.address = to_checksum(self.address_bytes)
        self._target = parts.path + (f"?{parts.query}" if parts.query else "") or "/"
        self._connect: Callable[[], http.client.HTTPConnection]
        if parts.scheme == "https":
            context = tls or ssl.create_default_context()
            self._connect = lambda: http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)
        else:
            self._connect = lambda: http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        self._token = token

    def sign(self, message: TransferMessage) -> bytes:
        """See `wallets.signer.Signer`."""
        check_message(message, self.address_bytes)
        body = json.dumps({**typed_data(message), "account": self.address}).encode()
        status, answer = self._ask(body)
        if status != 200:
            raise SignatureRefused(
                "the remote signer refused", received=f"status {status}", facts={"remoteDetail": _word(answer)}
            )
        signature = _signature(answer.get("signature"))
        try:
            signed_by = recover_address_bytes(message.digest(), signature)
        except SignatureInvalid as error:
            raise SignatureRefused(f"the remote signer's answer is no signature: {error.detail}") from None
        if signed_by != self.address_bytes:
            raise SignatureRefused(
                "the remote signer signed something else, or with another key",
                expected=self.address,
                received=to_checksum(signed_by),
            )
        return signature

    def _ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        connection = self._connect()
        try:
            connection.request("POST", self._target, body, self._headers())
            with connection.getresponse() as response:
                raw, status = response.read(_ANSWER_BYTES_MAX + 1), response.status
        except (OSError, http.client.HTTPException) as error:
            raise WalletError(
                f"the remote signer cannot be reached ({type(error).__name__}); nothing was signed"
            ) from None
        finally:
            connection.close()
        if len(raw) > _ANSWER_BYTES_MAX:
            raise SignatureRefused("the remote signer's answer is too long")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            if status == 200:
                raise SignatureRefused("the remote signer's answer is no JSON object")
            answer = {}
        return status, answer

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token.reveal()}"
        return headers

    def __repr__(self) -> str:
        return f"RemoteSigner(address={self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a remote signer is not pickled: it may hold a token")


def typed_data(message: TransferMessage) -> dict[str, Any]:
    """``message`` as EIP-712 typed data in JSON; numbers are decimal strings."""
    token, authorization = message.token, message.authorization
    return {
        "type": "TransferWithAuthorization",
        "domain": {
            "name": token.name,
            "version": token.version,
            "chainId": str(message.chain_id),
            "verifyingContract": token.address_text,
        },
        "message": {
            "from": to_checksum(authorization.payer),
            "to": to_checksum(authorization.payee),
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": "0x" + authorization.nonce.hex(),
        },
    }


def _signature(value: object) -> bytes:
    if isinstance(value, str) and value.startswith("0x") and len(value) == 2 + 2 * SIGNATURE_BYTES:
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise SignatureRefused("the remote signer's answer has no signature", expected="0x and 130 hex digits")


def _word(answer: dict[str, Any]) -> str:
    text = answer.get("detail") or answer.get("error") or ""
    return "".join(c if c.isprintable() else " " for c in text[:_WORD_CHARS_MAX]) if isinstance(text, str) else ""
