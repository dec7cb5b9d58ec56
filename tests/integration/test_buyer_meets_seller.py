"""Our buyers at our own seller: real HTTP, the sandbox network, both books."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.kit.buyers import NAMES, Buyer

from micropaywall import Paywall, limits
from micropaywall.client import Budget
from micropaywall.core.purchase import PurchaseState
from micropaywall.errors import PaymentNotAccepted
from micropaywall.testing.servers import AsgiServer


class Shop:
    """What is sold, and how often each handler ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = threading.Event()
        self.gate.set()

    async def resource(self, request: Request) -> Response:
        self.runs += 1
        return JSONResponse({"run": self.runs})

    async def echo(self, request: Request) -> Response:
        self.runs += 1
        return Response(await request.body())

    async def fails(self, request: Request) -> Response:
        self.runs += 1
        raise ValueError("the handler's own fault")

    async def refuses(self, request: Request) -> Response:
        self.runs += 1
        return PlainTextResponse("not like this", status_code=422)

    async def stream(self, request: Request) -> Response:
        self.runs += 1
        return StreamingResponse(iter([b"one ", b"two ", b"three"]), media_type="text/plain")

    async def seldom(self, request: Request) -> Response:
        """Answers the first time with an error of a gateway, after the work was done."""
        self.runs += 1
        return PlainTextResponse("busy", status_code=503) if self.runs == 1 else PlainTextResponse("done")

    def app(self) -> Starlette:
        names = ("resource", "fails", "refuses", "stream", "seldom")
        routes = [Route(f"/{name}", getattr(self, name)) for name in names]
        return Starlette(
            routes=[
                *routes,
                Route("/strict", self.resource),
                Route("/dear", self.resource),
                Route("/echo", self.echo, methods=["POST"]),
            ]
        )


ROUTES: dict[str, Any] = {
    "GET /resource": "$0.001",
    "GET /strict": {"price": "$0.001", "binding": "strict"},
    "GET /fails": "$0.001",
    "GET /refuses": "$0.001",
    "GET /stream": "$0.001",
    "GET /dear": "$2000",
    "GET /seldom": "$0.001",
    "POST /echo": {"price": "$0.002", "bind_body": True},
}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def url(shop: Shop, tmp_path: Path) -> Iterator[str]:
    paywall = Paywall(ROUTES, ledger=f"sqlite:///{tmp_path}/ledger.db")
    server = AsgiServer(paywall.asgi(shop.app()), paywall)
    try:
        yield server.url
    finally:
        server.close()


@pytest.fixture(params=NAMES)
def buyer(request: pytest.FixtureRequest, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buyer]:
    monkeypatch.setattr(limits, "RESEND_WAIT_S_MIN", 0.01)
    monkeypatch.setattr(limits, "RESEND_WAIT_S_MAX", 0.05)
    with Buyer(request.param, budget="$1 a day") as made:
        yield made


def spent(buyer: Buyer) -> str:
    [(_, total)] = buyer.store.spent(Budget.parse("$1 a day").limits[0], realm="test")
    return str(total.normalize())


def test_a_payment_of_ours_is_taken_where_its_nonce_must_be_derived_from_the_quote(
    buyer: Buyer, url: str, shop: Shop
) -> None:
    got = buyer.get(f"{url}/strict?city=Bern")
    assert (got.status, got.body) == (200, b'{"run":1}')
    assert got.paid is not None
    assert got.paid.receipt is not None
    assert got.paid.receipt.settled
    assert got.paid.receipt.payment_id == got.paid.purchase.payment_id
    assert got.paid.purchase.transaction.startswith("0x")
    assert spent(buyer) == "0.001"


def test_a_quote_over_the_body_is_paid_with_that_body(buyer: Buyer, url: str) -> None:
    assert buyer.post(f"{url}/echo", b"words to count").body == b"words to count"
    assert buyer.post(f"{url}/echo", iter([b"in ", b"pieces"])).body == b"in pieces"


def test_a_streamed_answer_is_paid_for_and_passes_through(buyer: Buyer, url: str) -> None:
    pieces: list[bytes] = []
    status, paid = buyer.stream(f"{url}/stream", pieces.append)
    assert (status, b"".join(pieces)) == (200, b"one two three")
    assert paid is not None


def test_the_same_logical_call_runs_the_handler_once_and_pays_once(buyer: Buyer, url: str, shop: Shop) -> None:
    key = {"Idempotency-Key": "order-1"}
    first, second = buyer.get(f"{url}/resource", headers=key), buyer.get(f"{url}/resource", headers=key)
    assert first.body == second.body == b'{"run":1}'
    assert shop.runs == 1
    assert spent(buyer) == "0.001"


def test_a_handler_that_refuses_costs_nothing_and_its_answer_is_the_callers(buyer: Buyer, url: str) -> None:
    got = buyer.get(f"{url}/refuses")
    assert (got.status, got.body) == (422, b"not like this")
    assert got.paid is not None
    assert got.paid.purchase.state is PurchaseState.REJECTED
    assert got.paid.purchase.money_moved == "no"
    assert spent(buyer) == "0"


def test_a_handler_that_fails_costs_nothing(buyer: Buyer, url: str, shop: Shop) -> None:
    got = buyer.get(f"{url}/fails")
    assert got.status == 500
    assert got.paid is not None
    assert got.paid.purchase.money_moved == "no"
    assert spent(buyer) == "0"


def test_a_busy_handler_is_asked_again_with_the_same_payment(buyer: Buyer, url: str, shop: Shop) -> None:
    assert buyer.get(f"{url}/seldom").body == b"done"
    assert shop.runs == 2
    assert spent(buyer) == "0.001"


def test_a_wallet_without_money_is_told_so_and_keeps_its_budget(url: str, shop: Shop) -> None:
    with Buyer("httpx2", budget="$5000 a day") as buyer:  # a sandbox wallet begins with $1000
        with pytest.raises(PaymentNotAccepted) as caught:
            buyer.get(f"{url}/dear")
        assert caught.value.facts["moneyMoved"] == "no"
        assert caught.value.received == "payment_rejected"
        assert spent(buyer) == "0"
