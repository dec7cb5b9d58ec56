"""The five paying clients behind one face, so that a test says once what must hold under each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Self

import micropaywall.client.httpx as paying_httpx
import micropaywall.client.httpx2 as paying_httpx2
import micropaywall.client.requests as paying_requests
from micropaywall.client import Paid, paid

NAMES = ("httpx2", "httpx2-async", "httpx", "httpx-async", "requests")


@dataclass
class Got:
    """An answer, whichever client it came from."""

    status: int
    body: bytes
    headers: Any
    url: str
    paid: Paid | None
    history: int


class Buyer:
    """One client. ``options`` are those of the paying clients; ``timeout`` applies to every request."""

    def __init__(
        self, name: str, *, timeout: float = 10.0, client_options: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.name = name
        self.timeout = timeout
        own = client_options or {}
        if name == "requests":
            self.client: Any = paying_requests.Session(**options)
        else:
            module = paying_httpx2 if name.startswith("httpx2") else paying_httpx
            kind = module.AsyncClient if self.is_async else module.Client
            self.client = kind(timeout=timeout, **own, **options)
        self._runner = asyncio.Runner() if self.is_async else None

    @property
    def is_async(self) -> bool:
        return self.name.endswith("-async")

    def get(self, url: str, **options: Any) -> Got:
        return self.request("GET", url, **options)

    def post(self, url: str, content: Any, **options: Any) -> Got:
        return self.request("POST", url, content=content, **options)

    def request(self, method: str, url: str, *, follow: bool = False, headers: Any = None, content: Any = None) -> Got:
        if self.name == "requests":
            response = self.client.request(
                method, url, headers=headers, data=content, allow_redirects=follow, timeout=self.timeout
            )
            body, status, history = response.content, response.status_code, len(response.history)
            address = response.url
        else:
            if content is not None and self.is_async and isinstance(content, Iterator):
                content = _asynchronous(content)
            call = self.client.request(method, url, headers=headers, content=content, follow_redirects=follow)
            response = self.run(call) if self.is_async else call
            body, status, history = response.content, response.status_code, len(response.history)
            address = str(response.url)
        return Got(status, body, response.headers, address, paid(response), history)

    def stream(self, url: str, take: Callable[[bytes], Any], *, piece: int = 65_536) -> tuple[int, Paid | None]:
        """The body as it comes; requests waits until it has ``piece`` bytes."""
        if self.name == "requests":
            with self.client.get(url, stream=True, timeout=self.timeout) as response:
                for chunk in response.iter_content(piece):
                    take(chunk)
                return response.status_code, paid(response)
        if self.is_async:

            async def read() -> tuple[int, Paid | None]:
                async with self.client.stream("GET", url) as response:
                    async for chunk in response.aiter_bytes():
                        take(chunk)
                    return response.status_code, paid(response)

            found: tuple[int, Paid | None] = self.run(read())
            return found
        with self.client.stream("GET", url) as response:
            for chunk in response.iter_bytes():
                take(chunk)
            return response.status_code, paid(response)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._runner is not None
        return self._runner.run(work)

    @property
    def store(self) -> Any:
        return self.client.payer.store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._runner is not None:
            self._runner.run(self.client.aclose())
            self._runner.close()
        else:
            self.client.close()


async def _asynchronous(parts: Iterator[bytes]) -> Any:
    for part in parts:
        yield part
