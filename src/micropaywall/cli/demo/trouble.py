"""The demo's second part: what must not work, and what must go on working."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from micropaywall.cli.demo.scene import HttpReply, Scene, decoded
from micropaywall.client import paid
from micropaywall.core.lives import PaymentState
from micropaywall.core.purchase import PurchaseRow
from micropaywall.errors import BudgetExceeded, PaymentOutcomeUnknown
from micropaywall.ledger.port import Ledger
from micropaywall.ledger.verify import verify
from micropaywall.proto import x402
from micropaywall.proto.headers import encode_header
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.sandbox.token import SANDBOX_TOKEN

__all__ = ["ACTS"]

_PRICE: Final = 1_000
_CRASH_S: Final = 25.0
"""How long the buyer of the crash may take, waits between re-sends included."""


def replay(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("replay", "The same payment is sent again") as step:
        header = _credential(scene.purchases()[0])
        before = scene.balances()
        stage.arrow("→", "GET /api/resource, with the payment of step 3")
        first, second = (scene.ask(scene.resource, header) for _ in range(2))
        stage.arrow("←", f"{first.status}, the stored response")
        stage.check(
            first.status == second.status == 200 and first.body == second.body,
            "an honest retry gets the same answer, byte for byte",
        )
        stage.arrow("→", "GET /, with the payment of step 3")
        elsewhere = scene.ask(scene.seller.url + "/", header)
        _refusal(scene, elsewhere)
        stage.check(elsewhere.status in (402, 409), "for anything else it is refused")
        stage.check(
            scene.moved(before) == (0, 0) and len(scene.records()) == 1,
            "nothing was charged again, nothing delivered again",
        )
        step.facts.update(retry=first.status, elsewhere=elsewhere.status, code=elsewhere.code)


def tamper(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("tampered", "A payment is changed after it was signed") as step:
        before = scene.balances()
        for claim, change in (("a smaller value", _cheaper), ("one bit of the signature flipped", _flipped)):
            stage.arrow("→", f"GET /api/resource, with {claim}")
            reply = scene.ask(scene.resource, _changed(scene, change))
            _refusal(scene, reply)
            step.facts[change.__name__.strip("_")] = {"status": reply.status, "code": reply.code}
            stage.check(
                reply.status == 402 and reply.code in ("offer_mismatch", "signature_invalid"), f"{claim}: refused"
            )
        stage.check(
            scene.moved(before) == (0, 0) and len(scene.records()) == 1,
            "no handler ran, no money moved, no row was written",
        )


def budget(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("budget", "A price above the budget") as step:
        frugal = scene.payer("$0.001 each")
        signed_before, before = len(scene.purchases()), scene.balances()
        stage.arrow("→", "GET /api/stream, which costs $0.002, with a budget of $0.001 each")
        refused: BudgetExceeded | None = None
        try:
            with scene.client(frugal) as client:
                client.get(scene.seller.url + "/api/stream")
        except BudgetExceeded as error:
            refused = error
            stage.pairs([("refused", error.detail), ("expected", str(error.expected)), ("asked", str(error.received))])
        finally:
            frugal.close()
        step.facts.update(code=refused.code if refused else None)
        stage.check(refused is not None, "the buyer's own program refuses")
        stage.check(
            len(scene.purchases()) == signed_before and scene.moved(before) == (0, 0),
            "nothing was signed, so there is nothing to take back",
        )


def crash(scene: Scene) -> None:
    stage, seller = scene.stage, scene.seller
    with stage.step("crash", "The seller is killed in the middle of a payment") as step:
        before, rows_before, signed_before = scene.balances(), len(scene.records()), len(scene.purchases())
        buyer = _Persistent(scene)
        stage.arrow("→", "a payment; the network takes it, and its answer to the seller gets lost")
        buyer.start()
        told = buyer.told_unknown.wait(_CRASH_S)
        pid = seller.pid
        seller.kill()
        stage.arrow("←", "503 outcome unknown: send the same payment again")
        stage.arrow("!", f"kill -9 of the seller, process {pid}")
        state = _state_of_newest(scene)
        stage.check(
            told and state is PaymentState.SETTLING and scene.moved(before) == (_PRICE, _PRICE),
            "it died not knowing: its book says settling, while the money has moved",
        )
        seller.start()
        stage.arrow("→", f"started again as process {seller.pid}; the buyer sends the same payment again")
        buyer.join(_CRASH_S)
        stage.arrow("←", f"{buyer.status or 'no answer'}, after {buyer.attempts} attempts")
        step.facts.update(killed=pid, restarted=seller.pid, status=buyer.status, attempts=buyer.attempts)
        stage.check(buyer.status == 200, "the buyer was served")
        stage.check(
            scene.moved(before) == (_PRICE, _PRICE) and len(scene.purchases()) == signed_before + 1,
            "it paid once: one signature, one transfer",
        )
        delivered = [record for record in scene.records() if record.status == "success"]
        stage.check(len(delivered) == rows_before + 1, "it was delivered once: one charge in the book")


class _Persistent:
    """A buyer in a thread of its own. Its client re-sends by itself; when it gives up, the same request is made again."""

    def __init__(self, scene: Scene) -> None:
        self.told_unknown = threading.Event()
        self.status = 0
        self.attempts = 0
        self._scene = scene
        self._thread = threading.Thread(target=self._buy, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _note(self, response: Any) -> None:
        if response.status_code == 503:
            self.told_unknown.set()

    def _buy(self) -> None:
        payer = self._scene.payer("$0.01 each, $1 a day")
        try:
            with self._scene.client(payer, event_hooks={"response": [self._note]}) as client:
                for _ in range(4):
                    try:
                        response = client.get(
                            self._scene.resource, headers={"Sandbox-Fault": "settle_answer_lost_after"}
                        )
                    except PaymentOutcomeUnknown:
                        continue
                    bought = paid(response)
                    self.status, self.attempts = response.status_code, bought.purchase.attempts if bought else 0
                    return
        finally:
            payer.close()


def proof(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("proof", "The seller's book adds up") as step:
        scene.seller.kill()
        report = verify(scene.home / "ledger.db")
        records = [record for record in scene.records() if record.status == "success"]
        buyer, seller = scene.balances()
        stage.pairs(
            [
                ("deliveries", f"{len(records)}, for 0.001 USDC each"),
                ("the seller has", f"{seller}, of which it started with 1000"),
                ("the buyer has", f"{buyer}"),
            ]
        )
        step.facts.update(deliveries=len(records), buyer=str(buyer), seller=str(seller), head=report.head)
        stage.check(report.ok, "double entry comes to zero, and the hash chain is whole")
        stage.check(
            seller.amount_atomic - 1_000_000_000 == len(records) * _PRICE == 1_000_000_000 - buyer.amount_atomic,
            "what was delivered is what was paid, to the last atomic unit",
        )


ACTS: Final[tuple[Callable[[Scene], None], ...]] = (replay, tamper, budget, crash, proof)


def _credential(row: PurchaseRow) -> dict[str, str]:
    if row.credential is None:
        raise LookupError("a payment that was sent has its credential in the journal")
    return {row.credential.name: row.credential.value}


def _refusal(scene: Scene, reply: HttpReply) -> None:
    scene.stage.arrow("←", f"{reply.status} {reply.code}")


def _changed(scene: Scene, change: Callable[[dict[str, Any]], None]) -> dict[str, str]:
    """A fresh payment, signed as it should be, then changed: what goes out as PAYMENT-SIGNATURE."""
    required = decoded(scene.ask(scene.resource).headers["payment-required"])
    accepted, signer = required["accepts"][0], scene.wallet.open()
    offer = x402.read_challenge(402, ((x402.PAYMENT_REQUIRED, encode_header(required)),), None).offers[0].offer
    payload = ExactBuyer((SANDBOX_TOKEN,)).authorize(
        offer, signer=signer, now_s=int(time.time()), nonce=secrets.token_bytes(32)
    )
    message = {"x402Version": 2, "accepted": accepted, "payload": {**payload}, "resource": required["resource"]}
    change(message["payload"])
    return {"PAYMENT-SIGNATURE": encode_header(message).decode()}


def _cheaper(payload: dict[str, Any]) -> None:
    payload["authorization"] = {**payload["authorization"], "value": "1"}


def _flipped(payload: dict[str, Any]) -> None:
    signature = bytearray.fromhex(payload["signature"][2:])
    signature[10] ^= 1
    payload["signature"] = "0x" + signature.hex()


def _state_of_newest(scene: Scene) -> PaymentState | None:
    """Where the seller's book has the newest payment."""
    row = scene.purchases()[-1]

    async def look(book: Ledger) -> PaymentState | None:
        found = await book.payment(row.key) if row.key else None
        return found.state if found else None

    state: PaymentState | None = scene.in_book(look)
    return state
