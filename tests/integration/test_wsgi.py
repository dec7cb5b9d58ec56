"""The paywall around WSGI applications: the same flow, PEP 3333 kept (the validator of the standard library is in between)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.payer import Payer
from tests.kit.wsgi import wsgi_call

from micropaywall import Paywall

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


class Pieces:
    """A body in pieces that knows whether it was closed."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.made = 0
        self.closed = False
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.made += 1
            yield piece

    def close(self) -> None:
        self.closed = True


class Shop:
    def __init__(self) -> None:
        self.runs = 0
        self.last: Pieces | None = None
        self.seen: bytes | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.runs += 1
        path = environ["PATH_INFO"]
        if path == "/fails":
            raise ValueError("the handler's own fault")
        if path == "/echo":
            self.seen = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(self.seen)))])
            return [self.seen]
        if path == "/refuses":
            start_response("422 Unprocessable Entity", [("Content-Type", "text/plain")])
            return [b"no"]
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            self.last = Pieces([b"%d\n" % n for n in range(5)])
            return self.last
        if path == "/writes":
            write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
            write(b"ab")
            return [b"cd"]
        lines = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
        start_response("200 OK", lines)
        self.last = Pieces([b"the resource"])
        return self.last


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def app(tmp_path: Path, shop: Shop) -> Iterator[Any]:
    paywall = Paywall(
        {f"/{name}": "$0.001" for name in ("resource", "fails", "refuses", "stream", "writes", "echo")},
        pay_to=PAYEE,
        ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
        rail_options={"sandbox": {"store": str(tmp_path / "sandbox.db")}},
    )
    application = paywall.wsgi(shop)
    yield application
    application.stop()


def credential(app: Any, target: str, **more: Any) -> tuple[bytes, bytes]:
    quoted = wsgi_call(app, more.pop("method", "GET"), target, **more)
    assert quoted.status == 402, quoted.body
    return Payer().pay(quoted.required)


def test_a_payment_buys_one_response_and_its_repeat(app: Any, shop: Shop) -> None:
    header = credential(app, "/resource")
    first = wsgi_call(app, target="/resource", headers=[header])
    again = wsgi_call(app, target="/resource", headers=[header])
    assert (first.status, first.body) == (again.status, again.body) == (200, b"the resource")
    assert [value for name, value in first.headers if name == b"Set-Cookie" or name == b"set-cookie"] == [
        b"a=1",
        b"b=2",
    ]
    assert first.receipt["success"] is True
    assert shop.runs == 1
    assert shop.last is not None
    assert shop.last.closed


def test_unpriced_paths_pass_untouched(app: Any, shop: Shop) -> None:
    answer = wsgi_call(app, target="/free")
    assert (answer.status, answer.body, answer.header("payment-response")) == (200, b"the resource", None)


def test_a_handler_that_fails_or_refuses_charges_nobody(app: Any, shop: Shop) -> None:
    header = credential(app, "/fails")
    for _ in range(2):
        with pytest.raises(ValueError, match="own fault"):
            wsgi_call(app, target="/fails", headers=[header])
    refused = wsgi_call(app, target="/refuses", headers=[credential(app, "/refuses")])
    assert (refused.status, refused.body, refused.receipt) == (422, b"no", None)
    assert shop.runs == 3


def test_a_stream_comes_in_pieces_and_is_kept(app: Any, shop: Shop) -> None:
    header = credential(app, "/stream")
    answer = wsgi_call(app, target="/stream", headers=[header])
    assert answer.receipt["success"] is True
    assert len([piece for piece in answer.pieces if piece]) == 5
    again = wsgi_call(app, target="/stream", headers=[header])
    assert again.body == answer.body
    assert shop.runs == 1


def test_a_buyer_that_leaves_in_a_stream_finds_the_whole_later(app: Any, shop: Shop) -> None:
    header = credential(app, "/stream")
    wsgi_call(app, target="/stream", headers=[header], leave_after=1)
    assert shop.last is not None
    assert shop.last.closed
    again = wsgi_call(app, target="/stream", headers=[header])
    assert again.body == b"0\n1\n2\n3\n4\n"
    assert shop.runs == 1


def test_the_write_callable_is_part_of_the_answer(app: Any) -> None:
    answer = wsgi_call(app, target="/writes", headers=[credential(app, "/writes")])
    assert (answer.status, answer.body) == (200, b"abcd")


def test_a_body_reaches_the_handler_whole(app: Any, shop: Shop) -> None:
    body = b"x" * 10_000
    header = credential(app, "/echo", method="POST", body=body)
    answer = wsgi_call(app, "POST", "/echo", headers=[header], body=body)
    assert (answer.status, answer.body) == (200, body)
    too_large = wsgi_call(
        app, "POST", "/echo", headers=[credential(app, "/echo", method="POST")], body=b"x" * 1_100_000
    )
    assert (too_large.status, too_large.json["code"]) == (413, "request_body_too_large")


def test_head_gets_no_body(app: Any) -> None:
    answer = wsgi_call(app, "HEAD", "/resource")
    assert (answer.status, answer.body) == (402, b"")


def test_a_payment_is_shown_to_its_holder(app: Any) -> None:
    header = credential(app, "/resource")
    bought = wsgi_call(app, target="/resource", headers=[header])
    seen = wsgi_call(app, target=f"/payments/{bought.header('payment-id')}", headers=[header])
    assert (seen.status, seen.json["moneyMoved"]) == (200, "yes")
    assert wsgi_call(app, target=f"/payments/{bought.header('payment-id')}").status == 404
