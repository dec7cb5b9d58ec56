"""The address guard inside httpcore's connection pools, of either generation (httpcore, httpcore2).

httpx makes its pools itself and has no option for this, so the pool's network backend is wrapped after it was made. A pool
of another shape than expected is refused: a guard that silently is not there would be worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from micropaywall.client.guard import AddressGuard
from micropaywall.errors import ConfigurationError

__all__ = ["guard_transport"]

_BACKEND = "_network_backend"


class _Errors(Protocol):
    """The part of httpcore that is used here."""

    ConnectError: type[Exception]
    ConnectTimeout: type[Exception]
    ConnectionPool: type
    AsyncConnectionPool: type


class _Guarded:
    """What both backends share: resolving and checking."""

    def __init__(self, inner: Any, guard: AddressGuard, errors: _Errors) -> None:
        self._inner = inner
        self._guard = guard
        self._errors = errors

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = list(self._guard.resolver(host, port))
        except OSError as error:
            raise self._errors.ConnectError(str(error)) from error
        return self._guard.checked(host, found)

    def _unreachable(self, host: str, last: Exception | None) -> Exception:
        return last or self._errors.ConnectError(f"{host} has no address")


class _GuardedBackend(_Guarded):
    """A blocking network backend that connects to checked addresses only."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        last: Exception | None = None
        for address in self._addresses(host, port):
            try:
                return self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
                last = error
        raise self._unreachable(host, last)

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        return self._inner.connect_unix_socket(*args, **options)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _GuardedAsyncBackend(_Guarded):
    """The same for asyncio and trio."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        from anyio import to_thread

        last: Exception | None = None
        for address in await to_thread.run_sync(self._addresses, host, port):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (self._errors.ConnectError, self._errors.ConnectTimeout) as error:
                last = error
        raise self._unreachable(host, last)

    async def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        return await self._inner.connect_unix_socket(*args, **options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def guard_transport(transport: object, guard: AddressGuard, httpcore: Any, http_transports: tuple[type, ...]) -> None:
    """Put ``guard`` into a transport of httpx's own kind; ConfigurationError when it has not the expected shape.

    Two kinds are left alone: transports of the program's own (in-process applications, test doubles), which connect to
    what they like, and pools that go through a proxy, where the proxy resolves names and connects.
    """
    if not isinstance(transport, http_transports):
        return
    pool = getattr(transport, "_pool", None)
    errors = cast("_Errors", httpcore)
    make: Callable[[Any, AddressGuard, _Errors], _Guarded]
    if type(pool) is errors.ConnectionPool:
        make = _GuardedBackend
    elif type(pool) is errors.AsyncConnectionPool:
        make = _GuardedAsyncBackend
    elif isinstance(pool, (errors.ConnectionPool, errors.AsyncConnectionPool)):
        return  # a proxy's pool
    else:
        raise _unknown_shape(transport)
    inner = getattr(pool, _BACKEND, None)
    if not callable(getattr(inner, "connect_tcp", None)):
        raise _unknown_shape(transport)
    if not isinstance(inner, _Guarded):
        setattr(pool, _BACKEND, make(inner, guard, errors))


def _unknown_shape(transport: object) -> ConfigurationError:
    return ConfigurationError(
        "the address guard does not fit this version of the HTTP client",
        received=f"{type(transport).__module__}.{type(transport).__qualname__}",
        hint="Install a version of the client that this micropaywall was tested with.",
    )
