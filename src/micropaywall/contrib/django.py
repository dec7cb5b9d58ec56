"""Prices for Django views, synchronous or asynchronous, under WSGI or ASGI.

@priced(paywall, "$0.001")
def report(request): ...

application = paywall.wsgi(get_wsgi_application())      # or paywall.asgi(get_asgi_application())
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpRequest, HttpResponse

from micropaywall.contrib._bound import exchange_in
from micropaywall.core.routes import PriceFunction, PriceSpec
from micropaywall.seller.paywall import Paywall

F = TypeVar("F", bound=Callable[..., Any])


def priced(
    paywall: Paywall, price: PriceSpec | PriceFunction, *, name: str | None = None, **options: object
) -> Callable[[F], F]:
    """Decorate a view with a price. ``options`` are those of `core.routes.Route`."""

    def decorate(view: F) -> F:
        route = paywall.route(name or f"{view.__module__}.{view.__qualname__}", price, **options)
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def asynchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                scope = getattr(request, "scope", None)
                if scope is not None:
                    may_run = await exchange_in(scope).enter(route)
                else:
                    may_run = await sync_to_async(exchange_in(request.META).enter, thread_sensitive=False)(route)
                return await view(request, *args, **kwargs) if may_run else HttpResponse(status=402)

            return cast("F", asynchronous)

        @functools.wraps(view)
        def synchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            scope = getattr(request, "scope", None)
            if scope is not None:
                may_run = async_to_sync(exchange_in(scope).enter)(route)
            else:
                may_run = exchange_in(request.META).enter(route)
            return view(request, *args, **kwargs) if may_run else HttpResponse(status=402)

        return cast("F", synchronous)

    return decorate


__all__ = ["priced"]
