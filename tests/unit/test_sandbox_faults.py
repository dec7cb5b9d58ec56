"""Trouble on request: how faults are written, and what each does to a payment and to what the seller is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit.chain import PAYEE, instruct, new_key, payment, refund_of

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.core.book import PaymentRow
from micropaywall.core.model import Outcome, Rejected, Settled, Unknown
from micropaywall.errors import ConfigurationError, RequestRefused
from micropaywall.sandbox.faults import (
    Fault,
    FaultName,
    Strikes,
    parse_fault,
    parse_faults,
    parse_header,
)
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.settlement import SandboxSettlement

# -- as they are written ----------------------------------------------------------------------------------------------


def test_every_fault_is_read_back_as_it_is_written() -> None:
    for name in FaultName:
        fault = parse_fault(name.text)
        assert fault.name is name
        assert parse_fault(str(fault)) == fault
        assert bool(fault.argument) == (name.argument is not None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "slowly",
        "slow=",
        "slow=-1",
        "slow=601",
        "slow=1e3",
        "slow=٣",
        "late=0",
        "late=1.5",
        "unreachable=1",
        "flapping=x",
        "flapping=10001",
        "rejected=No!",
        "rejected=" + "x" * 81,
        "SLOW",
        "slow=1 2",
    ],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_fault(text)


def test_a_list_of_faults_is_bounded_and_names_each_once() -> None:
    assert [fault.name for fault in parse_faults(["slow=1", "late"])] == [FaultName.SLOW, FaultName.LATE]
    with pytest.raises(ConfigurationError):
        parse_faults(["slow=1", "slow=2"])
    with pytest.raises(ConfigurationError):
        parse_faults([name.text for name in FaultName][: limits.SANDBOX_FAULTS_MAX + 1])


def test_header_lines_are_one_list() -> None:
    assert parse_header([b"slow=1, late", b"flapping=3"]) == parse_faults(["slow=1", "late", "flapping=3"])
    assert parse_header([]) == ()
    assert parse_header([b" "]) == ()


@pytest.mark.parametrize(
    "value", [b"nonsense", b"slow=9999", b"slow,slow", b"\xff\xfe", b"unreachable", b"refund_rejected", b","]
)
def test_a_header_that_names_no_fault_is_the_callers_mistake(value: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parse_header([value])
    assert caught.value.status == 400
    assert "expected" in caught.value.problem()


def test_faults_strike_as_often_as_they_say() -> None:
    assert [parse_fault("late").strikes_after(n) for n in range(3)] == [True, False, False]
    assert [parse_fault("flapping=2").strikes_after(n) for n in range(3)] == [True, True, False]
    assert [parse_fault("slow").strikes_after(n) for n in range(3)] == [True, True, True]
    assert {name.strikes for name in FaultName} == set(Strikes)


# -- what they do -----------------------------------------------------------------------------------------------------


class Bench:
    """A payment on a sandbox, settled under faults."""

    def __init__(self, place: Path) -> None:
        self.clock = ManualClock()
        self.network = SandboxNetwork(place / "sandbox.db", clock=self.clock)
        self.slept: list[float] = []
        self.settlements: list[SandboxSettlement] = []
        self.key = new_key()
        self.row = payment(instruct(self.key, 1_000))
        (self._before,) = self.network.balances([PAYEE])

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def settlement(self, *faults: str, **options: Any) -> SandboxSettlement:
        settlement = SandboxSettlement(self.network, faults=parse_faults(faults), sleep=self._sleep, **options)
        self.settlements.append(settlement)
        return settlement

    def moved(self) -> int:
        (now,) = self.network.balances([PAYEE])
        return now - self._before


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for settlement in bench.settlements:
        await settlement.close()


async def settle(settlement: SandboxSettlement, row: PaymentRow) -> Outcome:
    (outcome,) = await settlement.settle([row])
    return outcome


async def ask(settlement: SandboxSettlement, row: PaymentRow) -> Outcome:
    (outcome,) = await settlement.status([row])
    return outcome


def unanswered(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.doubt == "unanswered"


def absent(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) and outcome.doubt == "absent"


@pytest.mark.anyio
async def test_answer_lost_before_moves_nothing_and_strikes_once(bench: Bench) -> None:
    settlement = bench.settlement("settle_answer_lost_before")
    assert unanswered(await settle(settlement, bench.row))
    assert bench.moved() == 0
    assert absent(await ask(settlement, bench.row))
    assert isinstance(await settle(settlement, bench.row), Settled)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["settle_answer_lost_after", "truncated_answer", "error_502_after_success"])
async def test_an_answer_lost_after_the_transfer_is_unknown_until_one_asks(bench: Bench, fault: str) -> None:
    settlement = bench.settlement(fault)
    assert unanswered(await settle(settlement, bench.row))
    assert bench.moved() == 1_000
    asked = await ask(settlement, bench.row)
    again = await settle(settlement, bench.row)
    assert isinstance(asked, Settled)
    assert again == asked
    assert bench.moved() == 1_000


@pytest.mark.anyio
async def test_slow_moves_at_once_and_answers_later(bench: Bench) -> None:
    outcome = await settle(bench.settlement("slow=7.5"), bench.row)
    assert isinstance(outcome, Settled)
    assert bench.slept == [7.5]


@pytest.mark.anyio
async def test_late_is_mined_so_many_blocks_later(bench: Bench) -> None:
    settlement = bench.settlement("late=2")
    outcome = await settle(settlement, bench.row)
    assert isinstance(outcome, Unknown)
    assert outcome.doubt == "pending"
    assert outcome.transaction
    bench.network.mine(2)
    assert bench.moved() == 0
    bench.network.mine()
    asked = await ask(settlement, bench.row)
    assert isinstance(asked, Settled)
    assert asked.transaction == outcome.transaction


@pytest.mark.anyio
async def test_never_mined_waits_until_the_authorization_is_over(bench: Bench) -> None:
    settlement = bench.settlement("never_mined")
    assert isinstance(await settle(settlement, bench.row), Unknown)
    bench.network.mine(50)
    waiting = await ask(settlement, bench.row)
    assert isinstance(waiting, Unknown)
    assert waiting.doubt == "pending"
    bench.clock.advance(301)
    assert isinstance(await ask(settlement, bench.row), Rejected)
    assert bench.moved() == 0


@pytest.mark.anyio
async def test_flapping_fails_so_often_for_whatever_is_called(bench: Bench) -> None:
    settlement = bench.settlement("flapping=3")
    assert unanswered(await settle(settlement, bench.row))
    assert unanswered(await ask(settlement, bench.row))
    assert unanswered(await settle(settlement, bench.row))
    assert bench.moved() == 0
    assert isinstance(await settle(settlement, bench.row), Settled)


@pytest.mark.anyio
async def test_unreachable_never_answers(bench: Bench) -> None:
    settlement = bench.settlement("unreachable")
    for _ in range(3):
        assert unanswered(await settle(settlement, bench.row))
        assert unanswered(await ask(settlement, bench.row))
    refund = await settlement.refund(refund_of(bench.row, 10))
    assert unanswered(refund)
    assert bench.moved() == 0


@pytest.mark.anyio
async def test_a_reorganised_payment_is_gone_and_the_others_stay(bench: Bench) -> None:
    settlement = bench.settlement("reorganisation=2")
    other = payment(instruct(new_key(), 5))
    plain = bench.settlement()
    assert isinstance(await settle(plain, other), Settled)
    first = await settle(settlement, bench.row)
    assert isinstance(first, Settled)
    assert absent(await ask(settlement, bench.row))
    assert isinstance(await ask(plain, other), Settled)
    assert bench.moved() == 5
    second = await settle(settlement, bench.row)
    assert isinstance(second, Settled)
    assert second.transaction != first.transaction
    assert isinstance(await ask(settlement, bench.row), Settled)


@pytest.mark.anyio
async def test_a_reorganisation_deeper_than_finality_does_not_happen(bench: Bench) -> None:
    settlement = bench.settlement("reorganisation=100")
    bench.network.mine(100)
    assert isinstance(await settle(settlement, bench.row), Settled)
    assert isinstance(await ask(settlement, bench.row), Settled)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("insufficient_funds", "invalid_exact_evm_insufficient_balance"),
        ("rejected", "invalid_exact_evm_transaction_simulation_failed"),
        ("rejected=invalid_payload", "invalid_payload"),
        ("nonce_used", "invalid_exact_evm_nonce_already_used"),
    ],
)
async def test_a_refusal_is_final_and_moves_nothing(bench: Bench, fault: str, code: str) -> None:
    settlement = bench.settlement(fault)
    for outcome in (await settle(settlement, bench.row), await ask(settlement, bench.row)):
        assert isinstance(outcome, Rejected)
        assert outcome.code == code
    assert bench.moved() == 0


@pytest.mark.anyio
async def test_false_success_is_found_out_by_asking(bench: Bench) -> None:
    settlement = bench.settlement("false_success")
    outcome = await settle(settlement, bench.row)
    assert isinstance(outcome, Settled)
    assert bench.moved() == 0
    assert absent(await ask(settlement, bench.row))
    assert isinstance(await settle(settlement, bench.row), Settled)
    assert bench.moved() == 1_000


@pytest.mark.anyio
async def test_duplicate_success_answers_yes_to_whatever_uses_a_used_nonce(bench: Bench) -> None:
    settlement = bench.settlement("duplicate_success")
    nonce = bytes(range(32))
    first, other = (payment(instruct(bench.key, value, nonce=nonce)) for value in (1_000, 900))
    for row in (first, first, other):
        assert isinstance(await settle(settlement, row), Settled)
    assert bench.moved() == 1_000
    assert isinstance(await ask(settlement, other), Rejected)


@pytest.mark.anyio
async def test_repeat_refused_misleads_only_who_does_not_ask(bench: Bench) -> None:
    settlement = bench.settlement("repeat_refused")
    assert isinstance(await settle(settlement, bench.row), Settled)
    assert isinstance(await settle(settlement, bench.row), Rejected)
    assert isinstance(await ask(settlement, bench.row), Settled)


@pytest.mark.anyio
async def test_refund_faults(bench: Bench) -> None:
    await settle(bench.settlement(), bench.row)
    refund = refund_of(bench.row, 400)
    lost = bench.settlement("refund_answer_lost")
    assert unanswered(await lost.refund(refund))
    assert isinstance(await lost.refund(refund), Settled)
    assert bench.moved() == 600
    refused = bench.settlement("refund_rejected")
    assert isinstance(await refused.refund(refund_of(bench.row, 100)), Rejected)
    assert bench.moved() == 600


# -- by header --------------------------------------------------------------------------------------------------------


def lines(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"accept", b"*/*"), *((b"sandbox-fault", value) for value in values)]


@pytest.mark.anyio
async def test_a_header_troubles_its_own_payment_in_every_process(bench: Bench, tmp_path: Path) -> None:
    seller = bench.settlement()
    worker = SandboxSettlement(SandboxNetwork(tmp_path / "sandbox.db", clock=bench.clock))
    bench.settlements.append(worker)
    other = payment(instruct(new_key(), 5))
    await seller.note_request(bench.row.key, lines(b"settle_answer_lost_after"))
    outcomes = await worker.settle([bench.row, other])
    assert unanswered(outcomes[0])
    assert isinstance(outcomes[1], Settled)
    assert isinstance(await settle(seller, bench.row), Settled)
    assert bench.moved() == 1_005


@pytest.mark.anyio
async def test_a_request_sent_again_meets_no_fault_twice(bench: Bench) -> None:
    settlement = bench.settlement()
    for _ in range(3):
        await settlement.note_request(bench.row.key, lines(b"settle_answer_lost_before"))
    assert unanswered(await settle(settlement, bench.row))
    await settlement.note_request(bench.row.key, lines(b"settle_answer_lost_before"))
    assert isinstance(await settle(settlement, bench.row), Settled)


@pytest.mark.anyio
async def test_a_requests_own_argument_comes_before_the_configured_one(bench: Bench) -> None:
    settlement = bench.settlement("slow=1")
    await settlement.note_request(bench.row.key, lines(b"slow=2"))
    await settle(settlement, bench.row)
    assert bench.slept == [2]


@pytest.mark.anyio
async def test_the_header_means_nothing_where_it_is_not_allowed(bench: Bench) -> None:
    settlement = bench.settlement(header_faults=False)
    await settlement.note_request(bench.row.key, lines(b"rejected", b"nonsense"))
    assert isinstance(await settle(settlement, bench.row), Settled)


@pytest.mark.anyio
async def test_requests_without_the_header_write_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    settlement = bench.settlement()
    monkeypatch.setattr(bench.network, "add_faults", lambda *_: pytest.fail("written"))
    await settlement.note_request(bench.row.key, lines())
    await settlement.note_request(bench.row.key, lines(b""))


def test_faults_of_strangers_do_not_fill_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SANDBOX_FAULTS_KEPT_MAX", 20)
    network = SandboxNetwork(tmp_path / "sandbox.db")
    keys = [number.to_bytes(32, "big") for number in range(50)]
    for key in keys:
        network.add_faults(key, [Fault(FaultName.LATE, "1")])
    kept = [bool(states) for states in network.fault_states(keys)]
    assert kept == [False] * 30 + [True] * 20


# -- waiting for blocks -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_settle_waits_for_the_block_when_the_chain_does_not_mine_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from micropaywall.sandbox.chain import Rules

    bench.network.configure(Rules(automine=False))
    settlement = bench.settlement()
    sleep: Callable[[float], Any] = bench._sleep

    async def tick(seconds: float) -> None:
        await sleep(seconds)
        bench.clock.advance(seconds)

    monkeypatch.setattr(settlement, "_sleep", tick)
    assert isinstance(await settle(settlement, bench.row), Settled)
    assert 1.9 < sum(bench.slept) < 2.2


@pytest.mark.anyio
async def test_settle_does_not_wait_for_ever(bench: Bench) -> None:
    from micropaywall.sandbox.chain import Rules

    bench.network.configure(Rules(automine=False, block_interval_ms=0))
    outcome = await settle(bench.settlement(receipt_wait_s=0.5), bench.row)
    assert isinstance(outcome, Unknown)
    assert outcome.doubt == "pending"
    assert sum(bench.slept) == pytest.approx(0.5)
