"""`httpx` clients that pay. See `micropaywall.client.httpx_clients` for what they do; every option of httpx is theirs."""

from __future__ import annotations

import httpcore
import httpx

from micropaywall.client.httpx_clients import PayingAsyncClient, PayingClient
from micropaywall.client.httpx_streams import Api
from micropaywall.client.payer import Paid, paid

__all__ = ["AsyncClient", "Client", "Paid", "paid"]

_API = Api(httpx, httpcore)


class Client(PayingClient, httpx.Client):
    """An `httpx.Client` that pays for what costs something."""

    _api = _API


class AsyncClient(PayingAsyncClient, httpx.AsyncClient):
    """An `httpx.AsyncClient` that pays for what costs something."""

    _api = _API
