"""The settings together with where each value came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from micropaywall.settings.model import Settings

__all__ = ["DEFAULT", "Loaded", "Origin", "place", "value_at"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from; ``detail`` is the file, the variable or the flag."""

    kind: Literal["default", "file", "environment", "flag"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}" if self.detail else self.kind


DEFAULT: Final = Origin("default")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, the file they were read from (None: there is none) and the origin of every value that was given.

    ``expanded`` holds the keys whose text in the file named a variable of the environment.
    """

    settings: Settings
    file: Path | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    expanded: frozenset[str] = frozenset()

    def origin(self, key: str) -> Origin:
        """Where ``key`` (``"server.port"``, ``"seller.routes[0].price"``) came from."""
        return _at_or_inside(self.origins, key) or next(
            (self.origins[outer] for outer in _outer(key) if outer in self.origins), DEFAULT
        )


def place(origins: Mapping[str, Origin], key: str) -> str:
    """``key`` for an error, with the file, variable or flag to look at: its own, or that of what stands nearest."""
    for near in (key, *_outer(key)):
        if found := _at_or_inside(origins, near):
            return f"{found.detail}: {key}"
    return key


def value_at(values: Any, key: str) -> Any:
    """The value at ``key`` in nested tables and lists, or None."""
    for part in re.findall(r"[^.\[\]]+", key):
        try:
            values = values[int(part)] if isinstance(values, list) else values[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return values


def _at_or_inside(origins: Mapping[str, Origin], key: str) -> Origin | None:
    if key in origins:
        return origins[key]
    return next((origin for known, origin in origins.items() if known.startswith((f"{key}.", f"{key}["))), None)


def _outer(key: str) -> list[str]:
    """``a.b[0].c`` is in ``a.b[0]``, in ``a.b``, in ``a``."""
    return [key[: match.start()] for match in reversed(list(re.finditer(r"[.\[]", key)))]
