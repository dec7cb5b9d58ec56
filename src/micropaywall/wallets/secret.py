"""Values that must not be seen: passphrases and secret keys on their way from one place to another."""

from __future__ import annotations

import hmac
from typing import Generic, NoReturn, TypeVar

__all__ = ["Secret"]

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """A string or bytes that no repr, log line, traceback or pickle shows. ``reveal()`` hands it out, by name only.

    Code keeps secrets wrapped until the call that needs them, because error reporters record the local variables of frames.
    """

    __slots__ = ("__value",)

    def __init__(self, value: T) -> None:
        self.__value: T = value

    def reveal(self) -> T:
        """The value itself. Do not bind it to a variable in a frame that can raise."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(<redacted>)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self.__value), _bytes(other.reveal()))

    __hash__ = None  # type: ignore[assignment]  # a hash of a short secret gives it away

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
