"""A small market in one process: buyers with budgets, a seller, the sandbox network, and faults between all of them.

Everything is the real thing but the wires: the buyers' flow and store, the seller's flow over ASGI, settlement and its worker,
the network with its faults. The seller's book is the engine and the reference ledger side by side, which must agree on every
command. Chance and time come from one seed and one clock.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.kit.call import Response as Answered
from tests.kit.call import call
from tests.kit.ledger_twins import Twins, check_invariants

from micropaywall import Paywall
from micropaywall.client.payer import Payer
from micropaywall.clock import ManualClock
from micropaywall.core import book
from micropaywall.core import buyer_effects as fx
from micropaywall.core.buyer import buy
from micropaywall.core.delivery import enquire
from micropaywall.core.drive import run_async
from micropaywall.core.lives import PaymentState
from micropaywall.core.purchase import PurchaseRow, PurchaseState, counts
from micropaywall.crypto.address import parse_address
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import BuyerError, IdempotencyConflict, LedgerError
from micropaywall.ledger.memory import MemoryLedger
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.rail import open_network
from micropaywall.settlement.worker import SettlementWorker
from micropaywall.wallets.signer import LocalSigner

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
ORIGIN = "http://127.0.0.1:3000"
START_BALANCE = 1_000_000_000
FAULTS = (
    "settle_answer_lost_before",
    "settle_answer_lost_after",
    "truncated_answer",
    "flapping=2",
    "reorganisation",
    "insufficient_funds",
    "rejected",
    "duplicate_success",
    "false_success",
)
UNPAID = ("insufficient_funds", "rejected")
ENDED = {PaymentState.FINAL, PaymentState.SETTLED, PaymentState.FAILED, PaymentState.VOID, PaymentState.REFUNDED}


class TwinLedger(MemoryLedger):
    """The port over the engine and the reference at once; any difference raises AssertionError."""

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins()
        self.state = self.twins.state

    async def apply(self, command: book.Command) -> book.Answer:
        answer = self.twins.apply(command)[0]
        if isinstance(answer, LedgerError):
            raise answer
        found: book.Answer = answer
        return found

    async def lease_work(self, **more: Any) -> book.Work:
        return self.twins.lease_work(**more)


class Market:
    """One seller, some buyers, and a seed."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.ledger = TwinLedger()
        self.done: Counter[str] = Counter()
        """How often the handler finished for a payment id."""
        self.seen: Counter[str] = Counter()
        self.paywall = Paywall(
            {
                f"GET /{mode}": {"price": "$0.001", "settle": mode, "exposure_atomic": 50_000}
                for mode in ("before", "after", "deferred")
            }
            | {"GET /stream": "$0.002", "GET /moody": "$0.003"},
            pay_to=PAYEE,
            ledger=self.ledger,
            clock=self.clock,
            background=False,
            settle_timeout_s=5,
            rail_options={"sandbox": {"store": str(directory / "sandbox.db")}},
        )
        routes = [Route(f"/{name}", self.handler) for name in ("before", "after", "deferred", "stream", "moody")]
        self.app = self.paywall.asgi(Starlette(routes=routes))
        self.directory = directory
        self.buyers: list[Payer] = []
        self.addresses: list[bytes] = []
        self.steps = 0

    # -- the seller --------------------------------------------------------------------------------------------------

    async def handler(self, request: Request) -> Response:
        payment = request.scope["micropaywall.payment"]["paymentId"]
        if request.url.path == "/moody" and self.random.random() < 0.4:
            if self.random.random() < 0.5:
                return PlainTextResponse("not now", status_code=503)
            raise ValueError("a handler's own fault")
        self.done[payment] += 1
        if request.url.path == "/stream":
            return StreamingResponse(iter([b"a", b"b", b"c"]), media_type="text/event-stream")
        return PlainTextResponse(f"served {payment}")

    async def settle(self) -> None:
        """Let the background work once, a little later."""
        self.clock.advance(self.random.choice((1, 3, 10)))
        places = {(rail.seller.name, rail.seller.network): rail.settlement for rail in self.paywall.rails}
        worker = SettlementWorker(
            self.ledger, places, clock=self.clock, owner=self.paywall.owner, jitter=self.random.random
        )
        await worker.tick()

    # -- the wires ---------------------------------------------------------------------------------------------------

    async def ask(self, path: str, credential: Any, *, lossy: bool, fault: str) -> Answered | None:
        """One request over a wire that may lose it, or its answer."""
        lines = [(b"sandbox-fault", fault.encode())] if fault and credential else []
        if credential is not None:
            lines.append((credential.name.lower().encode(), credential.value.encode()))
        if lossy and self.random.random() < 0.15:
            return None
        try:
            answer = await call(self.app, "GET", path, headers=lines, host=b"127.0.0.1:3000")
        except ValueError:
            answer = Answered(status=500, complete=True)
        return None if lossy and self.random.random() < 0.15 else answer

    async def buy(self, payer: Payer, path: str, *, fault: str = "", key: str = "", lossy: bool = True) -> str:
        """One logical call of a buyer; what came of it."""
        url = ORIGIN + path

        async def send(effect: fx.Send) -> fx.Answer | fx.NoAnswer:
            answer = await self.ask(path, effect.credential, lossy=lossy, fault=fault)
            if answer is None:
                return fx.NoAnswer(ConnectionError("the wire was cut"))
            return fx.Answer(answer.status, answer.headers, (url,), answer)

        async def peek(effect: fx.Peek) -> bytes | None:
            handle = effect.answer.handle
            assert isinstance(handle, Answered)
            return handle.body if len(handle.body) <= effect.limit else None

        try:
            bought = await run_async(buy(payer.call("GET", url, key or None)), self._handlers(payer, send, peek, lossy))
        except (BuyerError, IdempotencyConflict) as error:
            return error.code
        except ConnectionError:
            return "nothing sent"
        return str(bought.answer.status)

    def _handlers(self, payer: Payer, send: Any, peek: Any, lossy: bool) -> dict[Any, Any]:
        async def keep_body(effect: fx.KeepBody) -> bytes:
            return bytes(32)

        async def ask_status(effect: fx.AskStatus) -> tuple[int, bytes | None] | None:
            path = effect.url.removeprefix(ORIGIN)
            answer = await self.ask(path, effect.credential, lossy=lossy, fault="")
            return None if answer is None else (answer.status, answer.body)

        async def wait(effect: fx.Wait) -> None:
            self.clock.advance(effect.seconds)
            if self.random.random() < 0.5:
                await self.settle()

        def direct(handler: Any) -> Any:
            async def run(effect: Any) -> Any:
                return handler(effect)

            return run

        chance = {fx.Entropy: lambda effect: self.random.randbytes(effect.count)}
        return {
            **{kind: direct(handler) for kind, handler in (payer.handlers() | chance).items()},
            fx.Send: send,
            fx.Peek: peek,
            fx.KeepBody: keep_body,
            fx.AskStatus: ask_status,
            fx.Approve: payer.approve_async,
            fx.Wait: wait,
        }

    # -- a life ------------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        """One thing happens. Now and then somebody new comes, since payers who did not pay are suspended."""
        if self.steps % 40 == 0:
            self.newcomer()
        self.steps += 1
        choice = self.random.random()
        payer = self.random.choice(self.buyers[-3:])
        path = self.random.choice(("/before", "/after", "/deferred", "/stream", "/moody"))
        fault = self.random.choice(FAULTS) if self.random.random() < 0.25 else ""
        if path == "/deferred" and fault in UNPAID and self.random.random() < 0.9:
            fault = ""  # it suspends the payer, who then buys no more
        if choice < 0.70:
            self.seen[await self.buy(payer, path, fault=fault)] += 1
        elif choice < 0.80:
            key = f"call-{self.random.randrange(20)}"
            several = (self.buy(payer, path, fault=fault, key=key) for _ in range(3))
            self.seen.update(await asyncio.gather(*several))
        elif choice < 0.90:
            await self.settle()
        elif choice < 0.95:
            await self.refund()
        else:
            self.clock.advance(self.random.choice((5, 60, 400)))

    def newcomer(self) -> None:
        """One more buyer, with a wallet, a budget and a book of its own."""
        key = PrivateKey(self.random.randbytes(32))
        home = self.directory / str(len(self.buyers))
        wallet = LocalSigner(key)
        self.buyers.append(Payer(wallet=wallet, budget="$0.01 each, $2 a day", home=home, clock=self.clock))
        self.addresses.append(key.address_bytes)

    async def refund(self) -> None:
        rows = [p.row() for p in self.ledger.state.payments.values()]
        rows = [row for row in rows if row.state in (PaymentState.SETTLED, PaymentState.FINAL)]
        if rows:
            row = self.random.choice(rows)
            now_ms = self.clock.now_ms()
            await self.ledger.apply(
                book.BeginRefund(
                    refund_id=self.random.randbytes(16),  # type: ignore[arg-type]
                    payment_id=row.id,
                    amount=self.random.randint(1, row.amount),
                    reason="goodwill",
                    owner=self.paywall.owner,
                    now_ms=now_ms,
                    lease_until_ms=now_ms,
                )
            ) if row.refunded == 0 else None

    async def come_to_rest(self) -> None:
        """No more faults and losses: everything that is open is closed by those whose task it is."""
        for _ in range(200):
            self.clock.advance(30)
            await self.settle()
            if all(p.state in ENDED for p in self.ledger.state.payments.values()):
                break
        self.clock.advance(86_400)
        for payer in self.buyers:
            for row in payer.store.open_payments():
                await self.enquire(payer, row)

    async def enquire(self, payer: Payer, row: PurchaseRow) -> PurchaseRow:
        return await run_async(enquire(row), self._handlers(payer, None, None, lossy=False))

    def network(self) -> SandboxNetwork:
        network = open_network(self.paywall.rails[0].settlement.network.path)  # type: ignore[attr-defined]
        assert isinstance(network, SandboxNetwork)
        return network

    def check(self) -> None:
        """What must be true of a market at rest."""
        state = self.ledger.state
        check_invariants(state)
        self.ledger.twins.compare()
        rows = [p.row() for p in state.payments.values()]
        open_ = [row for row in rows if row.state not in ENDED]
        assert not open_, open_
        network = self.paywall.rails[0].settlement.network  # type: ignore[attr-defined]
        balances = network.balances([parse_address(PAYEE), *self.addresses])
        moved = [balance - START_BALANCE for balance in balances]
        kept = sum(row.amount - row.refunded for row in rows if row.state in (PaymentState.SETTLED, PaymentState.FINAL))
        kept += sum(row.amount - row.refunded for row in rows if row.state is PaymentState.REFUNDED)
        assert moved[0] == kept, "the seller's book and the network disagree"
        assert sum(moved) == 0, "money was made or lost"
        for row in rows:
            captured = [c for c in state.charges.values() if c.payment_id == row.id and c.state.value == "captured"]
            assert len(captured) <= 1, "one payment was delivered for twice"
        by_key = {row.key: row for row in rows}
        for payer, paid in zip(self.buyers, moved[1:], strict=True):
            purchases = list(payer.store.payments())
            counted = [p for p in purchases if counts(p.state, p.money_moved)]
            refunded = sum(by_key[p.key].refunded for p in purchases if p.key in by_key)
            assert -paid + refunded <= sum(p.price.amount_atomic for p in counted), "money moved that no budget counts"
            for purchase in purchases:
                if purchase.state is PurchaseState.SERVED:
                    assert purchase.key in by_key, "the buyer was served, and the seller does not know of it"


def seed_from(text: str | None) -> int:
    """The seed of a run: given, or fresh."""
    return int(text) if text else secrets.randbelow(2**32)
