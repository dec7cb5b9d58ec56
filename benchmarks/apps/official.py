"""The official Python SDK's FastAPI middleware around a FastAPI app with the same routes, and that app without it.

Its facilitator is the kindest imaginable: in the same process, checks nothing, says yes at once.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from x402.http.middleware.fastapi import PaymentMiddlewareASGI
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm.exact.server import ExactEvmScheme
from x402.schemas import AssetAmount, SettleResponse, SupportedKind, SupportedResponse, VerifyResponse
from x402.server import x402ResourceServer

NETWORK = os.environ.get("BENCH_NETWORK", "eip155:84532")
ASSET = os.environ.get("BENCH_ASSET", "0x036CbD53842c5426634e7929541eC2318f3dCF7e")
PAY_TO = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PRICE = AssetAmount(amount="1000", asset=ASSET, extra={"name": "USDC", "version": "2"})


class Yes:
    """A facilitator that agrees."""

    async def verify(self, payload, requirements):
        return VerifyResponse(is_valid=True, payer=payload.payload["authorization"]["from"])

    async def settle(self, payload, requirements):
        payer = payload.payload["authorization"]["from"]
        return SettleResponse(success=True, transaction="0x" + "11" * 32, network=NETWORK, payer=payer)

    def get_supported(self):
        return SupportedResponse(
            kinds=[SupportedKind(x402_version=2, scheme="exact", network=NETWORK)], extensions=[], signers={}
        )


def make_app() -> FastAPI:
    made = FastAPI()

    @made.get("/api/resource")
    async def resource():
        return {"data": "what was paid for", "number": 42}

    @made.get("/free")
    async def free():
        return {"data": "what was paid for", "number": 42}

    return made


bare = make_app()
app = make_app()
server = x402ResourceServer(Yes())
server.register(NETWORK, ExactEvmScheme())
option = PaymentOption(scheme="exact", price=PRICE, network=NETWORK, pay_to=PAY_TO)
app.add_middleware(PaymentMiddlewareASGI, routes={"GET /api/resource": RouteConfig(accepts=[option])}, server=server)
