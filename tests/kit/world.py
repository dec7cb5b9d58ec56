"""The buyer's flow with every effect in the test's hands: answers come from a list, the store is real."""

# ruff: noqa: N802 - handlers are named after their effects

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from micropaywall.clock import ManualClock
from micropaywall.core import buyer_effects as fx
from micropaywall.core.budget import Budget
from micropaywall.core.buyer import buy
from micropaywall.core.drive import run_sync
from micropaywall.core.policy import Policy
from micropaywall.core.purchase import PurchaseState
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.proto.x402.credential import read_credential
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.rails.exact.types import parse_payload
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN
from micropaywall.spending.store import SpendingStore
from micropaywall.wallets.signer import LocalSigner

URL = "https://api.example.com/resource?api_key=hidden"
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
QUOTE = "A" * 27
SIGNER = LocalSigner(PrivateKey(b"\x07" * 32))
RAIL = ExactBuyer((SANDBOX_TOKEN,))


def offer(amount: int = 1000, pay_to: str = PAYEE, quote: str | None = QUOTE) -> dict[str, Any]:
    extra = {"name": "USDC", "version": "2"} | ({"quote": quote} if quote else {})
    return {
        "scheme": "exact",
        "network": SANDBOX_NETWORK,
        "amount": str(amount),
        "asset": SANDBOX_TOKEN.address_text,
        "payTo": pay_to,
        "maxTimeoutSeconds": 300,
        "extra": extra,
    }


def challenge(*offers: dict[str, Any], **members: Any) -> fx.Answer:
    document = {"x402Version": 2, "resource": {"url": URL}, "accepts": list(offers) or [offer()], **members}
    header = (b"payment-required", base64.b64encode(json.dumps(document).encode()))
    return fx.Answer(402, [header], (URL,), b"")


def answer(status: int, body: Any = b"", headers: Any = (), hops: tuple[str, ...] = (URL,)) -> fx.Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return fx.Answer(status, list(headers), hops, content)


def problem(status: int, code: str, **members: Any) -> fx.Answer:
    return answer(status, {"type": f"https://micropaywall.dev/problems/{code}", "code": code, **members})


LOST = fx.NoAnswer(ConnectionError("reset"))


KINDS: Final = [kind for name in dir(fx) if isinstance(kind := getattr(fx, name), type)]
"""Every type of effect (and a few other types, which nothing asks for)."""


@dataclass
class World:
    """Handlers for all effects: answers come from a list, the store is real, what was asked for is written down."""

    store: SpendingStore
    clock: ManualClock
    answers: list[Any] = field(default_factory=list)
    status: tuple[int, bytes | None] | None = None
    policy: Policy = field(default_factory=Policy)
    budget: Budget | None = field(default_factory=lambda: Budget.parse("$1 a day"))
    approve: Callable[[fx.ApprovalRequest], bool] | None = None
    asked: list[str] = field(default_factory=list)
    sent: list[fx.Send] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    fail: dict[str, BaseException] = field(default_factory=dict)
    body: bytes = b""

    def perform(self, effect: Any) -> Any:
        name = type(effect).__name__
        self.asked.append(name + ("+" if name == "Send" and effect.credential else ""))
        if name in self.fail:
            raise self.fail.pop(name)
        return getattr(self, f"do_{name}")(effect)

    def do_OpenWallet(self, _: Any) -> fx.Buyer:
        return fx.Buyer(
            self.policy, self.budget, "default", SIGNER.address, self.approve is not None, RAIL.can_pay, RAIL.asset_of
        )

    def do_Send(self, effect: fx.Send) -> Any:
        self.sent.append(effect)
        return self.answers.pop(0)

    def do_Peek(self, effect: fx.Peek) -> Any:
        body = effect.answer.handle
        return body if isinstance(body, bytes) and len(body) <= effect.limit else None

    def do_KeepBody(self, _: Any) -> bytes:
        return hashlib.sha256(self.body).digest()

    def do_AskStatus(self, effect: fx.AskStatus) -> Any:
        self.status_url = effect.url
        return self.status

    def do_Wait(self, effect: fx.Wait) -> None:
        self.waits.append(effect.seconds)
        self.clock.advance(effect.seconds)

    def do_Now(self, _: Any) -> int:
        return self.clock.now_ms()

    def do_Entropy(self, effect: fx.Entropy) -> bytes:
        return secrets.token_bytes(effect.count)

    def do_KnowHost(self, effect: fx.KnowHost) -> Any:
        return self.store.known(effect.authority)

    def do_FindCall(self, effect: fx.FindCall) -> Any:
        return self.store.find_call(effect.agent, effect.call_key)

    def do_Reserve(self, effect: fx.Reserve) -> Any:
        return self.store.reserve(effect.draft, effect.budget)

    def do_Approve(self, effect: fx.Approve) -> bool:
        assert self.approve is not None
        return self.approve(effect.request)

    def do_Sign(self, effect: fx.Sign) -> fx.Signed:
        payload = RAIL.authorize(effect.offer, signer=SIGNER, now_s=effect.now_s, nonce=effect.nonce)
        return fx.Signed(payload, *RAIL.identify(effect.offer, payload))

    def do_Journal(self, effect: fx.Journal) -> Any:
        return self.store.journal(effect.row, effect.key, effect.credential, effect.valid_before_s)

    def do_Record(self, e: fx.Record) -> Any:
        return self.store.record(e.row, e.event, e.moved, e.reason, e.status, e.transaction)

    def run(self, call: fx.Call | None = None) -> fx.Bought:
        return run_sync(buy(call or fx.Call("GET", URL)), dict.fromkeys(KINDS, self.perform))

    @property
    def states(self) -> list[str]:
        return [row.state.value for row in self.store.payments(states=list(PurchaseState))]

    @property
    def shown(self) -> list[Any]:
        """The authorizations that were sent, decoded."""
        found = []
        for effect in self.sent:
            if effect.credential is not None:
                name, value = effect.credential.name.lower().encode(), effect.credential.value.encode()
                credential = read_credential([(name, value)])
                assert credential is not None
                found.append(parse_payload(credential.payload)[0])
        return found
