"""A seller in a process of its own, that can be told to die at one point of the flow.

    python seller_process.py DIRECTORY MODE HEADER [--die when:what] [--times N] [--later SECONDS]

Presents the payment HEADER (``name=value``) to ``GET /resource`` N times at once and prints one JSON line per answer. The handler
appends a line to DIRECTORY/runs. ``--die before:Capture`` kills the process (SIGKILL) when the flow asks for that effect
or book command, ``after:…`` when it has been carried out, ``handler`` inside the handler. ``--later`` moves its clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.kit.call import call

from micropaywall import Paywall
from micropaywall.clock import SystemClock
from micropaywall.core import paywall as flow

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


class LaterClock(SystemClock):
    def __init__(self, later_s: float) -> None:
        self._later_ms = round(later_s * 1000)

    def now_ms(self) -> int:
        return super().now_ms() + self._later_ms


def die() -> NoReturn:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    raise SystemExit(9)


class Mortal(Paywall):
    """A paywall that dies at a point of the flow."""

    die_at = ""

    async def perform(self, effect: flow.Effect) -> Any:
        what = type(effect.command).__name__ if isinstance(effect, flow.Book) else type(effect).__name__
        if self.die_at == f"before:{what}":
            die()
        result = await super().perform(effect)
        if self.die_at == f"after:{what}":
            die()
        return result


def paywall_in(directory: Path, mode: str, *, later_s: float = 0, **options: Any) -> Mortal:
    return Mortal(
        {"GET /resource": {"price": "$0.001", "settle": mode}},
        pay_to=PAYEE,
        ledger=f"sqlite:///{directory / 'ledger.db'}",
        rail_options={"sandbox": {"store": str(directory / "sandbox.db")}},
        clock=LaterClock(later_s),
        **options,
    )


def app_in(directory: Path, *, die_in_handler: bool = False) -> Starlette:
    async def resource(request: Request) -> PlainTextResponse:
        with (directory / "runs").open("a") as runs:
            runs.write(f"{os.getpid()}\n")
        if die_in_handler:
            die()
        await asyncio.sleep(0.01)
        return PlainTextResponse("the resource")

    return Starlette(routes=[Route("/resource", resource)])


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("mode")
    parser.add_argument("header")
    parser.add_argument("--die", default="")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--later", type=float, default=0)
    given = parser.parse_args()
    name, _, value = given.header.partition("=")
    paywall = paywall_in(given.directory, given.mode, later_s=given.later)
    paywall.die_at = given.die
    app = paywall.asgi(app_in(given.directory, die_in_handler=given.die == "handler"))
    await paywall.start()
    header = (name.encode(), value.encode())
    answers = await asyncio.gather(*(call(app, "GET", "/resource", headers=[header]) for _ in range(given.times)))
    for answer in answers:
        print(json.dumps({"status": answer.status, "body": answer.body.decode()}))
    await paywall.stop()


if __name__ == "__main__":
    asyncio.run(main())
