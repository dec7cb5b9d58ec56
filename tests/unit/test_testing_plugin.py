"""The pytest plugin that users test their own priced applications with, used as they use it: in a pytest run of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(place: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a test module of somebody else's project."""
    (place / "test_shop.py").write_text(code)
    (place / "pytest.ini").write_text("[pytest]\nfilterwarnings =\n    error\n")
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
    }
    plugins = ["-p", "anyio", "-p", "micropaywall.testing"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins, *options, "test_shop.py"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=100)


def passed(result: subprocess.CompletedProcess[str], count: int) -> None:
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{count} passed" in result.stdout


ASGI = """
import asyncio
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from micropaywall.client.httpx2 import paid
from micropaywall.errors import BudgetExceeded, PaymentNotAccepted, PaymentOutcomeUnknown


async def report(request):
    return JSONResponse({"answer": 42})


app = Starlette(routes=[Route("/report", report), Route("/free", report)])
ROUTES = {"GET /report": "$0.001"}


def test_a_client_pays_and_both_sides_know(sandbox_seller, paying_client, paywall_sandbox):
    seller = sandbox_seller(app, ROUTES)
    response = paying_client.get(seller.url + "/report")
    assert response.json() == {"answer": 42}
    assert str(paid(response).purchase.price) == "0.001 USDC"
    assert paying_client.get(seller.url + "/free").status_code == 200
    assert [record.status for record in seller.records()] == ["success"]
    assert str(paywall_sandbox.balance(paywall_sandbox.buyer.address)) == "999.999 USDC"
    assert str(paywall_sandbox.balance(paywall_sandbox.payee)) == "1000.001 USDC"


def test_every_test_has_a_world_of_its_own(sandbox_seller, paying_client, paywall_sandbox):
    seller = sandbox_seller(app, ROUTES)
    assert seller.records() == []
    assert str(paywall_sandbox.balance(paywall_sandbox.buyer.address)) == "1000 USDC"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asynchronous_clients_pay_too(sandbox_seller, async_paying_client, anyio_backend):
    seller = await asyncio.to_thread(sandbox_seller, app, ROUTES)
    async with async_paying_client() as client:
        responses = await asyncio.gather(*(client.get(seller.url + "/report") for _ in range(5)))
    assert [response.status_code for response in responses] == [200] * 5
    assert len(await asyncio.to_thread(seller.records)) == 5


def test_faults_strike_and_stop(sandbox_seller, paying_client, faults, paywall_sandbox):
    seller = sandbox_seller(app, ROUTES)
    faults.set("insufficient_funds")
    with pytest.raises(PaymentNotAccepted):
        paying_client.get(seller.url + "/report")
    faults.clear()
    assert paying_client.get(seller.url + "/report").status_code == 200
    faults.set("settle_answer_lost_after")
    assert paying_client.get(seller.url + "/report").status_code == 200
    assert str(paywall_sandbox.balance(paywall_sandbox.payee)) == "1000.002 USDC"


def test_one_request_may_ask_for_a_fault(sandbox_seller, paying_client, faults):
    seller = sandbox_seller(app, ROUTES)
    with pytest.raises(PaymentNotAccepted):
        paying_client.get(seller.url + "/report", headers=faults.header("rejected"))
    assert paying_client.get(seller.url + "/report").status_code == 200


def test_an_account_may_be_poor(sandbox_seller, paywall_sandbox):
    from micropaywall.client.httpx2 import Client

    seller = sandbox_seller(app, ROUTES)
    for balance, accepted in (("0.0005", False), ("0.001", True), ("5000", True)):
        with Client(wallet=paywall_sandbox.wallet(balance), budget="$1 in total") as client:
            if accepted:
                assert client.get(seller.url + "/report").status_code == 200
            else:
                with pytest.raises(PaymentNotAccepted):
                    client.get(seller.url + "/report")


def test_budgets_hold(sandbox_seller, paying_client):
    seller = sandbox_seller(app, {"GET /report": "$60"})
    assert paying_client.get(seller.url + "/report").status_code == 200
    with pytest.raises(BudgetExceeded):
        paying_client.get(seller.url + "/report")


def test_a_settlement_becomes_final_and_a_lost_one_comes_back(sandbox_seller, paying_client, paywall_sandbox):
    seller = sandbox_seller(app, ROUTES, background=False)
    paying_client.get(seller.url + "/report")
    paywall_sandbox.reorganise()
    assert seller.work().reorganised == 1
    assert seller.work().settled == 1
    paywall_sandbox.mine(6)
    assert seller.work().final == 1


def test_time_stands_still_until_it_is_moved(sandbox_seller, paying_client, fake_clock, paywall_sandbox):
    seller = sandbox_seller(app, {"GET /report": {"price": "$0.001", "settle": "deferred"}}, background=False)
    assert paywall_sandbox.clock is fake_clock
    assert paying_client.get(seller.url + "/report").status_code == 200
    before = seller.records()[0].timestamp_ms
    assert before == fake_clock.now_ms()
    fake_clock.advance(30)
    assert seller.work().settled == 1
    paying_client.get(seller.url + "/report")
    assert seller.records()[1].timestamp_ms == before + 30_000


def test_an_application_behind_its_own_paywall_is_served_as_it_is(sandbox_seller, paying_client, paywall_sandbox, faults):
    faults.set("rejected")
    seller = sandbox_seller(paywall_sandbox.paywall(ROUTES).asgi(app))
    with pytest.raises(PaymentNotAccepted):
        paying_client.get(seller.url + "/report")


def test_mistakes_are_told(sandbox_seller, paywall_sandbox):
    from micropaywall.errors import ConfigurationError

    priced = paywall_sandbox.paywall(ROUTES)
    for wrong in (
        lambda: sandbox_seller(priced.asgi(app), ROUTES),
        lambda: sandbox_seller(app, ROUTES, paywall=priced),
        lambda: sandbox_seller(app, {"GET /report": "a lot"}),
        lambda: sandbox_seller(app, ROUTES, rails=["gold"]),
    ):
        with pytest.raises(ConfigurationError):
            wrong()


def test_files_of_the_user_are_not_touched(paywall_sandbox, tmp_path):
    from micropaywall.home import data_directory

    assert data_directory() == paywall_sandbox.home
    assert tmp_path in paywall_sandbox.home.parents
"""

OTHERS = """
import pytest
from fastapi import FastAPI
from flask import Flask


def test_wsgi_applications_are_served(sandbox_seller, paying_client, faults):
    app = Flask(__name__)
    app.add_url_rule("/report", view_func=lambda: {"answer": 42})
    seller = sandbox_seller(app, {"GET /report": "$0.001"})
    assert paying_client.get(seller.url + "/report").json() == {"answer": 42}
    assert [record.status for record in seller.records()] == ["success"]
    faults.set("reorganisation")
    assert paying_client.get(seller.url + "/report").json() == {"answer": 42}


def test_prices_bound_to_endpoints(sandbox_seller, paying_client, paywall_sandbox):
    from micropaywall.contrib.fastapi import Price

    paywall = paywall_sandbox.paywall()
    app = FastAPI()

    @app.get("/report/{name}", dependencies=[Price(paywall, "$0.002", name="GET /report/{name}")])
    async def report(name: str):
        return {"name": name}

    seller = sandbox_seller(app, paywall=paywall)
    assert paying_client.get(seller.url + "/report/a").json() == {"name": "a"}
    assert str(paywall_sandbox.balance(paywall_sandbox.payee)) == "1000.002 USDC"


def test_plain_functions_are_served(sandbox_seller, paying_client):
    async def asgi(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"asgi"})

    def wsgi(environ, start_response):
        start_response("200 OK", [("content-length", "4")])
        return [b"wsgi"]

    for app, body in ((asgi, b"asgi"), (wsgi, b"wsgi")):
        seller = sandbox_seller(app, {"GET /": "$0.001"})
        assert paying_client.get(seller.url + "/").content == body


def test_an_application_that_does_not_start_is_told(sandbox_seller):
    from micropaywall.errors import Unavailable

    async def broken(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(Unavailable):
        sandbox_seller(broken, {"GET /": "$0.001"})
"""


def test_users_of_asgi_applications_can_test_them(tmp_path: Path) -> None:
    passed(run(tmp_path, ASGI), 12)


def test_users_of_other_applications_can_test_them(tmp_path: Path) -> None:
    passed(run(tmp_path, OTHERS), 4)


def test_the_fixtures_are_listed_with_what_they_are(tmp_path: Path) -> None:
    shown = run(tmp_path, "", "--fixtures").stdout
    for name in ("paywall_sandbox", "sandbox_seller", "paying_client", "async_paying_client", "fake_clock", "faults"):
        assert name in shown


@pytest.mark.parametrize("module", ["micropaywall.testing", "micropaywall.testing.fixtures"])
def test_loading_the_plugin_loads_nothing_that_a_test_has_not_asked_for(module: str) -> None:
    code = (
        f"import pytest, sys; before = set(sys.modules); import {module}; "
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "ours = {name for name in sys.modules if name.startswith('micropaywall')}; "
        "print(sorted(loaded), sorted(ours))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    loaded, ours = out.strip().split("] [")
    for heavy in ("httpx2", "httpx", "requests", "uvicorn", "starlette", "coincurve", "msgspec", "sqlite3", "asyncio"):
        assert f"'{heavy}'" not in loaded
    assert ours.count("'") == 2 * 3  # micropaywall, .testing, .testing.fixtures
