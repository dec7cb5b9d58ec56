"""Prices for FastAPI endpoints, as a dependency or a decorator.

@app.get("/report", dependencies=[Price(paywall, "$0.001")])
async def report(): ...

app = paywall.asgi(app)
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends, HTTPException
from starlette.requests import HTTPConnection

from micropaywall.contrib._bound import exchange_in
from micropaywall.core.routes import PriceFunction, PriceSpec
from micropaywall.seller.paywall import Paywall

_FACTS = "micropaywall.payment"


def Price(  # noqa: N802  (reads as FastAPI's own Depends and Security)
    paywall: Paywall, price: PriceSpec | PriceFunction, *, name: str, **options: object
) -> Any:
    """A dependency that asks ``price`` before the endpoint runs; ``name`` is how the book calls it (``"GET /report"``).

    Used as a parameter default it gives the endpoint what is known of the payment: ``paymentId``, ``payer``, ``amount``,
    ``asset``, ``network`` (empty when the request was free).
    """
    route = paywall.route(name, price, **options)

    async def ask(connection: HTTPConnection) -> dict[str, str]:
        if not await exchange_in(connection.scope).enter(route):
            raise HTTPException(402)  # the paywall puts its own answer in place of this one
        return dict(connection.scope.get(_FACTS) or {})

    return Depends(ask)


__all__ = ["Price"]
