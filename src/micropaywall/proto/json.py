"""JSON within bounds: read what strangers send without recursion or surprise, write what peers accept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from micropaywall.limits import CREDENTIAL_JSON_DEPTH_MAX

__all__ = ["NotReadable", "encode_json", "nesting", "read_json", "without_nulls"]

T = TypeVar("T")

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A JSON string, or what begins like one. Possessive, so that an unclosed quote is scanned once."""
_BRACKET: Final = re.compile(rb"[\[\]{}]")

_encoder: Final = msgspec.json.Encoder(decimal_format="number")


class NotReadable(ValueError):
    """The bytes are not what they claim; ``str()`` says why in a sentence that quotes none of them."""


def encode_json(value: object) -> bytes:
    """``value`` (JSON-able, or a wire struct) as compact UTF-8 JSON. A Decimal is a number with all its digits."""
    return _encoder.encode(value)


def nesting(text: bytes) -> int:
    """How deep the arrays and objects of a JSON text nest, counted without parsing it; linear in its length."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", text)):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def read_json(text: bytes, decoder: msgspec.json.Decoder[T], *, depth: int = CREDENTIAL_JSON_DEPTH_MAX) -> T:
    """``text`` parsed once by ``decoder``; NotReadable when it nests deeper than ``depth`` or is something else."""
    if text.count(b"{") + text.count(b"[") > depth and nesting(text) > depth:
        raise NotReadable(f"its JSON nests deeper than {depth} levels")
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        raise NotReadable(f"its JSON has another shape: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotReadable("it is not JSON in UTF-8") from None


def without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """``members`` without those that are None, at any depth of objects: peers read null as absent, and we send none."""
    return {key: _without_nulls(value) for key, value in members.items() if value is not None}


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return without_nulls(value)
    if isinstance(value, (list, tuple)):
        return [_without_nulls(item) for item in value if item is not None]
    return value
