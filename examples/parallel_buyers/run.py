"""Twenty calls at once, with a budget for three: three are served, seventeen are refused before anything is signed.

The budget is reserved in a store that all processes of a user share, so it holds for any number of clients, threads and programs.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import micropaywall.client.httpx2 as paying
from micropaywall.client import Payer
from micropaywall.clock import SystemClock
from micropaywall.errors import BudgetExceeded
from micropaywall.testing.sandbox import PaywallSandbox
from micropaywall.testing.seller import SellerFactory


async def forecast(request: Request) -> JSONResponse:
    return JSONResponse({"tomorrow": "fair"})


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        sandbox = PaywallSandbox(Path(directory), SystemClock())
        sellers = SellerFactory(sandbox)
        seller = sellers(Starlette(routes=[Route("/forecast", forecast)]), {"GET /forecast": "$0.01"})
        payer = Payer(wallet=sandbox.buyer, budget="$0.03 a day", home=sandbox.home)

        with paying.Client(payer=payer) as client, ThreadPoolExecutor(20) as threads:

            def call(_: int) -> str:
                try:
                    return client.get(seller.url + "/forecast").json()["tomorrow"]
                except BudgetExceeded:
                    return "refused"

            answers = list(threads.map(call, range(20)))

        print(f"served {answers.count('fair')}, refused {answers.count('refused')}")
        print(f"the buyer has {sandbox.balance(sandbox.buyer.address)}")
        print(f"the seller's book has {len(seller.records())} deliveries")
        payer.close()
        sellers.close()
        sandbox.close()


if __name__ == "__main__":
    main()
