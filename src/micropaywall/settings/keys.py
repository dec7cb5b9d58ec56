"""Which keys are settings, and of which type: read off the structs of `model`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec.inspect as inspect

from micropaywall.errors import ConfigurationError, RailError
from micropaywall.settings.model import RAIL_SETTINGS, Section, Settings
from micropaywall.settings.origin import Origin, place

__all__ = ["check_key", "check_keys", "choices", "did_you_mean", "is_list"]


def check_keys(tree: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
    """Refuse what is no setting, at any depth; raises ConfigurationError, RailError inside `rails`."""
    for name, table in tree.items():
        if name != "rails" and name not in Settings.SECTIONS:
            raise _unknown(name, [*Settings.SECTIONS, "rails"], origins)
        if not isinstance(table, dict):
            continue  # a value where a table belongs: the conversion says so
        if name != "rails":
            _check_table(name, table, Settings.SECTIONS[name], origins)
            continue
        for rail, inner in table.items():
            if isinstance(inner, dict) and rail in RAIL_SETTINGS:
                _check_table(f"rails.{rail}", inner, RAIL_SETTINGS[rail], origins)


def check_key(key: str, kind: type[Section], origins: Mapping[str, Origin]) -> None:
    """Refuse ``key`` when ``kind`` has no such setting."""
    if key.rpartition(".")[2] not in kind.__struct_fields__:
        raise _unknown(key, kind.__struct_fields__, origins)


def is_list(key: str) -> bool:
    """Whether the setting ``key`` takes a list."""
    return isinstance(_type_of(key), inspect.VarTupleType)


def choices(key: str) -> list[str]:
    """The values that the setting ``key`` may have, when they are few."""
    found = _type_of(key)
    kinds = found.types if isinstance(found, inspect.UnionType) else (found,)
    return [str(value) or '""' for kind in kinds if isinstance(kind, inspect.LiteralType) for value in kind.values]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint when ``name`` looks like a slip for one of ``known``."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else None


def _check_table(key: str, table: Mapping[str, Any], kind: type[Section], origins: Mapping[str, Origin]) -> None:
    for name, value in table.items():
        check_key(f"{key}.{name}", kind, origins)
        inner = _element(kind, name)
        if inner is not None and isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    _check_table(f"{key}.{name}[{index}]", item, inner, origins)


def _unknown(key: str, known: Iterable[str], origins: Mapping[str, Origin]) -> ConfigurationError:
    name = key.rpartition(".")[2]
    error = RailError if key.startswith("rails.") else ConfigurationError
    return error(
        f"{place(origins, key)}: there is no such setting",
        expected=sorted(known),
        received=name,
        hint=did_you_mean(name, known),
    )


def _type_of(key: str) -> inspect.Type | None:
    section, *middle, name = re.sub(r"\[\d+\]", "", key).split(".") if "." in key else (key, "")
    kind: type[Section] | None
    if section == "rails":
        kind = RAIL_SETTINGS.get(middle[0]) if middle else None
    else:
        kind = Settings.SECTIONS.get(section)
        kind = _element(kind, middle[0]) if kind is not None and middle else kind
    return _plain(kind, name) if kind is not None else None


def _element(kind: type[Section], name: str) -> type[Section] | None:
    """The struct of which the setting ``name`` is an array, or None."""
    found = _plain(kind, name)
    item = found.item_type if isinstance(found, inspect.VarTupleType) else None
    return item.cls if isinstance(item, inspect.StructType) and issubclass(item.cls, Section) else None


def _plain(kind: type[Section], name: str) -> inspect.Type | None:
    """The type of a field without its annotations."""
    info = inspect.type_info(kind)
    found = (
        next((f.type for f in info.fields if f.name == name), None) if isinstance(info, inspect.StructType) else None
    )
    while isinstance(found, inspect.Metadata):
        found = found.type
    return found
