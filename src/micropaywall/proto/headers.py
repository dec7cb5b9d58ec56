"""JSON in a header: base64 of UTF-8 JSON.

The order of the guards matters. Length first, then the alphabet, then the nesting, and only then the JSON parser: so a
stranger's header costs time and memory in proportion to its length, never more, and the parser never recurses deeply.
"""

from __future__ import annotations

import binascii

from micropaywall.proto.json import NotReadable, encode_json

__all__ = ["decode_base64", "encode_header"]


def decode_base64(value: bytes, *, limit: int) -> bytes:
    """The bytes behind RFC 4648 standard base64 with padding, at most ``limit`` characters long; NotReadable otherwise."""
    if len(value) > limit:
        raise NotReadable(f"it has {len(value)} bytes, and at most {limit} are read")
    if not value:
        raise NotReadable("it is empty")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        raise NotReadable("it is not base64 in the standard alphabet with padding") from None


def encode_header(value: object) -> bytes:
    """``value`` as base64 of compact JSON, on one line."""
    return binascii.b2a_base64(encode_json(value), newline=False)
