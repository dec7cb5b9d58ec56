"""Write ``vectors/*.json``: golden values of what goes over the wire and into the book, for us and for other implementations.

    python tools/generate_vectors.py            write them
    python tools/generate_vectors.py --check    fail when they are not what the code makes

``vectors/recorded.json`` is not made here: it was recorded from the official clients. What is published elsewhere (type hashes,
domain separators, digests) is repeated in `tests/vectors`, so that neither code nor vectors can drift alone. Keys are the
public ones of the Anvil development node.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from micropaywall.core.model import Dialect, Offer, Receipt
from micropaywall.crypto import eip712
from micropaywall.crypto.address import parse_address, to_checksum
from micropaywall.crypto.secp256k1 import ORDER, PrivateKey
from micropaywall.errors import RequestRefused
from micropaywall.ids import payment_id
from micropaywall.money import Asset, parse_price
from micropaywall.proto import x402
from micropaywall.rails.exact.facilitator import reason_of
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.exact.types import Authorization, Instruction, Token, write_payload
from micropaywall.sandbox.token import SANDBOX_TOKEN

ROOT: Final = Path(__file__).resolve().parent.parent / "vectors"
NOW_S: Final = 1_800_000_000
URL: Final = "https://api.example.com/weather"
RESOURCE: Final = x402.Resource(URL, "Weather report", "application/json")
PAYER: Final = PrivateKey(bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))
OTHER: Final = PrivateKey(bytes.fromhex("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"))
PAYEE: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PERMIT2: Final = "0x000000000022D473030F116dDEE9F6B43aC78BA3"

_USDC: Final = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
BASE_SEPOLIA_USDC: Final = Token(
    asset=Asset(x402.asset_id("eip155:84532", _USDC), "USDC", 6, fiat="USD"),
    network="eip155:84532",
    chain_id=84_532,
    address=parse_address(_USDC),
    name="USDC",
    version="2",
    v1_network="base-sepolia",
    v1_chain_id=84_532,
)
TOKENS: Final = {"baseSepolia": BASE_SEPOLIA_USDC, "sandbox": SANDBOX_TOKEN}
BASE: Final = Authorization(PAYER.address_bytes, parse_address(PAYEE), 10_000, 0, NOW_S + 300, b"\x01" * 32)


def seller(token: Token = SANDBOX_TOKEN) -> ExactSeller:
    """The seller that all payments here are made to."""
    return ExactSeller(token, PAYEE, name="exact")


def offer(token: Token = SANDBOX_TOKEN, amount: int = 10_000) -> Offer:
    """What that seller asks."""
    made = seller(token).offer(parse_price(amount), lifetime_s=300)
    if made is None:
        raise AssertionError("an int price is payable in any asset")
    return made


def header_v2(payload: Mapping[str, Any], *, token: Token = SANDBOX_TOKEN, **changes: object) -> str:
    """A PAYMENT-SIGNATURE value; ``changes`` replace top-level members."""
    accepted = {
        "scheme": "exact",
        "network": token.network,
        "amount": "10000",
        "asset": token.address_text,
        "payTo": PAYEE,
        "maxTimeoutSeconds": 300,
        "extra": {"name": token.name, "version": token.version},
    }
    return encode({"x402Version": 2, "accepted": accepted, "payload": payload, **changes})


def header_v1(payload: Mapping[str, Any], **changes: object) -> str:
    """An X-PAYMENT value."""
    return encode({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload, **changes})


def encode(members: object) -> str:
    """Base64 of compact JSON."""
    return base64.b64encode(json.dumps(members, separators=(",", ":")).encode()).decode()


def signed(
    authorization: Authorization = BASE, *, token: Token = SANDBOX_TOKEN, chain_id: int | None = None
) -> dict[str, Any]:
    """The payload of ``authorization``, signed by PAYER."""
    digest = token.digest(authorization, token.chain_id if chain_id is None else chain_id)
    return write_payload(authorization, PAYER.sign_digest(digest))


# -- the files --------------------------------------------------------------------------------------------------------


def eip712_vectors() -> dict[str, Any]:
    """Type hashes, domain separators and digests."""
    types = {
        "TransferWithAuthorization": eip712.TRANSFER_WITH_AUTHORIZATION,
        "ReceiveWithAuthorization": eip712.RECEIVE_WITH_AUTHORIZATION,
    }
    domains = {
        "USDC on eip155:84532": BASE_SEPOLIA_USDC.separator,
        "sandbox USDC on eip155:4020402": SANDBOX_TOKEN.separator,
        "sandbox USDC as x402 v1 signs it (84532)": eip712.domain_separator("USDC", "2", 84_532, SANDBOX_TOKEN.address),
        "Permit2 on eip155:84532 (no version)": eip712.domain_separator(
            "Permit2", None, 84_532, parse_address(PERMIT2)
        ),
    }
    return {
        "typeHashes": {name: _hex(value) for name, value in types.items()},
        "domainSeparators": {name: _hex(value) for name, value in domains.items()},
        "checksumAddresses": [to_checksum(key.address_bytes) for key in (PAYER, OTHER)],
    }


def payment_vectors() -> dict[str, Any]:
    """Payments from the authorization to the header, the replay key and the stored instruction."""
    cases = []
    variants = {
        "base": BASE,
        "one atomic unit": BASE._replace(value=1),
        "largest amount of the book": BASE._replace(value=2**62 - 1),
        "window from the past": BASE._replace(valid_after=NOW_S - 600),
        "random nonce": BASE._replace(nonce=bytes(range(32))),
        "another payee": BASE._replace(payee=OTHER.address_bytes),
    }
    for token_name, token in TOKENS.items():
        for name, authorization in variants.items():
            for dialect, chain_id in (("x402/2", token.chain_id), ("x402/1", token.v1_chain_id)):
                cases.append(_payment(f"{token_name}, {dialect}, {name}", token, authorization, dialect, chain_id))
    return {"nowS": NOW_S, "payerKey": _hex(PAYER.secret), "payments": cases}


def _payment(
    name: str, token: Token, authorization: Authorization, dialect: str, chain_id: int | None
) -> dict[str, Any]:
    if chain_id is None:
        raise AssertionError("tokens here are payable in both dialects")
    digest = token.digest(authorization, chain_id)
    signature = PAYER.sign_digest(digest)
    payload = write_payload(authorization, signature)
    key = token.replay_key(authorization.payer, authorization.nonce)
    return {
        "name": name,
        "dialect": dialect,
        "token": {
            "network": token.network,
            "address": token.address_text,
            "name": token.name,
            "version": token.version,
        },
        "signedChainId": chain_id,
        "settledChainId": token.chain_id,
        "digest": _hex(digest),
        "payload": payload,
        "header": header_v2(payload, token=token) if dialect == "x402/2" else header_v1(payload),
        "replayKey": _hex(key),
        "paymentId": payment_id(key),
        "instruction": Instruction(token.address, chain_id, authorization, signature).encode().decode(),
    }


def http_vectors() -> dict[str, Any]:
    """Challenges and receipts as we write them."""
    quoted = replace(offer(), extra={**offer().extra, "quote": "a3M_AAAAAAAAAAAAAAAAAAAAAAA"})
    receipt = Receipt(
        "pay_" + "ab" * 20,
        True,
        PAYER.address,
        SANDBOX_TOKEN.network,
        "0x" + "11" * 32,
        10_000,
        v1_network="base-sepolia",
    )
    receipts = {
        "settled": receipt,
        "deferred": replace(receipt, settled=False, transaction=""),
        "refused": replace(receipt, settled=False, transaction="", reason="invalid_exact_evm_nonce_already_used"),
    }
    dialects: tuple[Dialect, ...] = ("x402/2", "x402/1")
    return {
        "paymentRequired": x402.write_payment_required_v2([quoted, offer(BASE_SEPOLIA_USDC)], RESOURCE).decode(),
        "v1Accepts": x402.v1_accepts([quoted, offer(BASE_SEPOLIA_USDC)], RESOURCE),
        "receipts": [
            {"name": name, "dialect": dialect, "header": header.decode(), "value": value.decode()}
            for name, made in receipts.items()
            for dialect in dialects
            for header, value in [x402.write_receipt(made, dialect)]
        ],
    }


def refusal_vectors() -> dict[str, Any]:
    """Headers that a seller refuses (offer: 10000 atomic units of sandbox USDC to the payee), with error and x402 reason."""
    cases = []
    for name, (header, value) in refused_headers().items():
        code, reason = verdict(header, value)
        cases.append({"name": name, "header": header, "value": value, "code": code, "x402Reason": reason})
    return {"nowS": NOW_S, "amount": "10000", "payTo": PAYEE, "network": SANDBOX_TOKEN.network, "refusals": cases}


def verdict(header: str, value: str) -> tuple[str, str]:
    """Error code and x402 reason of a refused header; AssertionError when it was taken."""
    try:
        credential = x402.read_credential([(header.lower().encode(), value.encode())])
        if credential is None:
            raise AssertionError(f"{header} carries no payment")
        seller().verify(offer(), credential, now_s=NOW_S)
    except RequestRefused as error:
        return error.code, reason_of(error)
    raise AssertionError(f"taken, and should be refused: {header}: {value}")


def refused_headers() -> dict[str, tuple[str, str]]:
    """Header name and value of every case, by its name."""
    good = signed()
    members: dict[str, Any] = good["authorization"]
    signature = bytes.fromhex(good["signature"][2:])
    r, s, v = signature[:32], int.from_bytes(signature[32:64], "big"), signature[64]
    payloads: dict[str, object] = {
        "signature: high s": _with_signature(good, r + (ORDER - s).to_bytes(32, "big") + bytes([55 - v])),
        "signature: high s, v kept": _with_signature(good, r + (ORDER - s).to_bytes(32, "big") + bytes([v])),
        "signature: v flipped": _with_signature(good, signature[:64] + bytes([55 - v])),
        **{
            f"signature: v of {odd}": _with_signature(good, signature[:64] + bytes([odd]))
            for odd in (0, 1, 2, 26, 29, 255)
        },
        "signature: r zero": _with_signature(good, bytes(32) + signature[32:]),
        "signature: s zero": _with_signature(good, r + bytes(32) + signature[64:]),
        "signature: r is n": _with_signature(good, ORDER.to_bytes(32, "big") + signature[32:]),
        "signature: r is no point": _with_signature(good, (5).to_bytes(32, "big") + signature[32:]),
        "signature: all ones": _with_signature(good, b"\xff" * 65),
        "signature: compact, 64 bytes": _with_signature(good, signature[:64]),
        "signature: 66 bytes": _with_signature(good, signature + b"\x00"),
        "signature: empty": _with_signature(good, b""),
        "signature: contract wallet (ERC-6492)": _with_signature(
            good, bytes(96) + signature + bytes.fromhex("6492" * 16)
        ),
        "signature: missing": {"authorization": members},
        "signature: null": {**good, "signature": None},
        "signature: no hex": {**good, "signature": "0xzz"},
        "signature: blanks": {**good, "signature": good["signature"][:-2] + "  "},
        "signature: by somebody else": write_payload(
            BASE, OTHER.sign_digest(SANDBOX_TOKEN.digest(BASE, SANDBOX_TOKEN.chain_id))
        ),
        "signature: for base-sepolia, sent in v2": signed(chain_id=84_532),
        "signature: for another token": signed(token=BASE_SEPOLIA_USDC),
        "amount: one too much": signed(BASE._replace(value=10_001)),
        "amount: one too little": signed(BASE._replace(value=9_999)),
        "amount: edited after signing": _with(good, value="9999"),
        "payee: another": signed(BASE._replace(payee=OTHER.address_bytes)),
        "window: ended": signed(BASE._replace(valid_before=NOW_S)),
        "window: ends within the margin": signed(BASE._replace(valid_before=NOW_S + 5)),
        "window: begins now": signed(BASE._replace(valid_after=NOW_S)),
        "window: from the future": signed(BASE._replace(valid_after=NOW_S + 1)),
        "window: too long": signed(BASE._replace(valid_before=NOW_S + 86_401)),
        "window: for ever": signed(BASE._replace(valid_before=2**256 - 1)),
        "value: leading zero": _with(good, value="010000"),
        "value: negative": _with(good, value="-10000"),
        "value: a number": _with(good, value=10_000),
        "value: exponent": _with(good, value="1e4"),
        "value: hex": _with(good, value="0x2710"),
        "value: other digits": _with(good, value="１００００"),
        "value: empty": _with(good, value=""),
        "value: above uint256": _with(good, value=str(2**256)),
        "value: 100 digits": _with(good, value="9" * 100),
        "from: too short": _with(good, **{"from": PAYER.address[:-1]}),
        "from: no prefix": _with(good, **{"from": PAYER.address[2:]}),
        "from: zero address": _with(good, **{"from": "0x" + "00" * 20}),
        "from: somebody else": _with(good, **{"from": OTHER.address}),
        "nonce: 31 bytes": _with(good, nonce="0x" + "01" * 31),
        "nonce: 33 bytes": _with(good, nonce="0x" + "01" * 33),
        "nonce: edited": _with(good, nonce="0x" + "02" * 32),
        "nonce: null": _with(good, nonce=None),
        "authorization: missing": {"signature": good["signature"]},
        "authorization: a list": {**good, "authorization": []},
        "authorization: Permit2": {"permit2Authorization": {}, "signature": good["signature"]},
        "payload: empty": {},
    }
    cases = {
        name: ("PAYMENT-SIGNATURE", header_v2(payload))
        for name, payload in payloads.items()
        if isinstance(payload, dict)
    }
    raw = base64.b64decode(header_v2(good))
    text = header_v2(good)
    accepted = json.loads(raw)["accepted"]
    nested: object = {}
    for _ in range(40):
        nested = {"a": nested}
    headers = {
        "header: empty": "",
        "header: not base64": "%%%%",
        "header: URL alphabet": base64.urlsafe_b64encode(b"\xff\xfe\xfd" * 8).decode(),
        "header: no padding": base64.b64encode(raw + b" ").decode().rstrip("=")
        if len(raw) % 3 == 2
        else text.rstrip("=") + "A",
        "header: data after the padding": base64.b64encode(b"{}").decode() + "AAAA",
        "header: line break": text[:40] + "\n" + text[40:],
        "header: too long": base64.b64encode(raw + b" " * 8_192).decode(),
        "json: cut short": base64.b64encode(raw[:-1]).decode(),
        "json: more after the end": base64.b64encode(raw + b"{}").decode(),
        "json: not UTF-8": base64.b64encode(raw.replace(b"exact", b"ex\xffct")).decode(),
        "json: an array": encode([]),
        "json: null": encode(None),
        "json: nested 40 deep": header_v2(good, extensions=nested),
        "json: nested 2000 deep": base64.b64encode(b"[" * 2_000).decode(),
        "json: payload is a string": encode({"x402Version": 2, "accepted": accepted, "payload": "x"}),
        "version: missing": encode({"accepted": accepted, "payload": good}),
        "version: a string": encode({"x402Version": "2", "accepted": accepted, "payload": good}),
        "version: 3": header_v2(good, x402Version=3),
        "version: 1 in PAYMENT-SIGNATURE": header_v1(signed(chain_id=84_532)),
        "accepted: missing": encode({"x402Version": 2, "payload": good}),
        "accepted: without network": header_v2(good, accepted={"scheme": "exact"}),
        "accepted: another scheme": header_v2(good, accepted={**accepted, "scheme": "upto"}),
        "accepted: another network": header_v2(good, accepted={**accepted, "network": "eip155:8453"}),
    }
    cases.update({name: ("PAYMENT-SIGNATURE", value) for name, value in headers.items()})
    cases["v1: version 2 in X-PAYMENT"] = ("X-PAYMENT", text)
    cases["v1: signed for the sandbox chain"] = ("X-PAYMENT", header_v1(good))
    cases["v1: another network"] = ("X-PAYMENT", header_v1(signed(chain_id=84_532), network="base"))
    cases["v1: CAIP-2 network"] = ("X-PAYMENT", header_v1(good, network=SANDBOX_TOKEN.network))
    cases["v1: no scheme"] = ("X-PAYMENT", header_v1(good, scheme=None))
    return cases


def _with(payload: Mapping[str, Any], **changes: object) -> dict[str, Any]:
    return {**payload, "authorization": {**payload["authorization"], **changes}}


def _with_signature(payload: Mapping[str, Any], signature: bytes) -> dict[str, Any]:
    return {**payload, "signature": _hex(signature)}


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


FILES: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "eip712.json": eip712_vectors,
    "payments.json": payment_vectors,
    "http.json": http_vectors,
    "refusals.json": refusal_vectors,
}


def render(name: str) -> str:
    """The text of one file."""
    return json.dumps(FILES[name](), indent=2, ensure_ascii=True) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 1 when a check fails."""
    parser = argparse.ArgumentParser(description="Write vectors/*.json.")
    parser.add_argument("--check", action="store_true", help="fail when a file is not what the code makes")
    check: bool = parser.parse_args(arguments).check
    stale = []
    for name in FILES:
        path, text = ROOT / name, render(name)
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8", newline="\n")
    for name in stale:
        print(f"vectors/{name} is stale: run python tools/generate_vectors.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
