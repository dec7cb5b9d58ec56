"""Mutations that keep an input readable for longer: JSON stays JSON, base64 stays base64, one member changes at a time."""

from __future__ import annotations

import base64
import copy
import json
import random
from typing import Any

from tests.fuzz import kinds

_RAW = (kinds.SIGNATURE_RAW, kinds.PAYMENT_RAW)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    2,
    2**63,
    2**64,
    1e300,
    "",
    "0",
    "00",
    "1",
    "-1",
    "10000",
    "9999",
    "1800000300",
    str(2**256 - 1),
    str(2**256),
    "9" * 78,
    "9" * 79,
    "１",
    "0x",
    "0x" + "00" * 20,
    "0x" + "01" * 32,
    "0x" + "ff" * 65,
    "0X" + "01" * 32,
    "0x" + " 1" * 32,
    "exact",
    "eip155:4020402",
    "eip155:84532",
    "base-sepolia",
    "permit2",
    "x" * 300,
    "\x00",
    "\U0001f4b8",
    [],
    {},
    [[]],
    {"": {}},
)


def mutate(data: bytes, size_max: int, seed: int) -> bytes:
    """One structural change of ``data``, chosen by ``seed``; at most ``size_max`` bytes."""
    chance = random.Random(seed)
    kind, rest = data[:1] or b"\x01", data[1:]
    raw = kind[0] % kinds.COUNT in _RAW
    try:
        text = base64.b64decode(rest, validate=True) if raw else rest
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return bytes([chance.randrange(256)]) + rest[: size_max - 1]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        tree = _change(tree, chance)
    if chance.random() < 0.05:
        kind = bytes([chance.randrange(kinds.COUNT)])
    text = json.dumps(tree, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return (kind + (base64.b64encode(text) if raw else text))[:size_max]


def _change(tree: Any, chance: random.Random) -> Any:
    """``tree`` with one node replaced, removed, doubled, wrapped or edited."""
    if not isinstance(tree, (dict, list)) or not tree or chance.random() < 0.1:
        return _edit(tree, chance)
    key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
    if isinstance(tree[key], (dict, list)) and chance.random() < 0.8:
        tree[key] = _change(tree[key], chance)
        return tree
    what = chance.randrange(6)
    if what == 0:
        del tree[key]
    elif what == 1:
        tree[key] = copy.deepcopy(chance.choice(_VALUES))
    elif what == 2 and isinstance(tree, dict):
        other = chance.choice(list(tree))
        tree[other] = tree.pop(key)
    elif what == 3 and isinstance(tree, list):
        tree.extend([tree[key]] * chance.randrange(1, 70))
    elif what == 4:
        tree[key] = [tree[key]] if chance.random() < 0.5 else {str(key): tree[key]}
    else:
        tree[key] = _edit(tree[key], chance)
    return tree


def _edit(value: Any, chance: random.Random) -> Any:
    """A near neighbour of ``value``."""
    if isinstance(value, str) and value:
        at = chance.randrange(len(value))
        what = chance.randrange(5)
        if what == 0:
            return value[:at] + value[at + 1 :]
        if what == 1:
            return value[:at] + chance.choice("0123456789abcdefxX -+.\u0661") + value[at + 1 :]
        if what == 2:
            return value.swapcase()
        if what == 3:
            return value * 2
        return value[:at] + chr(chance.choice((0, 9, 34, 92, 0x7F, 0xDC00, 0x2028))) + value[at:]
    if isinstance(value, int) and not isinstance(value, bool):
        return value + chance.choice((-1, 1, 2**32, -(2**40)))
    return copy.deepcopy(chance.choice(_VALUES))
