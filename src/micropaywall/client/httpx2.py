"""`httpx2` clients that pay. See `micropaywall.client.httpx_clients` for what they do; every option of httpx2 is theirs."""

from __future__ import annotations

import httpcore2
import httpx2

from micropaywall.client.httpx_clients import PayingAsyncClient, PayingClient
from micropaywall.client.httpx_streams import Api
from micropaywall.client.payer import Paid, paid

__all__ = ["AsyncClient", "Client", "Paid", "paid"]

_API = Api(httpx2, httpcore2)


class Client(PayingClient, httpx2.Client):
    """An `httpx2.Client` that pays for what costs something."""

    _api = _API


class AsyncClient(PayingAsyncClient, httpx2.AsyncClient):
    """An `httpx2.AsyncClient` that pays for what costs something."""

    _api = _API
