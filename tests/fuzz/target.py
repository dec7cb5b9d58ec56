"""What is fuzzed, and what must hold: bytes are read, or refused by an error of the tree; nothing else comes out.

The first byte chooses what a stranger sends. Whatever is read must also be judged, identified and written again without
surprise, and a payment has one replay key however it is written.
"""

from __future__ import annotations

import base64
import time

from micropaywall.errors import ChallengeInvalid, RequestRefused, SignatureRefused
from micropaywall.money import parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import read_instruction
from micropaywall.sandbox.token import SANDBOX_TOKEN
from tests.fuzz import kinds

NOW_S = 1_800_000_000
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
SECONDS_MAX = 1.0
"""For one input of at most 8 KiB; the slowest takes about a millisecond, the rest is a busy machine."""

SELLER = ExactSeller(SANDBOX_TOKEN, PAYEE)
BUYER = ExactBuyer([SANDBOX_TOKEN])
OFFER = SELLER.offer(parse_price(10_000), lifetime_s=300)


def run(data: bytes) -> None:
    """Feed one input; an exception that leaves here is a finding."""
    started = time.monotonic()
    kind, rest = data[:1], data[1:]
    choice = kind[0] % kinds.COUNT if kind else 0
    if choice == kinds.SIGNATURE_RAW:
        credential([(b"payment-signature", rest)])
    elif choice == kinds.SIGNATURE_JSON:
        credential([(b"payment-signature", base64.b64encode(rest))])
    elif choice == kinds.PAYMENT_RAW:
        credential([(b"x-payment", rest)])
    elif choice == kinds.PAYMENT_JSON:
        credential([(b"x-payment", base64.b64encode(rest))])
    elif choice == kinds.TWO_HEADERS:
        first, _, second = rest.partition(b"\n")
        credential([(b"payment-signature", base64.b64encode(first)), (b"x-payment", base64.b64encode(second))])
    elif choice == kinds.CHALLENGE_JSON:
        challenge([(b"payment-required", base64.b64encode(rest))], None)
    elif choice == kinds.BODY:
        challenge([], rest)
    else:
        receipt(rest)
    spent = time.monotonic() - started
    if spent > SECONDS_MAX:
        raise AssertionError(f"{len(data)} bytes took {spent:.2f} s")


def credential(headers: list[tuple[bytes, bytes]]) -> None:
    """A seller reads, identifies and verifies."""
    try:
        read = x402.read_credential(headers)
        if read is None:
            raise AssertionError("a payment header was overlooked")
        SELLER.accepts(read)
        key, instruction = SELLER.identify(read)
    except RequestRefused as error:
        error.problem()
        return
    if read_instruction(instruction).encode() != instruction:
        raise AssertionError("an instruction is not stable")
    try:
        verified = SELLER.verify(OFFER, read, now_s=NOW_S)
    except RequestRefused as error:
        error.problem()
        return
    if (verified.key, verified.instruction) != (key, instruction):
        raise AssertionError("identify and verify disagree")
    if verified.price != OFFER.price or verified.payee != PAYEE:
        raise AssertionError("verified something else than the offer")


def challenge(headers: list[tuple[bytes, bytes]], body: bytes | None) -> None:
    """A buyer reads, and pays nothing that it does not recognise."""
    try:
        read = x402.read_challenge(402, headers, body, assets=BUYER.asset_of)
    except ChallengeInvalid as error:
        error.problem()
        return
    for offered in read.offers:
        if BUYER.can_pay(offered.offer) and offered.offer.price.asset != SANDBOX_TOKEN.asset:
            raise AssertionError("would pay in an asset that it does not know")
        x402.write_payment_v2(offered.raw, {}, resource=read.resource, extensions=read.extensions)
        try:
            BUYER.authorize(offered.offer, signer=Refusing(), now_s=NOW_S, nonce=bytes(32))
        except SignatureRefused:
            continue
        raise AssertionError("signed without a signer")


class Refusing:
    """A signer that is asked and declines."""

    address = PAYEE
    address_bytes = bytes.fromhex(PAYEE[2:])

    def sign(self, message: object) -> bytes:
        raise SignatureRefused("not in a fuzzer")


def receipt(text: bytes) -> None:
    """A buyer reads a receipt; what it read can be written and read again."""
    read = x402.read_receipt([(b"payment-response", base64.b64encode(text))])
    if read is None:
        return
    again = x402.read_receipt([x402.write_receipt(read, "x402/2")])
    if again is None:
        raise AssertionError("a receipt that we wrote cannot be read")
