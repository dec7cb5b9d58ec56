"""One SQLite book, several processes: one of them wins, and a kill -9 loses nothing that was answered."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.kit.ledgers import NOW, SECOND, key_of

from micropaywall.core.lives import ChargeState, PaymentState
from micropaywall.ledger.sqlite import SqliteLedger
from micropaywall.ledger.verify import verify

ROOT = Path(__file__).parents[2]


def start(mode: str, path: Path, *rest: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])}
    command = [sys.executable, "-m", "tests.kit.ledger_process", mode, str(path), *rest]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """What is left to read until the process has ended."""
    assert process.stdout is not None
    with process:
        return [json.loads(line) for line in process.stdout if line.endswith("}\n")]


@pytest.mark.parametrize("known", [False, True], ids=["new payment", "in the index"])
def test_250_presentations_over_four_processes_reserve_once(tmp_path: Path, known: bool) -> None:
    """Attack: the same credential to every worker at the same moment. Each process has its own memory of recent keys."""
    path = tmp_path / "ledger.db"

    async def begin() -> None:
        ledger = await SqliteLedger.open(path)
        await ledger.close()

    asyncio.run(begin())
    names = [f"p{n}" for n in range(5)]
    if known:
        answered = lines(start("race", path, "0", "first", ",".join(names), "1"))
        assert answered[-1]["answers"] == {"Applied": 5}
    moment = time.time() + 3
    racers = [start("race", path, str(moment), f"w{n}", ",".join(names), "63") for n in range(4)]
    total: Counter[str] = Counter()
    for racer in racers:
        total += Counter(lines(racer)[-1]["answers"])
    assert total.pop("Applied", 0) == (0 if known else 5), total
    assert set(total) == {"Busy"}
    report = verify(path)
    assert report.findings == []
    assert (report.payments, report.charges) == (5, 5)


def test_workers_that_start_together_on_a_new_book_all_open_it(tmp_path: Path) -> None:
    """`serve --workers 4` on a machine that has no book yet."""
    for attempt in range(3):
        workers = [start("race", tmp_path / f"{attempt}.db", "0", f"w{n}", f"p{n}", "1") for n in range(4)]
        assert [lines(worker)[-1]["answers"] for worker in workers] == [{"Applied": 1}] * 4


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_between_commands_loses_nothing_that_was_answered(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ledger.db"
    sellers = [start("sell", path, f"s{n}") for n in range(2)]
    told: dict[str, str] = {}
    chance = random.Random(seed)
    wanted = 30 + chance.randrange(120)
    for seller in sellers:
        assert seller.stdout is not None
        for _ in range(wanted):
            line = json.loads(seller.stdout.readline())
            if "name" in line:
                told[line["name"]] = line["step"]
    time.sleep(chance.random() / 100)
    for seller in sellers:
        seller.send_signal(signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    for seller in sellers:
        for line in lines(seller):
            if "name" in line:
                told[line["name"]] = line["step"]

    asyncio.run(_recovered(path, told))
    report = verify(path)
    assert report.findings == []
    assert report.unsealed_rows == 0, "a later process seals what dead ones left"


async def _recovered(path: Path, told: dict[str, str]) -> None:
    ledger = await SqliteLedger.open(path)
    for name, step in told.items():
        row = await ledger.payment(key_of(name))
        assert row is not None, f"{name} was answered and is not in the book"
        (charge,) = await ledger.charges(row.id)
        if step != "reserved":
            assert charge.state is ChargeState.CAPTURED, name
            assert await ledger.response(charge.id) is not None
        if step == "settled":
            assert row.state is PaymentState.SETTLED, name
    later = NOW + 1_000 * SECOND
    work = await ledger.lease_work(owner="w2", now_ms=later, lease_until_ms=later + 1, limit=1_000)
    open_ = {p.id for p in work.ask}
    async for record in ledger.records():
        state, charge_state = record.metadata["paymentState"], record.metadata["chargeState"]
        if charge_state == "captured":
            assert state in ("settled", "settling"), "every delivery has a settlement, or one that is asked for"
            if state == "settling":
                assert open_
        else:
            assert (charge_state, state) == ("released", "void"), "what was not delivered costs nobody"
    await ledger.close()
