"""The worker, a real book and the sandbox under every fault: in the end, money and book agree, and nothing moved twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.chain import PAYEE, START_S, instruct, new_key
from tests.kit.owed import OWNER, Owed
from tests.kit.rail import ScriptedSettlement

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.core.book import PaymentRow
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import SettleMode
from micropaywall.ledger.sqlite import SqliteLedger
from micropaywall.rails.exact.types import read_instruction
from micropaywall.sandbox.chain import Kind
from micropaywall.sandbox.faults import FaultName, parse_faults
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.settlement import SandboxSettlement
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN
from micropaywall.settlement.worker import SettlementWorker

pytestmark = pytest.mark.anyio
PLACE = ("sandbox", SANDBOX_NETWORK)
ENDED = (PaymentState.FINAL, PaymentState.FAILED, PaymentState.REFUNDED)
SETTLING_FAULTS = [
    name for name in FaultName if not name.text.startswith("refund") and name is not FaultName.UNREACHABLE
]


@pytest.fixture
async def owed(tmp_path: Path) -> AsyncIterator[Owed]:
    clock = ManualClock()
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", assets=[SANDBOX_TOKEN.asset], clock=clock)
    yield Owed(clock, ledger)
    await ledger.close()


async def no_time(_: float) -> None:
    return


class Back:
    """The background of a seller: a worker, a sandbox, and time that passes."""

    def __init__(self, owed: Owed, place: Path, *faults: str) -> None:
        self.owed = owed
        self.network = SandboxNetwork(place / "sandbox.db", clock=owed.clock)
        self.rail = SandboxSettlement(self.network, faults=parse_faults(faults), sleep=no_time)
        self.worker = SettlementWorker(owed.ledger, {PLACE: self.rail}, clock=owed.clock, owner=OWNER)
        (self._before,) = self.network.balances([PAYEE])

    def moved(self) -> int:
        (now,) = self.network.balances([PAYEE])
        return now - self._before

    def effects(self, row: PaymentRow) -> int:
        """How often the payment's authorization moved value."""
        nonce = read_instruction(row.instruction).authorization.nonce
        logs = self.network.logs(0, self.network.head().number)
        return sum(1 for r in logs if r.nonce == nonce and r.moved and r.kind is Kind.TRANSFER_WITH_AUTHORIZATION)

    async def until_ended(self, row: PaymentRow) -> PaymentState:
        for _ in range(400):
            await self.worker.tick()
            state = await self.owed.state(row)
            if state in ENDED:
                return state
            self.owed.clock.advance(2)
        raise AssertionError(f"still {state.value} after 800 seconds")

    async def close(self) -> None:
        await self.rail.close()


@pytest.mark.parametrize("mode", ["after", "deferred"])
@pytest.mark.parametrize("fault", SETTLING_FAULTS, ids=lambda name: name.text)
async def test_money_and_book_agree_in_the_end(owed: Owed, tmp_path: Path, fault: FaultName, mode: SettleMode) -> None:
    back = Back(owed, tmp_path, fault.text)
    # In `after` mode the process that served it died before the rail was asked.
    row = await owed.served(mode=mode, owner="died" if mode == "after" else OWNER, lease_s=5)
    state = await back.until_ended(row)
    assert (state is PaymentState.FINAL) == (back.effects(row) == 1)
    assert back.effects(row) <= 1
    assert back.moved() == (1_000 if state is PaymentState.FINAL else 0)
    await back.close()


async def test_without_trouble_what_was_served_is_final_in_the_end(owed: Owed, tmp_path: Path) -> None:
    back = Back(owed, tmp_path)
    rows = [await owed.served(mode=mode, owner="died", lease_s=1) for mode in ("deferred", "after")]
    assert [await back.until_ended(row) for row in rows] == [PaymentState.FINAL] * 2
    assert back.moved() == 2_000
    await back.close()


async def test_a_payment_that_was_settled_by_the_process_that_died_is_completed(owed: Owed, tmp_path: Path) -> None:
    back = Back(owed, tmp_path)
    row = await owed.served(mode="after", owner="died", lease_s=5)
    back.network.submit([read_instruction(row.instruction)])
    assert await back.until_ended(row) is PaymentState.FINAL
    assert back.effects(row) == 1
    await back.close()


async def test_a_payment_that_expires_before_anybody_settles_it_fails(owed: Owed, tmp_path: Path) -> None:
    back = Back(owed, tmp_path)
    row = await owed.served(instruct(new_key(), 1_000, valid_before=START_S + 3), mode="after", owner="died", lease_s=5)
    assert await back.until_ended(row) is PaymentState.FAILED
    assert back.moved() == 0
    await back.close()


async def test_a_refund_whose_answer_is_lost_is_paid_once(owed: Owed, tmp_path: Path) -> None:
    back = Back(owed, tmp_path, "refund_answer_lost")
    row = await owed.served()
    await back.until_ended(row)
    await owed.refund_due(row, 1_000)
    assert await back.until_ended(row) is PaymentState.REFUNDED
    assert back.moved() == 0
    await back.close()


async def test_a_reorganisation_of_many_brings_all_of_them_back(owed: Owed, tmp_path: Path) -> None:
    back = Back(owed, tmp_path)
    rows = [await owed.served(instruct(new_key(), value)) for value in range(1, 31)]
    await back.worker.tick()
    assert back.moved() == sum(range(1, 31))
    back.network.reorganise(1)
    assert back.moved() == 0
    assert [await back.until_ended(row) for row in rows] == [PaymentState.FINAL] * 30
    assert back.moved() == sum(range(1, 31))
    await back.close()


async def test_workers_with_connections_of_their_own_submit_each_payment_once(owed: Owed, tmp_path: Path) -> None:
    rows = [await owed.served() for _ in range(40)]
    rail = ScriptedSettlement()
    rail.gate = asyncio.Event()
    books = [await SqliteLedger.open(tmp_path / "ledger.db", clock=owed.clock) for _ in range(3)]
    workers = [
        SettlementWorker(book, {PLACE: rail}, clock=owed.clock, owner=f"worker:{number}")
        for number, book in enumerate(books)
    ]
    ticks = [asyncio.create_task(worker.tick()) for worker in workers for _ in range(2)]
    await asyncio.sleep(0.2)
    rail.gate.set()
    await asyncio.gather(*ticks)
    for book in books:
        await book.close()
    assert rail.made("settle") == len(rows)
    assert rail.most_under_way == 1
    assert {await owed.state(row) for row in rows} == {PaymentState.SETTLED}


async def test_a_worker_that_dies_leaves_its_payments_to_the_next(owed: Owed, tmp_path: Path) -> None:
    row = await owed.served()
    hanging = ScriptedSettlement()
    hanging.gate = asyncio.Event()
    dying = SettlementWorker(owed.ledger, {PLACE: hanging}, clock=owed.clock, owner="dying")
    task = asyncio.create_task(dying.tick())
    while not hanging.calls:  # noqa: ASYNC110 - the rail tells by a list
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    back = Back(owed, tmp_path)
    await back.worker.tick()
    assert await owed.state(row) is PaymentState.SETTLING  # its lease holds
    owed.clock.advance(limits.SETTLE_LEASE_S + 1)
    await back.worker.tick()
    assert await owed.state(row) is PaymentState.SETTLED
    await back.close()
