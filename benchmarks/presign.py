"""Many distinct payments for one offer, signed ahead of the measurement with our own buyer's parts, on all cores."""

from __future__ import annotations

import hashlib
import http.client
import os
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from micropaywall.core.quote import derive_nonce
from micropaywall.crypto.address import parse_address
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.proto import x402
from micropaywall.rails.exact.types import Authorization, Token, write_payload
from micropaywall.sandbox.token import SANDBOX_TOKEN

PAYERS = 1_000
"""How many payers share the payments: a seller with regular customers."""
CHUNK = 2_000


def challenge(url: str) -> x402.Challenge:
    """The challenge of ``url``."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", parts.path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.getheaders()]
    return x402.read_challenge(response.status, headers, body)


@cache
def payer_key(index: int) -> PrivateKey:
    """The key of payer ``index``: the same in every run."""
    return PrivateKey(hashlib.sha256(b"benchmark payer %d" % index).digest())


def sign_some(read: x402.Challenge, token: Token, first: int, count: int, payers: int, now_s: int) -> str:
    """``count`` payments as lines of header values."""
    chosen = read.offers[0]
    offer = chosen.offer
    quote = offer.extra.get("quote")
    payee, amount, until = parse_address(offer.pay_to), offer.price.amount_atomic, now_s + offer.max_timeout_s
    lines = []
    for number in range(first, first + count):
        signer = payer_key(number % payers)
        salt = os.urandom(16)
        nonce = derive_nonce(quote, signer.address_bytes, salt) if isinstance(quote, str) else salt + os.urandom(16)
        authorization = Authorization(signer.address_bytes, payee, amount, 0, until, nonce)
        payload = write_payload(authorization, signer.sign_digest(token.digest(authorization, token.chain_id)))
        _, value = x402.write_payment_v2(chosen.raw, payload, resource=read.resource)
        lines.append(value)
    return "\n".join(lines) + "\n"


def presign(url: str, count: int, target: Path, *, payers: int = PAYERS, token: Token = SANDBOX_TOKEN) -> float:
    """Write ``count`` payments for the first offer of ``url`` to ``target``; returns the seconds that it took."""
    started = time.monotonic()
    read = challenge(url)
    now_s = int(time.time())
    starts = range(0, count, CHUNK)
    with ProcessPoolExecutor(os.cpu_count()) as pool, target.open("w") as out:
        jobs = [pool.submit(sign_some, read, token, at, min(CHUNK, count - at), payers, now_s) for at in starts]
        for job in jobs:
            out.write(job.result())
    return time.monotonic() - started
