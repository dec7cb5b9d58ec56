"""A 402, explained: who can pay it, with what, and what on the way there could go wrong. Pure: an answer in, findings out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlsplit

from micropaywall import limits
from micropaywall.cli.diagnosis.answer import HttpAnswer
from micropaywall.cli.diagnosis.finding import Finding, bad, good, note, warn
from micropaywall.cli.diagnosis.offers import LOOPBACK, Buyer, offer_findings, origin_of, resource_findings
from micropaywall.errors import ChallengeInvalid
from micropaywall.proto import x402

__all__ = ["examine"]

_PROXY_SMALL_BYTES: Final = 4_096
_PROXY_LARGE_BYTES: Final = 8_192
"""nginx's default `proxy_buffer_size` is one memory page, 4 or 8 KiB; a header block beyond it becomes a 502."""
_EXPOSED: Final = ("payment-required", "payment-response")


def examine(answer: HttpAnswer, asked_url: str, buyer: Buyer, *, method: str = "GET") -> list[Finding]:
    """Everything that can be said of the answer to ``asked_url`` ("" when it is not known)."""
    findings = [*_hops(answer, asked_url), *_status(answer, method)]
    if answer.status == 402:
        findings += _dialects(answer, asked_url or answer.url, buyer)
    findings += _size(answer)
    findings += _caching(answer)
    if answer.status == 402:
        findings += _browsers(answer)
    if asked_url:
        findings += _transport(asked_url)
    findings += _clock(answer)
    return findings


# -- the answer itself ------------------------------------------------------------------------------------------------


def _hops(answer: HttpAnswer, asked_url: str) -> Iterator[Finding]:
    asked = urlsplit(asked_url)
    for hop in answer.hops:
        there = urlsplit(hop)
        if origin_of(there) != origin_of(asked):
            yield bad(
                "redirect",
                f"the request is redirected to another origin, {there.scheme}://{there.netloc}",
                "Buyers do not pay across a change of origin: publish the address that answers.",
            )
        else:
            yield note(
                "redirect",
                f"the request is redirected to {there.path or '/'}",
                "Publish that address; it saves a trip.",
            )


def _status(answer: HttpAnswer, method: str) -> Iterator[Finding]:
    if answer.status == 402:
        yield good("status", "answers 402 Payment Required")
    elif answer.status < 300:
        yield bad(
            "status",
            f"answers {answer.status} to {method} without asking for payment",
            "Is this the priced path and method? A route is priced for one method unless it names none.",
            status=answer.status,
        )
    elif answer.status in (404, 405):
        yield bad(
            "status",
            f"answers {answer.status}: there is no such resource for {method}",
            "Another path or --method?",
            status=answer.status,
        )
    else:
        yield bad("status", f"answers {answer.status}, not 402", status=answer.status)


# -- what it offers ---------------------------------------------------------------------------------------------------


def _dialects(answer: HttpAnswer, asked_url: str, buyer: Buyer) -> list[Finding]:
    findings: list[Finding] = []
    spoken: list[str] = []
    payable = False
    for dialect, label, read in (
        ("v2", "x402 v2 (PAYMENT-REQUIRED header)", _read_v2),
        ("v1", "x402 v1 (JSON body)", _read_v1),
    ):
        try:
            challenge = read(answer, buyer)
        except ChallengeInvalid as error:
            findings.append(bad(dialect, f"{label}: {error.detail}", "Clients that read it will refuse it."))
            continue
        if challenge is None:
            continue
        spoken.append(label)
        findings.append(good(dialect, f"speaks {label}: {_count(len(challenge.offers), 'offer')}"))
        findings += (bad(dialect, f"cannot be read: {text}") for text in challenge.unreadable)
        for read_offer in challenge.offers:
            findings += offer_findings(read_offer.offer, dialect, buyer)
            payable = payable or buyer.can_pay(read_offer.offer)
        findings += resource_findings(challenge.resource_url, asked_url, dialect)
    other = _other_dialects(answer)
    spoken += [finding.text for finding in other]
    findings += other
    if not spoken:
        findings.append(
            bad(
                "dialect",
                "says nothing that a client could pay",
                "No PAYMENT-REQUIRED header, no body with x402Version 1, no WWW-Authenticate.",
            )
        )
    elif not any(finding.name == "v2" for finding in findings):
        findings.append(
            warn("v2", "has no PAYMENT-REQUIRED header: current x402 clients cannot pay", "Offer x402 v2 too.")
        )
    if spoken:
        findings.append(
            good("wallet", "your wallet can pay it", payable=True)
            if payable
            else warn(
                "wallet", "your wallet cannot pay any of it", "This version pays on the sandbox network.", payable=False
            )
        )
    return findings


def _read_v2(answer: HttpAnswer, buyer: Buyer) -> x402.Challenge | None:
    if not answer.values("payment-required"):
        return None
    return x402.read_challenge(402, answer.headers, None, assets=buyer.assets)


def _read_v1(answer: HttpAnswer, buyer: Buyer) -> x402.Challenge | None:
    body = _json(answer)
    if "x402Version" not in body or not body.get("accepts"):
        return None
    if body["x402Version"] != 1 and answer.values("payment-required"):
        return None  # the v2 challenge repeated in the body
    return x402.read_challenge(402, (), answer.body, assets=buyer.assets)


def _json(answer: HttpAnswer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _other_dialects(answer: HttpAnswer) -> list[Finding]:
    found = [
        note("www-authenticate", f"speaks {scheme} (WWW-Authenticate)")
        for scheme in ("L402", "LSAT", "Payment")
        if any(value.split(" ", 1)[0].lower() == scheme.lower() for value in answer.values("www-authenticate"))
    ]
    body = _json(answer)
    if all(name in body for name in ("amount", "currency", "paymentAddress")):
        found.append(note("plain", f"has the plain fields: {body['amount']} {body['currency']}"[:120]))
    if any("html" in value for value in answer.values("content-type")):
        found.append(note("page", f"is a page for people, {len(answer.body):,} bytes"))
    return found


# -- the way to it ----------------------------------------------------------------------------------------------------


def _size(answer: HttpAnswer) -> Iterator[Finding]:
    size = answer.header_bytes
    fact = {"headerBytes": size}
    if size >= _PROXY_LARGE_BYTES:
        yield bad(
            "header-size",
            f"the headers have {size:,} bytes: proxies with 8 KiB buffers (nginx's default) answer 502 instead",
            "Fewer offers or shorter descriptions, or a larger proxy_buffer_size.",
            **fact,
        )
    elif size >= _PROXY_SMALL_BYTES:
        yield warn(
            "header-size",
            f"the headers have {size:,} bytes: proxies with 4 KiB buffers answer 502 instead",
            "Fewer offers or shorter descriptions, or proxy_buffer_size 8k.",
            **fact,
        )
    else:
        yield good("header-size", f"the headers have {size:,} bytes; proxies pass up to 4,096", **fact)
    if len(answer.values("payment-required")) > 1:
        yield warn("payment-required", "there are several PAYMENT-REQUIRED headers; clients read one of them")


def _caching(answer: HttpAnswer) -> Iterator[Finding]:
    value = ", ".join(answer.values("cache-control")).lower()
    directives = {part.strip().partition("=")[0] for part in value.split(",")}
    if directives & {"public", "s-maxage", "max-age"} and not directives & {"no-store", "private"}:
        yield bad(
            "cache-control",
            f"a shared cache may keep this answer (Cache-Control: {value[:80]})",
            "Send Cache-Control: no-store.",
        )
    elif directives & {"no-store", "private"}:
        yield good("cache-control", "no cache keeps it")
    elif answer.status == 402:
        yield warn(
            "cache-control",
            "there is no Cache-Control header",
            "Send Cache-Control: no-store, so that no proxy keeps a price or a quote.",
        )


def _browsers(answer: HttpAnswer) -> Iterator[Finding]:
    exposed = {
        name.strip().lower() for value in answer.values("access-control-expose-headers") for name in value.split(",")
    }
    missing = [name.upper() for name in _EXPOSED if name not in exposed]
    if not answer.values("access-control-allow-origin"):
        yield warn(
            "cors",
            "pages of other origins cannot read it (no Access-Control-Allow-Origin)",
            "Only matters when browsers pay.",
        )
    elif missing and "*" not in exposed:
        yield warn("cors", f"pages cannot read {' and '.join(missing)}", "Name them in Access-Control-Expose-Headers.")
    else:
        yield good("cors", "pages of other origins can read the payment headers")


def _transport(asked_url: str) -> Iterator[Finding]:
    parts = urlsplit(asked_url)
    if parts.scheme == "https":
        yield good("transport", "is asked over HTTPS")
    elif (parts.hostname or "").lower() in LOOPBACK:
        yield note("transport", "is asked over plain HTTP, on loopback: for sandbox and test networks only")
    else:
        yield bad(
            "transport",
            "is asked over plain HTTP: a payment could be read and changed on its way",
            "Serve it over HTTPS.",
        )


def _clock(answer: HttpAnswer) -> Iterator[Finding]:
    values = answer.values("date")
    if answer.received_ms is None or not values:
        return
    try:
        theirs = parsedate_to_datetime(values[0]).timestamp()
    except ValueError:
        yield warn("clock", "its Date header cannot be read")
        return
    skew = round(theirs - answer.received_ms / 1000)
    if abs(skew) > limits.CLOCK_SKEW_S:
        direction = "ahead of" if skew > 0 else "behind"
        yield bad(
            "clock",
            f"its clock is {abs(skew)} s {direction} ours: payments look expired or not yet valid",
            "Set the clock of whichever machine is wrong (NTP).",
            skewSeconds=skew,
        )
    else:
        yield good("clock", f"its clock and ours agree within {max(abs(skew), 1)} s", skewSeconds=skew)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
