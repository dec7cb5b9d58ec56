"""What the seller answers when the rail, the book or the price function does not do what one hopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.kit.call import call
from tests.kit.payer import Payer, decode, encode

from micropaywall import Paywall
from micropaywall.core.book import Command, PaymentRow, RefundRow, Reserve
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.errors import StoreUnavailable
from micropaywall.ids import key_prefix
from micropaywall.rails.exact.seller import ExactSeller
from micropaywall.rails.port import Rail
from micropaywall.sandbox.token import SANDBOX_TOKEN

pytestmark = pytest.mark.anyio
PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
Answering = Callable[[PaymentRow], Outcome]


class ScriptedSettlement:
    """A network that answers as told, and counts what it was asked. ``moved`` is what really happened."""

    def __init__(self) -> None:
        self.on_settle: Answering = self.transfer
        self.on_status: Answering = self.look
        self.submissions = 0
        self.moved: dict[bytes, str] = {}
        self.answering = asyncio.Event()
        self.answering.set()

    def transfer(self, payment: PaymentRow) -> Outcome:
        """Move the value; a network that answers every repeat with success."""
        self.moved.setdefault(payment.key, f"0x{len(self.moved) + 1:064x}")
        return self.look(payment)

    def look(self, payment: PaymentRow) -> Outcome:
        found = self.moved.get(payment.key)
        return Settled(found, payment.amount) if found else Unknown("not seen", doubt="absent")

    async def settle(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        self.submissions += len(payments)
        await self.answering.wait()
        return [self.on_settle(payment) for payment in payments]

    async def status(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        return [self.on_status(payment) for payment in payments]

    async def refund(self, refund: RefundRow) -> Outcome:
        return Unknown("not here")

    async def close(self) -> None:
        pass


class Shop:
    """A priced endpoint on a scripted network."""

    def __init__(self, tmp_path: Path, *, background: bool = False, price: Any = "$0.001", **route: Any) -> None:
        self.network = ScriptedSettlement()
        self.runs = 0
        self.fail = False
        rail = Rail(ExactSeller(SANDBOX_TOKEN, PAYEE, name="sandbox"), self.network)
        self.paywall = Paywall(
            {"GET /resource": {"price": price, **route}},
            rails=[rail],
            ledger=f"sqlite:///{tmp_path / 'ledger.db'}",
            settle_timeout_s=0.3,
            background=background,
        )
        self.app = self.paywall.asgi(Starlette(routes=[Route("/resource", self.resource)]))

    async def resource(self, request: Request) -> PlainTextResponse:
        self.runs += 1
        return PlainTextResponse("the resource", status_code=500 if self.fail else 200)

    async def get(self, *headers: tuple[bytes, bytes]) -> Any:
        return await call(self.app, "GET", "/resource", headers=headers)

    async def payment(self, answer: Any) -> PaymentRow:
        prefix = key_prefix(answer.header("payment-id") or answer.json["paymentId"])
        row = await self.paywall.ledger.payment(prefix or b"")
        assert row is not None
        return row

    async def __aenter__(self) -> Self:
        await self.paywall.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.paywall.stop()


@pytest.mark.parametrize("happened", [False, True], ids=["before the transfer", "after the transfer"])
@pytest.mark.parametrize("mode", ["before", "after"])
async def test_a_lost_answer_is_unknown_and_the_same_payment_is_served_in_the_end(
    tmp_path: Path, mode: str, happened: bool
) -> None:
    async with Shop(tmp_path, settle=mode, background=True) as shop:
        header = Payer().pay((await shop.get()).required)

        def lose(payment: PaymentRow) -> Outcome:
            if happened:
                shop.network.transfer(payment)
            return Unknown("the answer was lost")

        shop.network.on_settle = lose
        shop.network.on_status = lambda payment: Unknown("still down")
        answer = await shop.get(header)
        assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (503, "outcome_unknown", "unknown")
        assert answer.header("payment-required") is None, "a new price while the outcome is open"
        assert answer.header("retry-after") is not None
        assert "same payment" in answer.json["hint"]
        shop.network.on_settle, shop.network.on_status = shop.network.transfer, shop.network.look
        for _ in range(100):
            answer = await shop.get(header)
            if answer.status == 200:
                break
            assert answer.status in (409, 503)
            assert answer.header("payment-required") is None
            await asyncio.sleep(0.1)
        assert (answer.status, answer.body) == (200, b"the resource")
        assert len(shop.network.moved) == 1
        assert shop.runs == 1


async def test_an_answer_that_comes_too_late_completes_the_payment(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop:
        header = Payer().pay((await shop.get()).required)
        shop.network.answering.clear()
        answer = await shop.get(header)
        assert (answer.status, answer.json["code"]) == (503, "outcome_unknown")
        shop.network.answering.set()
        await asyncio.sleep(0.2)
        again = await shop.get(header)
        assert (again.status, again.body) == (200, b"the resource")
        assert shop.network.submissions == 1
        assert shop.runs == 1


async def test_a_call_that_hangs_is_not_submitted_a_second_time(tmp_path: Path) -> None:
    async with Shop(tmp_path, background=True) as shop:
        header = Payer().pay((await shop.get()).required)
        shop.network.answering.clear()
        assert (await shop.get(header)).status == 503
        await asyncio.sleep(2.5)  # the background looks every second
        shop.network.answering.set()
        await asyncio.sleep(0.2)
        assert (await shop.get(header)).status == 200
        assert shop.network.submissions == 1


@pytest.mark.parametrize("mode", ["before", "after"])
async def test_a_definite_refusal_delivers_nothing_and_charges_nobody(tmp_path: Path, mode: str) -> None:
    async with Shop(tmp_path, settle=mode) as shop:
        header = Payer().pay((await shop.get()).required)
        shop.network.on_settle = lambda payment: Rejected(
            "invalid_exact_evm_insufficient_balance", "the balance is too small"
        )
        answer = await shop.get(header)
        assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (402, "payment_rejected", "no")
        assert b"the resource" not in answer.body
        assert answer.required["accepts"], "a definite refusal may be followed by a new payment"
        assert (await shop.payment(answer)).state is PaymentState.FAILED
        shop.network.on_settle = shop.network.transfer
        assert (await shop.get(header)).json["code"] == "payment_spent"
        assert shop.network.moved == {}


async def test_in_deferred_mode_a_drained_payer_costs_at_most_its_exposure_and_is_suspended(tmp_path: Path) -> None:
    async with Shop(tmp_path, settle="deferred", exposure_atomic=2_000, background=True) as shop:
        payer = Payer()
        shop.network.on_settle = lambda payment: Unknown("slow")
        shop.network.on_status = lambda payment: Unknown("slow")
        served = []
        for _ in range(4):
            answer = await shop.get(payer.pay((await shop.get()).required))
            served.append(answer.status)
        assert served == [200, 200, 429, 429]
        shop.network.on_settle = shop.network.on_status = lambda payment: Rejected("insufficient_funds")
        for _ in range(100):
            answer = await shop.get(payer.pay((await shop.get()).required))
            if answer.status == 403:
                break
            await asyncio.sleep(0.1)
        assert (answer.status, answer.json["code"]) == (403, "payer_suspended")
        assert (await shop.get(Payer().pay((await shop.get()).required))).status == 200
        assert shop.runs == 3


async def test_a_rail_that_answers_every_repeat_with_success_still_sells_one_response(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop:
        header = Payer().pay((await shop.get()).required)
        answers = await asyncio.gather(*(shop.get(header) for _ in range(50)))
        assert shop.runs == 1
        assert shop.network.submissions == 1
        assert any(answer.status == 200 for answer in answers)


async def test_a_book_that_cannot_be_written_serves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Shop(tmp_path) as shop:
        header = Payer().pay((await shop.get()).required)
        apply = shop.paywall.ledger.apply

        async def broken(command: Command) -> Any:
            if isinstance(command, Reserve):
                raise StoreUnavailable("the disk is full", retry_after_s=1)
            return await apply(command)

        monkeypatch.setattr(shop.paywall.ledger, "apply", broken)
        answer = await shop.get(header)
        assert (answer.status, answer.json["code"], answer.json["moneyMoved"]) == (503, "store_unavailable", "no")
        assert shop.runs == 0
        monkeypatch.undo()
        assert (await shop.get(header)).status == 200


async def test_an_open_payment_is_answered_from_the_book_after_its_window_has_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Shop(tmp_path) as shop:
        header = Payer().pay((await shop.get()).required)
        assert (await shop.get(header)).status == 200
        later = shop.paywall.clock.now_ms() + 3_600_000
        monkeypatch.setattr(shop.paywall.clock, "now_ms", lambda: later)
        again = await shop.get(header)
        assert (again.status, again.body) == (200, b"the resource")
        assert (await shop.get(Payer().pay((await shop.get()).required, valid_before=later // 1000 - 9))).status == 402


async def test_a_released_payment_is_not_served_after_its_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Shop(tmp_path) as shop:
        header = Payer().pay((await shop.get()).required)
        shop.fail = True
        assert (await shop.get(header)).status == 500
        shop.fail = False
        later = shop.paywall.clock.now_ms() + 3_600_000
        monkeypatch.setattr(shop.paywall.clock, "now_ms", lambda: later)
        answer = await shop.get(header)
        assert (answer.status, answer.json["code"]) in ((402, "quote_expired"), (402, "payment_spent"))
        assert shop.runs == 1
        assert shop.network.moved == {}


async def test_an_expired_payment_with_another_signature_is_not_answered_from_the_book(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Shop(tmp_path) as shop:
        name, value = Payer().pay((await shop.get()).required)
        assert (await shop.get((name, value))).status == 200
        document = decode(value)
        document["payload"]["signature"] = "0x" + "11" * 64 + "1b"
        later = shop.paywall.clock.now_ms() + 3_600_000
        monkeypatch.setattr(shop.paywall.clock, "now_ms", lambda: later)
        answer = await shop.get((name, encode(document)))
        assert (answer.status, answer.json["code"]) == (402, "quote_expired")


async def test_a_quoted_price_holds_while_the_price_moves(tmp_path: Path) -> None:
    price = ["$0.001"]
    async with Shop(tmp_path, price=lambda request: price[0]) as shop:
        header = Payer().pay((await shop.get()).required)
        price[0] = "$0.005"
        answer = await shop.get(header)
        assert answer.status == 200
        required = (await shop.get()).required
        assert required["accepts"][0]["amount"] == "5000"
        required["accepts"][0]["amount"] = "1000"
        assert (await shop.get(Payer().pay(required))).json["code"] == "quote_invalid"


async def test_a_price_function_sees_the_request_and_may_say_free(tmp_path: Path) -> None:
    def price(request: Any) -> str | None:
        return None if b"free" in request.target else "$0.001"

    async with Shop(tmp_path, price=price) as shop:
        assert (await shop.get()).status == 402
        free = await call(shop.app, "GET", "/resource?free")
        assert (free.status, free.body) == (200, b"the resource")


async def test_no_secret_is_in_an_answer_or_a_repr(tmp_path: Path) -> None:
    async with Shop(tmp_path) as shop:
        key = shop.paywall.quote_key
        answer = await shop.get(Payer().pay((await shop.get()).required, value=1))
        for text in (repr(shop.paywall), repr(shop.paywall.challenger), answer.body.decode()):
            assert key.hex() not in text
            assert repr(key) not in text
