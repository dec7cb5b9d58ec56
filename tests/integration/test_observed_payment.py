"""A paid request tells its observer what happened, and an observer that fails does not fail the payment."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.kit.call import call
from tests.kit.payer import Payer

from micropaywall import Paywall
from micropaywall.observe import Event

pytestmark = pytest.mark.anyio


async def resource(request: Request) -> JSONResponse:
    return JSONResponse({"fine": True})


class Notes:
    def __init__(self, *, broken: bool) -> None:
        self.events: list[Event] = []
        self.broken = broken

    def notify(self, event: Event, /) -> None:
        self.events.append(event)
        if self.broken:
            raise RuntimeError("the metrics library is down")


@pytest.mark.parametrize("broken", [False, True])
async def test_each_step_is_told_and_nothing_secret_and_no_observer_can_stop_it(
    tmp_path: Path, broken: bool, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes(broken=broken)
    paywall = Paywall({"GET /resource": "$0.001"}, ledger=f"sqlite:///{tmp_path}/ledger.db", observer=notes)
    app = paywall.asgi(Starlette(routes=[Route("/resource", resource)]))
    try:
        challenge = await call(app, "GET", "/resource")
        header = Payer().pay(challenge.required)
        paid = await call(app, "GET", "/resource", headers=[header])
        again = await call(app, "GET", "/resource", headers=[header])
    finally:
        await paywall.stop()
    assert (paid.status, again.status, again.body) == (200, 200, paid.body)
    names = [event.name for event in notes.events]
    assert [name for name in names if name in ("offered", "reserved", "served", "settled", "replayed")] == [
        "offered",
        "reserved",
        "settled",
        "served",
        "replayed",
    ]
    told = repr(notes.events)
    assert header[1].decode() not in told
    assert ("observer Notes failed" in caplog.text) is broken
