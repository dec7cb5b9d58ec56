"""`micropaywall serve`: what it serves, what it refuses to serve, how it stops."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from tests.acceptance.conftest import run, serving

ASGI_APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"asgi:" + scope["path"].encode()})

def factory():
    return app
"""
WSGI_APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    body = environ["wsgi.input"].read()
    return [b"wsgi:", environ["PATH_INFO"].encode("latin-1"), b":", body]
"""
CONFIG = """
[[seller.routes]]
path = "/paid"
price = "$0.001"

[rails.sandbox]
"""


def get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(CONFIG)
    (tmp_path / "asgi_shop.py").write_text(ASGI_APP)
    (tmp_path / "wsgi_shop.py").write_text(WSGI_APP)
    return tmp_path


@pytest.mark.parametrize(
    ("app", "body"),
    [("asgi_shop:app", "asgi:/paid"), ("asgi_shop:factory()", "asgi:/paid"), ("wsgi_shop:app", "wsgi:/paid:")],
)
def test_an_application_is_put_behind_the_configured_routes(shop: Path, app: str, body: str) -> None:
    with serving(shop / "home", "--config", str(shop / "shop.toml"), "--sandbox", "--app", app, cwd=shop) as seller:
        assert get(seller.url + "/paid")[0] == 402
        assert get(seller.url + "/free")[0] == 200
        done = run(shop / "home", "get", seller.url + "/paid")
        assert (done.code, done.out) == (0, body)
        assert seller.stop() == 0


def test_an_application_without_any_price_is_not_served(shop: Path) -> None:
    done = run(shop / "home", "serve", "--sandbox", "--app", "asgi_shop:app", "--port", "0", "--json", cwd=shop)
    assert (done.code, done.problem["detail"]) == (2, "nothing is priced")


def test_ctrl_c_stops_it_without_a_traceback(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox") as seller:
        assert seller.stop() == 0
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the workers")
def test_several_workers_share_one_book_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox", "--workers", "2") as seller:
        children = [
            int(pid)
            for pid in Path(f"/proc/{seller.process.pid}/task/{seller.process.pid}/children").read_text().split()
        ]
        killed = next(pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + 15
        served = 0
        while served < 5 and time.monotonic() < deadline:
            served += run(tmp_path, "get", seller.url + "/api/resource").code == 0
        assert served == 5
        assert seller.stop() == 0
    records = run(tmp_path, "ledger", "list", "--json").json
    assert [record["status"] for record in records].count("success") == 5
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_plain_http_off_loopback_needs_to_be_allowed(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", "--sandbox", "--host", "0.0.0.0", "--port", "0", "--json")
    assert (done.code, done.problem["code"]) == (2, "configuration_invalid")
    assert "--allow-plain-http" in done.problem["hint"]
    with serving(tmp_path, "--sandbox", "--host", "0.0.0.0", "--allow-plain-http") as seller:
        assert get(f"http://127.0.0.1:{seller.told['port']}/")[0] == 402


def test_tls_is_served_with_a_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    arguments = ["--sandbox", "--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem")]
    with serving(tmp_path, *arguments) as seller:
        assert seller.url.startswith("https://localhost:")
        status, body = get(seller.url, context)
        assert status == 402
        assert json.loads(body)["accepts"][0]["resource"].startswith("https://localhost:")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no rail is configured"),
        (["--sandbox", "--app", "no_such_module:app"], "there is no module"),
        (["--sandbox", "--app", "json:nothing"], "has no attribute"),
        (["--sandbox", "--app", "json:dumps"], "nothing is priced|cannot be told"),
        (["--sandbox", "--fault", "nonsense"], "no such sandbox fault"),
        (["--fault", "slow"], "faults are for the sandbox"),
        (["--sandbox", "--tls-cert", "cert.pem"], "TLS needs certificate and key"),
    ],
)
def test_what_cannot_work_stops_the_start(tmp_path: Path, arguments: list[str], says: str) -> None:
    import re

    done = run(tmp_path, "serve", "--port", "0", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert re.search(says, done.err.replace("\n  ", " ")), done.err
    assert "Traceback" not in done.err


def test_an_unknown_key_in_the_configuration_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[seller]\npay_too = '0x'\n")
    done = run(tmp_path, "serve", "--config", "shop.toml", "--json", cwd=tmp_path)
    assert (done.code, done.problem["hint"]) == (2, "Did you mean 'pay_to'?")


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox") as seller:
        done = run(tmp_path, "serve", "--sandbox", "--port", str(seller.told["port"]))
        assert done.code == 2
        assert "cannot listen on" in done.err


def test_a_response_is_kept_as_long_as_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[ledger]\nresponse_retention_s = 1\n")
    with serving(tmp_path, "--sandbox", "--config", str(tmp_path / "shop.toml")) as seller:
        assert run(tmp_path, "get", seller.url + "/api/resource").code == 0
        time.sleep(1.1)
        pruned = run(tmp_path, "ledger", "prune", "--config", str(tmp_path / "shop.toml"), "--json")
    assert (pruned.code, pruned.json["responses"]) == (0, 1), pruned.err
