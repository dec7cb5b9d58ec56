"""The sandbox network of another process or machine: `chain.Network` over HTTP, on the standard library's client.

One connection, used by one thread at a time. An answer that does not come, or cannot be read, is Unavailable: the call may have
had its effect. Calls that may be repeated are repeated once when a kept connection turns out to be closed.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from micropaywall import limits
from micropaywall.errors import RailError, Unavailable
from micropaywall.rails.exact.types import Instruction
from micropaywall.sandbox.chain import (
    AuthorizationState,
    Block,
    Mined,
    Pending,
    Receipt,
    Result,
    Revert,
    Reverted,
    Rules,
)
from micropaywall.sandbox.faults import Fault, FaultState
from micropaywall.sandbox.token import SANDBOX_CHAIN_ID
from micropaywall.sandbox.wire import CALLS, PATH, decode, encode

__all__ = ["RemoteNetwork"]

T = TypeVar("T")


class RemoteNetwork:
    """The chain behind ``url`` (`server.SandboxServer`). Nothing is sent before the first call."""

    def __init__(self, url: str, *, timeout_s: float = limits.SANDBOX_ANSWER_S) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if (
            host is None
            or parts.scheme not in ("http", "https")
            or parts.query
            or parts.fragment
            or "@" in parts.netloc
        ):
            raise RailError("that is no URL of a sandbox server", expected="http://127.0.0.1:4020", received=url)
        self.url = url
        self._path = parts.path.rstrip("/") + PATH
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=timeout_s)
        self._lock = threading.Lock()

    # -- the port -----------------------------------------------------------------------------------------------------

    def rules(self) -> Rules:
        rules: Rules = self._call("rules")
        return rules

    def configure(self, rules: Rules) -> None:
        self._call("configure", rules=rules)

    def head(self) -> Block:
        block: Block = self._call("head")
        return block

    def balances(self, addresses: Sequence[bytes]) -> list[int]:
        balances: list[int] = self._call("balances", addresses=list(addresses))
        return _as_many(balances, addresses)

    def authorization_state(self, authorizer: bytes, nonce: bytes) -> AuthorizationState:
        state: AuthorizationState = self._call("authorization_state", authorizer=authorizer, nonce=nonce)
        return state

    def verify(self, transfers: Sequence[Instruction]) -> list[Revert | None]:
        verdicts: list[Revert | None] = self._call("verify", transfers=list(transfers))
        return _as_many(verdicts, transfers)

    def submit(self, transfers: Sequence[Instruction], *, delay_blocks: int = 0) -> list[Mined | Pending | Reverted]:
        results = self._call("submit", transfers=list(transfers), delay_blocks=delay_blocks)
        return _as_many(results, transfers)

    def lookup(self, transfers: Sequence[Instruction]) -> list[Result]:
        results: list[Result] = self._call("lookup", transfers=list(transfers))
        return _as_many(results, transfers)

    def cancel(
        self, authorizer: bytes, nonce: bytes, signature: bytes, *, chain_id: int = SANDBOX_CHAIN_ID
    ) -> Revert | None:
        revert: Revert | None = self._call(
            "cancel", authorizer=authorizer, nonce=nonce, signature=signature, chain_id=chain_id
        )
        return revert

    def transfer(self, sender: bytes, recipient: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        result: Mined | Reverted = self._call("transfer", sender=sender, recipient=recipient, value=value, key=key)
        return result

    def fund(self, address: bytes, value: int, *, key: bytes) -> Mined | Reverted:
        result: Mined | Reverted = self._call("fund", address=address, value=value, key=key)
        return result

    def revoke(self, authorizer: bytes, nonce: bytes) -> Revert | None:
        revert: Revert | None = self._call("revoke", authorizer=authorizer, nonce=nonce)
        return revert

    def mine(self, blocks: int = 1) -> Block:
        block: Block = self._call("mine", blocks=blocks)
        return block

    def reorganise(
        self,
        depth: int = 1,
        *,
        drop: Literal["all"] | Collection[bytes] = "all",
        again: Literal["at_once", "later"] = "at_once",
    ) -> Block:
        block: Block = self._call("reorganise", depth=depth, drop=drop if drop == "all" else list(drop), again=again)
        return block

    def receipt(self, transaction: bytes) -> Receipt | None:
        receipt: Receipt | None = self._call("receipt", transaction=transaction)
        return receipt

    def logs(
        self, first_block: int, last_block: int, *, address: bytes | None = None, limit: int = limits.SANDBOX_LOGS_MAX
    ) -> list[Receipt]:
        receipts: list[Receipt] = self._call(
            "logs", first_block=first_block, last_block=last_block, address=address, limit=limit
        )
        return receipts

    def add_faults(self, key: bytes, faults: Sequence[Fault]) -> None:
        self._call("add_faults", key=key, faults=list(faults))

    def fault_states(self, keys: Sequence[bytes]) -> list[Sequence[FaultState]]:
        states: list[Sequence[FaultState]] = self._call("fault_states", keys=list(keys))
        return _as_many(states, keys)

    def strike(self, key: bytes, fault: Fault) -> int:
        count: int = self._call("strike", key=key, fault=fault)
        return count

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def _call(self, name: str, **arguments: object) -> Any:
        call = CALLS[name]
        body = json.dumps({key: encode(value) for key, value in arguments.items()}).encode()
        with self._lock:
            kept = self._connection.sock is not None
            try:
                status, answer = self._send(name, body)
            except (ConnectionError, http.client.BadStatusLine) as error:
                if not (kept and call.repeatable):
                    raise self._unavailable(error) from error
                status, answer = self._send_again(name, body)
            except (OSError, http.client.HTTPException) as error:
                raise self._unavailable(error) from error
        try:
            document = json.loads(answer)
        except (ValueError, RecursionError) as error:
            raise self._unavailable(error) from error
        if status != 200 or not isinstance(document, dict) or "answer" not in document:
            raise self._refused(status, document)
        try:
            return decode(call.answer, document["answer"])
        except RailError as error:
            raise self._unavailable(error) from error

    def _send(self, name: str, body: bytes) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", self._path + name, body, {"content-type": "application/json"})
            response = self._connection.getresponse()
            answer = response.read(limits.SANDBOX_ANSWER_BYTES_MAX + 1)
            if len(answer) > limits.SANDBOX_ANSWER_BYTES_MAX:
                raise http.client.HTTPException("an answer without end")
        except BaseException:
            self._connection.close()
            raise
        return response.status, answer

    def _send_again(self, name: str, body: bytes) -> tuple[int, bytes]:
        try:
            return self._send(name, body)
        except (OSError, http.client.HTTPException) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the sandbox network gave no answer that can be read ({type(error).__name__})", received=self.url
        )

    def _refused(self, status: int, document: object) -> RailError | Unavailable:
        detail = document.get("detail") if isinstance(document, dict) else None
        if 400 <= status < 500 and isinstance(detail, str):
            return RailError(f"the sandbox network refuses the call: {detail[:500]}", received=self.url)
        return Unavailable(f"the sandbox network answered {status}", received=self.url)


def _as_many(results: list[T], asked: Sequence[object]) -> list[T]:
    if len(results) != len(asked):
        raise Unavailable("the sandbox network answered another number of questions than it was asked")
    return results
