"""Prices for Starlette endpoints.

@priced(paywall, "$0.001")
async def report(request): ...

app = paywall.asgi(Starlette(routes=[Route("/report", report)]))
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import anyio.from_thread
from starlette.requests import Request
from starlette.responses import Response

from micropaywall.contrib._bound import exchange_in
from micropaywall.core.routes import PriceFunction, PriceSpec
from micropaywall.seller.paywall import Paywall

F = TypeVar("F", bound=Callable[..., Any])


def priced(
    paywall: Paywall, price: PriceSpec | PriceFunction, *, name: str | None = None, **options: object
) -> Callable[[F], F]:
    """Decorate a function endpoint ``(request) -> Response`` with a price; ``options`` are those of `core.routes.Route`.

    ``name`` is how the book calls the endpoint (default: module and function name).
    """

    def decorate(endpoint: F) -> F:
        route = paywall.route(name or endpoint_name(endpoint), price, **options)
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def asynchronous(request: Request, *args: Any, **kwargs: Any) -> Any:
                if not await exchange_in(request.scope).enter(route):
                    return decided()
                return await endpoint(request, *args, **kwargs)

            return cast("F", asynchronous)

        @functools.wraps(endpoint)
        def synchronous(request: Request, *args: Any, **kwargs: Any) -> Any:
            if not anyio.from_thread.run(exchange_in(request.scope).enter, route):
                return decided()
            return endpoint(request, *args, **kwargs)

        return cast("F", synchronous)

    return decorate


def decided() -> Response:
    """Stands for the answer that the paywall has decided and will put in its place."""
    return Response(status_code=402)


def endpoint_name(endpoint: Callable[..., Any]) -> str:
    """How the book names an endpoint that was given no name."""
    return f"{endpoint.__module__}.{endpoint.__qualname__}"


__all__ = ["priced"]
