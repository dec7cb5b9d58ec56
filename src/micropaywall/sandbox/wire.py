"""The sandbox network over HTTP: the names of its calls, and its values as JSON. Server and client both speak through here.

Bytes are hex, everything else is what JSON has. Whoever decodes checks: a server does not trust its callers, and a client
takes a malformed answer for no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from micropaywall.errors import ConfigurationError, LedgerCorrupt, RailError
from micropaywall.rails.exact.types import Instruction, read_instruction
from micropaywall.sandbox.chain import (
    ABSENT,
    Absent,
    AuthorizationState,
    Block,
    Kind,
    Mined,
    Pending,
    Receipt,
    Result,
    Revert,
    Reverted,
    Rules,
)
from micropaywall.sandbox.faults import Fault, FaultState, parse_fault

__all__ = ["CALLS", "PATH", "Call", "decode", "encode"]

PATH: Final = "/sandbox/1/"
"""A call is ``POST /sandbox/1/<name>`` with an object of arguments; the answer is ``{"answer": …}``, or a problem (RFC 9457)."""


@dataclass(frozen=True, slots=True)
class Call:
    """A method of `chain.Network`: the forms of its arguments and its answer. ``repeatable``: twice has the effect of once."""

    arguments: Mapping[str, str]
    answer: str
    repeatable: bool = True


CALLS: Final[Mapping[str, Call]] = {
    "rules": Call({}, "rules"),
    "configure": Call({"rules": "rules"}, "nothing"),
    "head": Call({}, "block"),
    "balances": Call({"addresses": "address[]"}, "number[]"),
    "authorization_state": Call({"authorizer": "address", "nonce": "word"}, "state"),
    "verify": Call({"transfers": "transfer[]"}, "revert?[]"),
    "submit": Call({"transfers": "transfer[]", "delay_blocks": "number"}, "result[]"),
    "lookup": Call({"transfers": "transfer[]"}, "result[]"),
    "cancel": Call(
        {"authorizer": "address", "nonce": "word", "signature": "bytes", "chain_id": "number"},
        "revert?",
        repeatable=False,
    ),
    "transfer": Call({"sender": "address", "recipient": "address", "value": "number", "key": "word"}, "result"),
    "fund": Call({"address": "address", "value": "number", "key": "word"}, "result"),
    "revoke": Call({"authorizer": "address", "nonce": "word"}, "revert?", repeatable=False),
    "mine": Call({"blocks": "number"}, "block", repeatable=False),
    "reorganise": Call({"depth": "number", "drop": "drop", "again": "text"}, "block", repeatable=False),
    "receipt": Call({"transaction": "word"}, "receipt?"),
    "logs": Call(
        {"first_block": "number", "last_block": "number", "address": "address?", "limit": "number"}, "receipt[]"
    ),
    "add_faults": Call({"key": "word", "faults": "fault[]"}, "nothing"),
    "fault_states": Call({"keys": "word[]"}, "fault_state[][]"),
    "strike": Call({"key": "word", "fault": "fault"}, "number", repeatable=False),
}


def encode(value: object) -> Any:
    """Any argument or answer of a call, as JSON."""
    match value:
        case None | bool() | int() | str():
            return value
        case bytes():
            return value.hex()
        case Instruction():
            return value.encode().decode("ascii")
        case Mined(digest, block, final):
            return {"is": "mined", "hash": digest.hex(), "block": block, "final": final}
        case Pending(digest):
            return {"is": "pending", "hash": digest.hex()}
        case Reverted(why):
            return {"is": "reverted", "why": why.name}
        case Absent():
            return {"is": "absent"}
        case Rules():
            return asdict(value)
        case Block() | Receipt():
            return {name: encode(getattr(value, name)) for name in value.__dataclass_fields__}
        case Revert() | AuthorizationState() | Kind():
            return value.name
        case Fault():
            return str(value)
        case FaultState(fault, struck, asked):
            return {"fault": str(fault), "struck": struck, "asked": asked}
        case list() | tuple() | set() | frozenset():
            return [encode(item) for item in value]
        case _:
            raise TypeError(f"{type(value).__name__} does not travel")


def decode(form: str, value: object) -> Any:
    """A value of the ``form`` that `CALLS` names; RailError for anything else. ``x[]`` is a list of x, ``x?`` x or nothing."""
    try:
        if form.endswith("[]"):
            return [decode(form[:-2], item) for item in _of(list, value)]
        if form.endswith("?"):
            return None if value is None else decode(form[:-1], value)
        return _FORMS[form](value)
    except (KeyError, TypeError, ValueError, LedgerCorrupt, ConfigurationError):
        raise RailError(f"the sandbox network's message holds something that is no {form}") from None


def _of(kind: type, value: object) -> Any:
    if type(value) is not kind:
        raise ValueError
    return value


def _number(value: object) -> int:
    number = _of(int, value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return int(number)


def _bool(value: object) -> bool:
    return bool(_of(bool, value))


def _text(value: object) -> str:
    return str(_of(str, value))


def _bytes(value: object) -> bytes:
    return bytes.fromhex(_text(value))


def _sized(size: int) -> Callable[[object], bytes]:
    def read(value: object) -> bytes:
        raw = _bytes(value)
        if len(raw) != size:
            raise ValueError
        return raw

    return read


_address, _word = _sized(20), _sized(32)


def _transfer(value: object) -> Instruction:
    return read_instruction(_text(value).encode())


def _result(value: object) -> Result:
    members = _of(dict, value)
    match members["is"]:
        case "mined":
            return Mined(_word(members["hash"]), _number(members["block"]), _bool(members["final"]))
        case "pending":
            return Pending(_word(members["hash"]))
        case "reverted":
            return Reverted(_revert(members["why"]))
        case "absent":
            return ABSENT
        case _:
            raise ValueError


def _revert(value: object) -> Revert:
    return Revert[_text(value)]


def _rules(value: object) -> Rules:
    members = _of(dict, value)
    return Rules(
        _number(members["initial_balance"]),
        _bool(members["automine"]),
        _number(members["block_interval_ms"]),
        _number(members["finality_depth"]),
    )


def _block(value: object) -> Block:
    members = _of(dict, value)
    return Block(_number(members["number"]), _word(members["hash"]), _number(members["time_s"]))


def _receipt(value: object) -> Receipt:
    members = _of(dict, value)
    return Receipt(
        hash=_word(members["hash"]),
        kind=Kind[_text(members["kind"])],
        block=_number(members["block"]),
        sender=_address(members["sender"]),
        recipient=_address(members["recipient"]),
        value=_number(members["value"]),
        nonce=_word(members["nonce"]),
        time_s=_number(members["time_s"]),
        reverted=None if members["reverted"] is None else _revert(members["reverted"]),
    )


def _fault(value: object) -> Fault:
    return parse_fault(_text(value))


def _fault_state(value: object) -> FaultState:
    members = _of(dict, value)
    return FaultState(_fault(members["fault"]), _number(members["struck"]), _bool(members["asked"]))


def _drop(value: object) -> str | list[bytes]:
    return "all" if value == "all" else [_word(item) for item in _of(list, value)]


def _nothing(value: object) -> None:
    if value is not None:
        raise ValueError


_FORMS: Final[Mapping[str, Callable[[object], object]]] = {
    "address": _address,
    "block": _block,
    "bytes": _bytes,
    "drop": _drop,
    "fault": _fault,
    "fault_state": _fault_state,
    "nothing": _nothing,
    "number": _number,
    "receipt": _receipt,
    "result": _result,
    "revert": _revert,
    "rules": _rules,
    "state": lambda value: AuthorizationState[_text(value)],
    "text": _text,
    "transfer": _transfer,
    "word": _word,
}
