"""The seller's flow around a real application, on the sandbox network and a SQLite book, without a server between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.kit.call import call
from tests.kit.payer import Payer, decode, encode, v2_header

from micropaywall import Paywall
from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.ids import key_prefix

pytestmark = pytest.mark.anyio
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


class Shop:
    """An application with a few endpoints, and how often each ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.background = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def resource(self, request: Request) -> Response:
        self.runs += 1
        await self.gate.wait()
        return JSONResponse({"run": self.runs}, headers={"cache-control": "public, max-age=60"})

    async def fails(self, request: Request) -> Response:
        self.runs += 1
        raise ValueError("the handler's own fault")

    async def refuses(self, request: Request) -> Response:
        self.runs += 1
        return PlainTextResponse("no", status_code=422)

    async def slow(self, request: Request) -> Response:
        self.runs += 1
        await asyncio.sleep(30)
        return PlainTextResponse("late")

    async def stream(self, request: Request) -> Response:
        self.runs += 1

        async def pieces() -> AsyncIterator[bytes]:
            for number in range(5):
                yield b"%d\n" % number

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def large(self, request: Request) -> Response:
        self.runs += 1
        return Response(b"x" * 3_000_000)

    async def echo(self, request: Request) -> Response:
        self.runs += 1
        return Response(await request.body())

    async def later(self, request: Request) -> Response:
        async def note() -> None:
            await asyncio.sleep(0.05)
            self.background += 1

        response = Response("now", background=BackgroundTask(note))
        response.raw_headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        return response

    def app(self) -> Starlette:
        names = ("resource", "fails", "refuses", "slow", "stream", "large", "later")
        routes = [Route(f"/{name}", getattr(self, name)) for name in names]
        return Starlette(routes=[*routes, Route("/echo", self.echo, methods=["POST"]), Route("/free", self.resource)])


ROUTES: dict[str, Any] = {
    "GET /resource": "$0.001",
    "GET /fails": "$0.001",
    "GET /refuses": "$0.001",
    "GET /slow": {"price": "$0.001", "timeout_s": 0.2},
    "GET /stream": "$0.001",
    "GET /large": "$0.001",
    "GET /later": "$0.001",
    "POST /echo": "$0.002",
}


class Site:
    """A shop behind a paywall, and the tools to look at both."""

    def __init__(self, paywall: Paywall, shop: Shop) -> None:
        self.paywall, self.shop = paywall, shop
        self.app = paywall.asgi(shop.app())

    async def get(self, target: str, *headers: tuple[bytes, bytes], **more: Any) -> Any:
        return await call(self.app, more.pop("method", "GET"), target, headers=headers, **more)

    async def quote(self, target: str, **more: Any) -> Any:
        response = await self.get(target, **more)
        assert response.status == 402, response.body
        return response

    async def buy(self, target: str, payer: Payer | None = None, **more: Any) -> Any:
        header = (payer or Payer()).pay((await self.quote(target, **more)).required)
        return await self.get(target, header, **more)

    async def payment(self, response: Any) -> Any:
        prefix = key_prefix(response.header("payment-id"))
        assert prefix is not None
        return await self.paywall.ledger.payment(prefix)

    async def charge_states(self, response: Any) -> list[ChargeState]:
        row = await self.payment(response)
        return [charge.state for charge in await self.paywall.ledger.charges(row.id)]


@pytest.fixture(params=["before", "after", "deferred"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as site:
        yield site


class opened:  # noqa: N801  (reads as a verb)
    """A started site in ``tmp_path``; ``options`` go to every route, ``paywall`` to the Paywall."""

    def __init__(self, tmp_path: Path, paywall: dict[str, Any] | None = None, **options: Any) -> None:
        routes = {
            name: {**(given if isinstance(given, dict) else {"price": given}), **options}
            for name, given in ROUTES.items()
        }
        self.paywall = Paywall(
            routes,
            pay_to=PAYEE,
            ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
            rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
            **(paywall or {}),
        )

    async def __aenter__(self) -> Site:
        await self.paywall.start()
        return Site(self.paywall, Shop())

    async def __aexit__(self, *_: object) -> None:
        await self.paywall.stop()


# -- the 402 ----------------------------------------------------------------------------------------------------------


async def test_an_unpaid_request_gets_one_402_for_every_kind_of_client(site: Site) -> None:
    answer = await site.quote("/resource?q=1")
    required, body = answer.required, answer.json
    assert required["x402Version"] == 2
    assert required["resource"]["url"] == "http://seller.test/resource?q=1"
    offer = required["accepts"][0]
    assert (offer["scheme"], offer["network"], offer["amount"], offer["payTo"]) == (
        "exact",
        "eip155:4020402",
        "1000",
        PAYEE,
    )
    assert len(offer["extra"]["quote"]) == 27
    assert body["x402Version"] == 1
    assert body["accepts"][0]["network"] == "base-sepolia"
    assert "quote" not in body["accepts"][0]["extra"]
    assert (body["amount"], body["currency"], body["paymentAddress"]) == (0.001, "USDC", PAYEE)
    assert b'"amount":0.001' in answer.body
    assert body["nonce"] == offer["extra"]["quote"]
    assert (body["code"], body["status"], body["moneyMoved"]) == ("payment_required", 402, "no")
    assert answer.header("cache-control") == "no-store"
    assert "PAYMENT-REQUIRED" in answer.header("access-control-expose-headers")
    assert sum(len(n) + len(v) + 4 for n, v in answer.headers) < 3_500
    assert site.shop.runs == 0


async def test_a_browser_gets_a_page_without_script_and_the_same_offer(site: Site) -> None:
    agent = ((b"accept", b"text/html,*/*"), (b"user-agent", b"Mozilla/5.0"))
    answer = await site.get("/resource", *agent)
    assert answer.status == 402
    assert answer.header("content-type").startswith("text/html")
    assert len(answer.body) < 30_000
    assert b"<script" not in answer.body
    assert b"0.001 USDC" in answer.body
    assert "default-src 'none'" in answer.header("content-security-policy")
    assert answer.required["accepts"][0]["amount"] == "1000"


async def test_a_page_shows_a_hostile_url_as_text(site: Site) -> None:
    agent = ((b"accept", b"text/html"), (b"user-agent", b"Mozilla/5.0"))
    answer = await site.get("/resource?q=<script>alert(1)</script>", *agent)
    assert b"<script>alert" not in answer.body


async def test_an_unpriced_path_passes_untouched(site: Site) -> None:
    answer = await site.get("/free")
    assert answer.status == 200
    assert answer.header("cache-control") == "public, max-age=60"
    assert answer.header("payment-response") is None


async def test_the_same_url_within_a_quote_bucket_is_rendered_once(site: Site) -> None:
    first, second = await site.quote("/resource"), await site.quote("/resource")
    assert first.header("payment-required") == second.header("payment-required")


# -- a paid request ---------------------------------------------------------------------------------------------------


async def test_a_payment_buys_one_response_and_a_receipt(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path, settle=mode) as site:
        answer = await site.buy("/resource")
        assert answer.status == 200
        assert answer.json == {"run": 1}
        assert answer.receipt["success"] is True
        assert answer.header("cache-control") == "private, max-age=60"
        row = await site.payment(answer)
        if mode != "deferred":
            assert row.state in (PaymentState.SETTLED, PaymentState.FINAL)
            assert answer.receipt["transaction"] == row.transaction != ""
        assert await site.charge_states(answer) == [ChargeState.CAPTURED]


async def test_a_v1_payment_buys_the_same(site: Site) -> None:
    header = Payer().pay_v1((await site.quote("/resource")).json)
    answer = await site.get("/resource", header)
    assert answer.status == 200
    assert answer.header("x-payment-response") is not None
    assert answer.receipt["network"] == "base-sepolia"


async def test_the_same_payment_again_gets_the_stored_response(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path, settle=mode) as site:
        header = Payer().pay((await site.quote("/resource")).required)
        first = await site.get("/resource", header)
        again = await site.get("/resource", header)
        assert (first.status, first.body) == (again.status, again.body) == (200, b'{"run":1}')
        assert site.shop.runs == 1


async def test_250_presentations_at_once_run_the_handler_once(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path, settle=mode) as site:
        header = Payer().pay((await site.quote("/resource")).required)
        answers = await asyncio.gather(*(site.get("/resource", header) for _ in range(250)))
        assert site.shop.runs == 1
        assert {a.status for a in answers} <= {200, 409, 503}
        assert {a.body for a in answers if a.status == 200} == {b'{"run":1}'}
        assert all(a.json["retryable"] for a in answers if a.status != 200)


async def test_one_payment_in_two_encodings_is_one_payment(site: Site) -> None:
    payer = Payer()
    required = (await site.quote("/resource")).required
    name, value = payer.pay(required)
    document = decode(value)
    document["payload"]["signature"] = document["payload"]["signature"].upper().replace("0X", "0x")
    document["payload"]["authorization"]["from"] = payer.address.lower()
    await site.get("/resource", (name, value))
    answer = await site.get("/resource", (name, encode(document)))
    assert (answer.status, answer.json) == (200, {"run": 1})
    assert site.shop.runs == 1


async def test_a_handler_that_fails_charges_nobody_and_the_payment_is_good_again(site: Site) -> None:
    header = Payer().pay((await site.quote("/fails")).required)
    with pytest.raises(ValueError, match="own fault"):
        await site.get("/fails", header)
    refused = await site.buy("/refuses")
    assert (refused.status, refused.body, refused.receipt) == (422, b"no", None)
    with pytest.raises(ValueError, match="own fault"):
        await site.get("/fails", header)
    assert site.shop.runs == 3


async def test_a_handler_that_is_too_slow_charges_nobody(site: Site) -> None:
    answer = await site.buy("/slow")
    assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (504, "handler_timeout", "no")
    assert await site.charge_states(answer) == [ChargeState.RELEASED]


async def test_a_buyer_that_leaves_finds_its_response_later(site: Site) -> None:
    header = Payer().pay((await site.quote("/resource")).required)
    await site.get("/resource", header, leave_after_request=True)
    again = await site.get("/resource", header)
    assert (again.status, again.json) == (200, {"run": 1})
    assert site.shop.runs == 1


async def test_a_stream_is_settled_before_its_first_byte_and_comes_in_pieces(tmp_path: Path, mode: str) -> None:
    async with opened(tmp_path, settle=mode) as site:
        header = Payer().pay((await site.quote("/stream")).required)
        answer = await site.get("/stream", header)
        assert answer.status == 200
        assert len([piece for piece in answer.pieces if piece]) == 5
        assert answer.receipt["success"] is True
        again = await site.get("/stream", header)
        assert again.body == answer.body
        assert site.shop.runs == 1


async def test_a_response_too_large_to_keep_is_delivered_once(tmp_path: Path) -> None:
    async with opened(tmp_path, {"stored_response_bytes": 1_000_000, "held_body_memory_bytes": 100_000}) as site:
        header = Payer().pay((await site.quote("/large")).required)
        answer = await site.get("/large", header)
        assert (answer.status, len(answer.body)) == (200, 3_000_000)
        again = await site.get("/large", header)
        assert again.json["code"] == "payment_spent"
        assert site.shop.runs == 1


async def test_background_tasks_run_after_the_answer_and_headers_stay_repeated(site: Site) -> None:
    answer = await site.buy("/later")
    assert site.shop.background == 1
    assert [value for name, value in answer.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]


async def test_a_body_is_read_for_the_fingerprint_and_reaches_the_handler_whole(site: Site) -> None:
    body = b"hello" * 1_000
    header = Payer().pay((await site.quote("/echo", method="POST", body=body)).required)
    answer = await site.get("/echo", header, method="POST", body=body)
    assert (answer.status, answer.body) == (200, body)
    other = await site.get("/echo", header, method="POST", body=b"another")
    assert (other.status, other.json["code"]) == (409, "payment_bound_elsewhere")


async def test_a_body_beyond_the_limit_is_refused_before_anything_is_booked(tmp_path: Path) -> None:
    async with opened(tmp_path, max_body=10) as site:
        header = Payer().pay((await site.quote("/echo", method="POST")).required)
        answer = await site.get("/echo", header, method="POST", body=b"x" * 11)
        assert (answer.status, answer.json["code"]) == (413, "request_body_too_large")
        assert site.shop.runs == 0
        assert (await site.get("/echo", header, method="POST", body=b"x" * 10)).status == 200


async def test_a_body_of_no_stated_length_is_cut_at_the_limit(site: Site) -> None:
    header = Payer().pay((await site.quote("/echo", method="POST")).required)
    pieces = iter([b"x" * 65_536] * 64)
    answer = await call(site.app, "POST", "/echo", headers=[header], pieces=pieces)
    assert (answer.status, answer.json["code"]) == (413, "request_body_too_large")
    assert site.shop.runs == 0
    assert len(list(pieces)) > 40, "it read on"


async def test_a_server_shortcut_does_not_pass_a_response_by_the_paywall(site: Site) -> None:
    header = Payer().pay((await site.quote("/resource")).required)
    shortcuts: dict[str, Any] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}, "tls": {}}
    seen: list[dict[str, Any]] = []

    async def watching(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["extensions"])
        await site.shop.app()(scope, receive, send)

    site.app = site.paywall.asgi(watching)
    assert (await site.get("/resource", header, extensions=shortcuts)).status == 200
    assert seen == [{"tls": {}}]


# -- what is refused --------------------------------------------------------------------------------------------------


async def refused(site: Site, header: tuple[bytes, bytes], target: str = "/resource", **more: Any) -> str:
    answer = await site.get(target, header, **more)
    assert 400 <= answer.status < 500, (answer.status, answer.body)
    assert site.shop.runs == 0
    assert answer.header("cache-control") == "no-store"
    return str(answer.json["code"])


async def test_a_payment_for_other_terms_is_refused_with_the_reason(site: Site) -> None:
    required = (await site.quote("/resource")).required
    other = Payer()
    assert await refused(site, other.pay(required, to=other.address)) == "offer_mismatch"
    assert await refused(site, other.pay(required, value=999)) == "offer_mismatch"
    assert await refused(site, other.pay(required, valid_before=1)) == "authorization_expired"
    assert await refused(site, other.pay(required, valid_after=4_000_000_000)) == "authorization_not_yet_valid"
    assert await refused(site, other.pay(required, chain_id=8453)) == "signature_invalid"


@pytest.mark.parametrize("field", ["amount", "payTo", "asset", "network", "scheme", "maxTimeoutSeconds"])
async def test_an_edited_offer_is_refused(site: Site, field: str) -> None:
    required = (await site.quote("/resource")).required
    name, value = Payer().pay(required)
    document = decode(value)
    document["accepted"][field] = {"maxTimeoutSeconds": 9}.get(field, "1")
    expected = "quote_invalid" if field == "amount" else "offer_mismatch"
    assert await refused(site, (name, encode(document))) == expected


async def test_a_quote_for_another_route_method_or_host_is_refused(site: Site) -> None:
    payer = Payer()
    required = (await site.quote("/resource?x=1")).required
    assert await refused(site, payer.pay(required), "/resource?x=2") == "quote_invalid"
    assert await refused(site, payer.pay(required), "/resource?x=1", host=b"other.test") == "quote_invalid"
    stolen = (await site.quote("/refuses")).required
    assert await refused(site, payer.pay(stolen)) == "quote_invalid"


async def test_an_edited_quote_is_refused(site: Site) -> None:
    required = (await site.quote("/resource")).required
    offer = required["accepts"][0]
    offer["extra"]["quote"] = "A" * 27
    assert await refused(site, Payer().pay(required)) == "quote_invalid"


async def test_a_signature_that_a_token_would_refuse_is_refused(site: Site) -> None:
    required = (await site.quote("/resource")).required
    offer, payer = required["accepts"][0], Payer()
    members, signature = payer.sign(to=offer["payTo"], value=offer["amount"])
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    r, s, v = signature[2:66], int(signature[66:130], 16), int(signature[130:], 16)
    for bad in (
        f"0x{r}{order - s:064x}{55 - v:02x}",  # the same signature with a high s
        f"0x{r}{s:064x}{v - 27:02x}",
        f"0x{r}{s:064x}1d",
        "0x" + "00" * 65,
        "0x" + "ff" * 65,
        signature[:-2],
    ):
        code = await refused(site, v2_header(offer, members, bad))
        assert code in ("signature_invalid", "credential_malformed"), bad


async def test_two_payment_headers_that_differ_are_refused(site: Site) -> None:
    quoted = await site.quote("/resource")
    first, second = Payer().pay(quoted.required), Payer().pay(quoted.required)
    answer = await site.get("/resource", first, second)
    assert (answer.status, answer.json["code"]) == (400, "credentials_conflict")
    answer = await site.get("/resource", first, Payer().pay_v1(quoted.json))
    assert (answer.status, answer.json["code"]) == (400, "credentials_conflict")
    assert site.shop.runs == 0


@pytest.mark.parametrize("value", [b"", b"!", b"e30=", b"bnVsbA==", b"W10=", b"A" * 9_000, encode({"x402Version": 99})])
async def test_a_malformed_header_is_refused_as_such(site: Site, value: bytes) -> None:
    assert await refused(site, (b"payment-signature", value)) == "credential_malformed"


async def test_a_payment_is_bound_by_its_first_presentation_where_nothing_else_binds_it(site: Site) -> None:
    header = Payer().pay_v1((await site.quote("/resource")).json)
    assert (await site.get("/resource?x=1", header)).status == 200
    answer = await site.get("/resource?x=2", header)
    assert (answer.status, answer.json["code"]) == (409, "payment_bound_elsewhere")


async def test_a_route_that_requires_binding_refuses_what_cannot_be_bound(tmp_path: Path) -> None:
    async with opened(tmp_path, binding="required") as site:
        quoted = await site.quote("/resource")
        assert quoted.json["accepts"] == []
        required = quoted.required
        bare = {**required, "accepts": [{**required["accepts"][0], "extra": {"name": "USDC", "version": "2"}}]}
        assert await refused(site, Payer().pay(bare)) == "quote_invalid"
        assert (await site.get("/resource", Payer().pay(required))).status == 200


async def test_a_strict_route_takes_only_nonces_derived_from_the_quote(tmp_path: Path) -> None:
    from micropaywall.core.quote import derive_nonce

    async with opened(tmp_path, binding="strict") as site:
        required = (await site.quote("/resource")).required
        payer = Payer()
        assert await refused(site, payer.pay(required)) == "quote_invalid"
        quote = required["accepts"][0]["extra"]["quote"]
        nonce = derive_nonce(quote, payer.key.address_bytes, b"s" * 16)
        assert (await site.get("/resource", payer.pay(required, nonce=nonce))).status == 200


async def test_twisted_paths_never_reach_the_handler(site: Site) -> None:
    for target in ("//resource", "/x/../resource", "/resource;x", "/%2e/resource", "/resource%00", "\\resource"):
        answer = await site.get(target)
        assert answer.status in (400, 402, 404), target
    assert site.shop.runs == 0


# -- /payments/{id} ---------------------------------------------------------------------------------------------------


async def test_the_holder_of_a_credential_sees_its_payment_and_response(site: Site) -> None:
    header = Payer().pay((await site.quote("/resource")).required)
    bought = await site.get("/resource", header)
    place = f"/payments/{bought.header('payment-id')}"
    seen = await site.get(place, header)
    assert seen.status == 200
    assert seen.json["state"] in ("settled", "final")
    assert seen.json["moneyMoved"] == "yes"
    assert seen.json["response"]["status"] == 200
    response = await site.get(place + "/response", header)
    assert response.body == bought.body


async def test_nobody_else_sees_a_payment(site: Site) -> None:
    quoted = await site.quote("/resource")
    header = Payer().pay(quoted.required)
    place = f"/payments/{(await site.get('/resource', header)).header('payment-id')}"
    name, value = header
    document = decode(value)
    document["payload"]["signature"] = "0x" + "11" * 65
    for stranger in ((), (Payer().pay(quoted.required),), ((name, encode(document)),)):
        answer = await site.get(place, *stranger)
        assert (answer.status, answer.json["code"]) == (404, "payment_not_found")
