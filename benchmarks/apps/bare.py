"""The bare app: Starlette with one JSON route. The other attributes are its controls."""

from __future__ import annotations

import os
from time import perf_counter_ns

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def resource(request: Request) -> JSONResponse:
    return JSONResponse({"data": "what was paid for", "number": 42})


app = Starlette(routes=[Route("/api/resource", resource), Route("/free", resource)])

_SPIN_NS = int(float(os.environ.get("BENCH_SPIN_US", "0")) * 1000)


async def burn(scope, receive, send):
    """The bare app after spinning for BENCH_SPIN_US: what HTTP costs when the server is busy with something else."""
    if scope["type"] == "http":
        until = perf_counter_ns() + _SPIN_NS
        while perf_counter_ns() < until:
            pass
    await app(scope, receive, send)


_HEADERS = [
    (name.encode(), value.encode())
    for name, value in (line.split(": ", 1) for line in os.environ.get("BENCH_402_HEADERS", "").split("\n") if line)
]
_BODY = os.environ.get("BENCH_402_BODY", "{}").encode()
_START = {"type": "http.response.start", "status": 402, "headers": _HEADERS}
_END = {"type": "http.response.body", "body": _BODY}


async def constant(scope, receive, send):
    """A 402 of given headers and body, sent without looking at the request: the floor of any 402."""
    if scope["type"] == "http":
        await send(_START)
        await send(_END)
    elif scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
