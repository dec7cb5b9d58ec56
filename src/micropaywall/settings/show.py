"""Settings laid out for people and programs: every value, where it came from, what it means. Secrets are hidden."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from micropaywall.settings.model import Section, Settings
from micropaywall.settings.origin import Loaded
from micropaywall.settings.secrets import shown

__all__ = ["Line", "lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """One setting as ``config show`` prints it. ``value`` is what JSON can write; ``origin`` as in ``--origin``."""

    key: str
    value: Any
    origin: str


def lines(loaded: Loaded) -> list[Line]:
    """Every setting in the order of the reference; array tables one line an element's field."""
    found: list[Line] = []
    for name in Settings.SECTIONS:
        found += _lines(loaded, name, getattr(loaded.settings, name))
    for name, rail in loaded.settings.rails.items():
        found += _lines(loaded, f"rails.{name}", rail)
    return found


def _lines(loaded: Loaded, key: str, section: Section) -> Iterator[Line]:
    for name in section.__struct_fields__:
        value, path = getattr(section, name), f"{key}.{name}"
        if isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                yield from _lines(loaded, f"{path}[{index}]", item)
            continue
        origin = str(loaded.origin(path))
        if path in loaded.expanded:
            origin += " (with a variable)"
        yield Line(path, shown(path, msgspec.to_builtins(value)), origin)
