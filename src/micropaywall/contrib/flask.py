"""Prices for Flask views.

@app.get("/report")
@priced(paywall, "$0.001")
def report(): ...

app.wsgi_app = paywall.wsgi(app.wsgi_app)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from flask import Response, request

from micropaywall.contrib._bound import exchange_in
from micropaywall.core.routes import PriceFunction, PriceSpec
from micropaywall.seller.paywall import Paywall

F = TypeVar("F", bound=Callable[..., Any])


def priced(
    paywall: Paywall, price: PriceSpec | PriceFunction, *, name: str | None = None, **options: object
) -> Callable[[F], F]:
    """Decorate a view with a price; put it below ``@app.get``. ``options`` are those of `core.routes.Route`."""

    def decorate(view: F) -> F:
        route = paywall.route(name or f"{view.__module__}.{view.__qualname__}", price, **options)

        @functools.wraps(view)
        def asking(*args: Any, **kwargs: Any) -> Any:
            if not exchange_in(request.environ).enter(route):
                return Response(status=402)  # the paywall puts its own answer in place of this one
            return view(*args, **kwargs)

        return cast("F", asking)

    return decorate


__all__ = ["priced"]
