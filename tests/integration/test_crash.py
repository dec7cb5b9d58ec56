"""kill -9 at any point, start again, send the same payment again: served once, paid once, and the book adds up."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from tests.integration.seller_process import PAYEE, app_in, paywall_in
from tests.kit.call import call
from tests.kit.payer import Payer

from micropaywall.crypto.address import parse_address
from micropaywall.ledger.verify import verify
from micropaywall.sandbox.rail import open_network

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
PROGRAM = ["-m", "tests.integration.seller_process"]
POINTS = [
    "before:Reserve",
    "after:Reserve",
    "handler",
    "before:Capture",
    "after:Capture",
    "before:Settle",
    "after:Settle",
    "before:EndSettle",
    "after:EndSettle",
]
NEVER = {("deferred", "Settle"), ("deferred", "EndSettle")}
CASES = [(mode, point) for mode in ("before", "after", "deferred") for point in POINTS]
CASES = [(mode, point) for mode, point in CASES if (mode, point.partition(":")[2]) not in NEVER]


async def presigned(directory: Path, mode: str, payer: Payer) -> str:
    paywall = paywall_in(directory, mode, background=False)
    quoted = await call(paywall.asgi(app_in(directory)), "GET", "/resource")
    await paywall.stop()
    name, value = payer.pay(quoted.required)
    return f"{name.decode()}={value.decode()}"


@pytest.mark.parametrize(("mode", "point"), CASES)
async def test_a_killed_seller_serves_the_same_payment_once_after_restart(
    tmp_path: Path, mode: str, point: str
) -> None:
    payer = Payer()
    header = await presigned(tmp_path, mode, payer)
    command = [sys.executable, *PROGRAM, str(tmp_path), mode, header, "--die", point]
    killed = await anyio.to_thread.run_sync(run, command)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stdout == "", "it answered before it died"

    name, _, value = header.partition("=")
    paywall = paywall_in(tmp_path, mode, later_s=0)
    app = paywall.asgi(app_in(tmp_path))
    await paywall.start()
    for _ in range(50):
        answer = await call(app, "GET", "/resource", headers=[(name.encode(), value.encode())])
        if answer.status not in (409, 503):
            break
        assert "payment-required" not in dict(answer.headers), "a new price while the outcome is open"
        await anyio.sleep(0.1)
    assert (answer.status, answer.body) == (200, b"the resource"), answer.body
    again = await call(app, "GET", "/resource", headers=[(name.encode(), value.encode())])
    assert (again.status, again.body) == (200, b"the resource")
    await settled(paywall, payer)
    await paywall.stop()

    assert moved(tmp_path, payer) == (1_000, -1_000)
    report = verify(tmp_path / "ledger.db")
    assert report.ok, report


def moved(directory: Path, payer: Payer) -> tuple[int, int]:
    """What the payee has got and the payer has given on the network, in atomic units."""
    network = open_network(directory / "sandbox.db")
    payee_now, payer_now = network.balances([parse_address(PAYEE), parse_address(payer.address)])
    network.close()
    return payee_now - 1_000_000_000, payer_now - 1_000_000_000


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)


async def settled(paywall: object, payer: Payer) -> None:
    """Wait until nothing of the payment is in the air (deferred settles in the background)."""
    for _ in range(100):
        records = [record async for record in paywall.ledger.records()]  # type: ignore[attr-defined]
        if records and all(
            r.metadata.get("paymentState") in ("settled", "final") for r in records if r.status == "success"
        ):
            return
        await anyio.sleep(0.1)
    raise AssertionError("the payment never settled")


@pytest.mark.parametrize("mode", ["before", "after", "deferred"])
async def test_250_presentations_over_4_processes_run_one_handler_and_one_settlement(tmp_path: Path, mode: str) -> None:
    payer = Payer()
    header = await presigned(tmp_path, mode, payer)
    command = [sys.executable, *PROGRAM, str(tmp_path), mode, header, "--times", "63"]
    answers: list[str] = []

    async def worker() -> None:
        answers.extend((await anyio.to_thread.run_sync(run, command)).stdout.splitlines())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(worker)
    assert len(answers) == 252
    assert (tmp_path / "runs").read_text().count("\n") == 1
    assert any('"status": 200' in line for line in answers)
    if mode != "deferred":
        assert moved(tmp_path, payer) == (1_000, -1_000)
    assert verify(tmp_path / "ledger.db").ok
