"""A seller made with the official Python SDK: FastAPI and its payment middleware, as its documentation shows.

Environment: PORT, FACILITATOR_URL, PAY_TO, PAY_NETWORK, PAY_ASSET. Prints ``ready`` when it listens.
"""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI, Request
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.schemas import AssetAmount
from x402.server import x402ResourceServer

NETWORK = os.environ["PAY_NETWORK"]
PRICE = AssetAmount(amount="1000", asset=os.environ["PAY_ASSET"], extra={"name": "USDC", "version": "2"})

app = FastAPI()
server = x402ResourceServer(HTTPFacilitatorClient(FacilitatorConfig(url=os.environ["FACILITATOR_URL"])))
server.register(NETWORK, ExactEvmServerScheme())
option = PaymentOption(scheme="exact", pay_to=os.environ["PAY_TO"], price=PRICE, network=NETWORK)
routes = {
    "GET /weather": RouteConfig(accepts=[option], mime_type="application/json", description="Weather report"),
    "POST /echo": RouteConfig(accepts=[option], mime_type="application/json", description="Echo"),
}
app.add_middleware(PaymentMiddlewareASGI, routes=routes, server=server)


@app.get("/weather")
async def weather() -> dict[str, object]:
    return {"report": {"weather": "sunny", "temperature": 21}}


@app.post("/echo")
async def echo(request: Request) -> dict[str, object]:
    return {"echo": (await request.body()).decode()}


class Announced(uvicorn.Server):
    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        print("ready", flush=True)


if __name__ == "__main__":
    Announced(uvicorn.Config(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")).run()
