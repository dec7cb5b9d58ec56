"""A stream of server-sent events behind a price: it is settled before its first byte leaves, then it flows."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

import micropaywall.client.httpx2 as paying
from micropaywall.clock import SystemClock
from micropaywall.testing.sandbox import PaywallSandbox
from micropaywall.testing.seller import SellerFactory


async def ticks(request: Request) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for number in range(1, 4):
            yield f"data: tick {number}\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(events(), media_type="text/event-stream")


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        sandbox = PaywallSandbox(Path(directory), SystemClock())
        sellers = SellerFactory(sandbox)
        seller = sellers(Starlette(routes=[Route("/ticks", ticks)]), {"GET /ticks": "$0.002"})
        with (
            paying.Client(payer=sandbox.payer) as client,
            client.stream("GET", seller.url + "/ticks") as response,
        ):
            for line in response.iter_lines():
                if line.startswith("data: "):
                    print(line.removeprefix("data: "))
            bought = paying.paid(response)
        print(f"paid {bought.purchase.price}" if bought else "nothing was paid")
        sellers.close()
        sandbox.close()


if __name__ == "__main__":
    main()
