"""The time that one exact payment costs a seller and a buyer, without HTTP, book and network.

    python -m benchmarks.micro_exact [--json] [--payments N] [--rounds N]

CPU time of this process, the median of several rounds, with the garbage collector as it runs in a server. The payments are
distinct, by many payers, and more than a seller remembers, so that only those caches answer that would. The parts below are
contained in the two sums on top.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from micropaywall.core.quote import derive_nonce
from micropaywall.crypto.keccak import keccak256
from micropaywall.crypto.secp256k1 import PrivateKey, recover_address_bytes
from micropaywall.limits import SIGNERS_REMEMBERED_MAX
from micropaywall.money import parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import Instruction, parse_payload
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets.signer import LocalSigner

NOW_S = 1_800_000_000
PAYERS = 500
QUOTE = "a3M_AAAAAAAAAAAAAAAAAAAAAAA"
OTHER_HEADERS = [(name, b"x" * 20) for name in (b"host", b"accept", b"user-agent", b"accept-encoding", b"connection")]


@dataclass(frozen=True)
class Exact:
    """Microseconds of CPU per payment (medians)."""

    verify_us: float
    """Request headers to VerifiedPayment: read, parse, check, recover, key, instruction."""
    sign_us: float
    """Offer to header value: nonce from the quote, typed data, signature, JSON, base64."""
    parts_us: dict[str, float]


def measure(payments: int = 5_000, rounds: int = 5) -> Exact:
    """Sign ``payments`` payments and verify each, ``rounds`` times."""
    if payments <= SIGNERS_REMEMBERED_MAX:
        raise SystemExit(f"more than {SIGNERS_REMEMBERED_MAX} payments are needed: signers of fewer are remembered")
    seller = ExactSeller(SANDBOX_TOKEN, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
    offer = seller.offer(parse_price("$0.001"), lifetime_s=300)
    if offer is None:
        raise SystemExit("the sandbox token takes dollars")
    quoted = replace(offer, extra={**offer.extra, "quote": QUOTE})
    required = x402.write_payment_required_v2([quoted], x402.Resource("http://localhost:3000/api/resource"))
    buyer = ExactBuyer([SANDBOX_TOKEN])
    challenge = x402.read_challenge(402, [(x402.PAYMENT_REQUIRED, required)], None, assets=buyer.asset_of)
    chosen = challenge.offers[0]
    keys = [PrivateKey(hashlib.sha256(b"benchmark payer %d" % number).digest()) for number in range(PAYERS)]
    signers = [LocalSigner(key) for key in keys]
    turns = [signers[number % PAYERS] for number in range(payments)]

    def sign(signer: LocalSigner) -> str:
        nonce = derive_nonce(QUOTE, signer.address_bytes, secrets.token_bytes(16))
        payload = buyer.authorize(chosen.offer, signer=signer, now_s=NOW_S, nonce=nonce)
        return x402.write_payment_v2(chosen.raw, payload, resource=challenge.resource)[1]

    requests = [[*OTHER_HEADERS, (x402.PAYMENT_SIGNATURE, sign(signer).encode())] for signer in turns]
    credentials = [x402.read_credential(headers) for headers in requests]
    parsed = [parse_payload(credential.payload) for credential in credentials if credential is not None]
    digests = [
        (SANDBOX_TOKEN.digest(authorization, SANDBOX_TOKEN.chain_id), signature) for authorization, signature in parsed
    ]
    instructions = [Instruction(SANDBOX_TOKEN.address, SANDBOX_TOKEN.chain_id, *pair) for pair in parsed]

    def verify(headers: Any) -> object:
        credential = x402.read_credential(headers)
        return None if credential is None else seller.verify(quoted, credential, now_s=NOW_S)

    def each(function: Callable[[Any], object], values: Sequence[Any]) -> float:
        return cpu_us(function, values, rounds)

    return Exact(
        verify_us=each(verify, requests),
        sign_us=each(sign, turns),
        parts_us={
            "verify: read the header": each(x402.read_credential, requests),
            "verify: check and recover": each(lambda read: seller.verify(quoted, read, now_s=NOW_S), credentials),
            "verify: recover the signer": each(lambda pair: recover_address_bytes(*pair), digests),
            "verify: parse the payload": each(lambda read: parse_payload(read.payload), credentials),
            "verify: EIP-712 digest": each(lambda pair: SANDBOX_TOKEN.digest(pair[0], SANDBOX_TOKEN.chain_id), parsed),
            "verify: replay key": each(lambda pair: SANDBOX_TOKEN.replay_key(pair[0].payer, pair[0].nonce), parsed),
            "verify: write the instruction": each(Instruction.encode, instructions),
            "sign: the digest only": each(lambda pair: keys[0].sign_digest(pair[0]), digests),
            "keccak256 of 64 bytes": each(keccak256, [secrets.token_bytes(64) for _ in range(payments)]),
            "read a challenge": each(
                lambda value: x402.read_challenge(402, [(x402.PAYMENT_REQUIRED, value)], None, assets=buyer.asset_of),
                [required] * payments,
            ),
            "write a challenge": each(
                lambda made: x402.write_payment_required_v2([made], x402.Resource("http://localhost:3000/")),
                [quoted] * payments,
            ),
        },
    )


def cpu_us(function: Callable[[Any], object], values: Sequence[Any], rounds: int) -> float:
    """Microseconds of CPU per call: the median over rounds, each of which calls ``function`` with every value once."""
    found = []
    for _ in range(rounds):
        gc.collect()
        started = time.process_time_ns()
        for value in values:
            function(value)
        found.append((time.process_time_ns() - started) / len(values) / 1_000)
    return round(median(found), 2)


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description="CPU time of verifying and signing one exact payment.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--payments", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    exact = measure(options.payments, options.rounds)
    if options.json:
        print(json.dumps(asdict(exact), indent=2))
        return
    rows = {
        "verify (headers to verified payment)": exact.verify_us,
        "sign (offer to header)": exact.sign_us,
        **exact.parts_us,
    }
    for name, value in rows.items():
        print(f"{name:40} {value:8.2f} µs")


if __name__ == "__main__":
    main()
