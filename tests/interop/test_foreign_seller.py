"""Our buyer pays a seller made with the official SDK (FastAPI), whose facilitator settles on the sandbox network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import micropaywall.client.httpx
import micropaywall.client.httpx2
import micropaywall.client.requests
from micropaywall.client import Paid, paid
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import BudgetExceeded
from micropaywall.sandbox.network import SandboxNetwork
from micropaywall.sandbox.token import SANDBOX_NETWORK, SANDBOX_TOKEN
from micropaywall.wallets.signer import LocalSigner
from tests.interop.conftest import PEERS, Accounts, Payer, Peers, Program, free_port
from tests.interop.facilitator_double import FacilitatorDouble, facilitator

PAYEE = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PRICE = 1_000
REPORT = {"report": {"weather": "sunny", "temperature": 21}}


@dataclass(frozen=True)
class Foreign:
    """The official seller and the facilitator that it asks."""

    program: Program
    facilitator: FacilitatorDouble

    def url(self, path: str) -> str:
        return self.program.url(path)


@pytest.fixture(scope="module")
def running(start: Callable[..., Program], peers: Peers, home: Path) -> Iterator[Foreign]:
    network = SandboxNetwork(home / "sandbox.db")
    with facilitator(network) as double:
        port = free_port()
        environment = {
            "PYTHONPATH": "",
            "PORT": str(port),
            "FACILITATOR_URL": double.url,
            "PAY_TO": PAYEE,
            "PAY_NETWORK": SANDBOX_NETWORK,
            "PAY_ASSET": SANDBOX_TOKEN.address_text,
        }
        command = [peers.python_v2, str(PEERS / "v2_fastapi_server.py")]
        yield Foreign(start("official-fastapi", command, port, environment=environment), double)
    network.close()


@pytest.fixture
def foreign(running: Foreign) -> Foreign:
    running.facilitator.asked.clear()
    return running


def signer_of(payer: Payer) -> LocalSigner:
    return LocalSigner(PrivateKey(bytes.fromhex(payer.key[2:])))


def check_paid(foreign: Foreign, got: Paid | None, payer: Payer, accounts: Accounts, before: tuple[int, int]) -> None:
    assert got is not None
    assert got.receipt is not None
    assert got.receipt.settled
    assert got.receipt.payer.lower() == payer.address.lower()
    mined = accounts.network.receipt(bytes.fromhex(got.receipt.transaction[2:]))
    assert mined is not None
    assert (mined.sender, mined.value, mined.moved) == (payer.address_bytes, PRICE, True)
    assert accounts.balance(payer.address) == before[0] - PRICE
    assert accounts.balance(PAYEE) == before[1] + PRICE
    assert foreign.facilitator.asked.count("/settle") == 1


def balances(payer: Payer, accounts: Accounts) -> tuple[int, int]:
    return accounts.balance(payer.address), accounts.balance(PAYEE)


@pytest.mark.parametrize(
    "make",
    [micropaywall.client.httpx2.Client, micropaywall.client.httpx.Client, micropaywall.client.requests.Session],
    ids=["httpx2", "httpx", "requests"],
)
def test_our_synchronous_buyers_pay_an_official_seller(
    make: Callable[..., Any], foreign: Foreign, payer: Payer, accounts: Accounts
) -> None:
    before = balances(payer, accounts)
    with make(wallet=signer_of(payer), budget="$0.01 each, $1 a day") as client:
        response = client.get(foreign.url("/weather"))
        assert response.status_code == 200
        assert response.json() == REPORT
        check_paid(foreign, paid(response), payer, accounts, before)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make",
    [micropaywall.client.httpx2.AsyncClient, micropaywall.client.httpx.AsyncClient],
    ids=["httpx2", "httpx"],
)
async def test_our_asynchronous_buyers_pay_an_official_seller(
    make: Callable[..., Any], foreign: Foreign, payer: Payer, accounts: Accounts
) -> None:
    before = balances(payer, accounts)
    async with make(wallet=signer_of(payer), budget="$0.01 each, $1 a day") as client:
        response = await client.get(foreign.url("/weather"))
        assert response.status_code == 200
        assert response.json() == REPORT
        check_paid(foreign, paid(response), payer, accounts, before)


def test_our_buyer_sends_a_request_body_again_with_the_payment(
    foreign: Foreign, payer: Payer, accounts: Accounts
) -> None:
    before = balances(payer, accounts)
    with micropaywall.client.httpx2.Client(wallet=signer_of(payer), budget="$0.01 each, $1 a day") as client:
        response = client.post(foreign.url("/echo"), content=b"say it again")
        assert response.json() == {"echo": "say it again"}
        check_paid(foreign, paid(response), payer, accounts, before)


def test_our_buyer_pays_an_official_seller_nothing_beyond_its_budget(
    foreign: Foreign, payer: Payer, accounts: Accounts
) -> None:
    before = balances(payer, accounts)
    with (
        micropaywall.client.httpx2.Client(wallet=signer_of(payer), budget="$0.0005 each") as client,
        pytest.raises(BudgetExceeded),
    ):
        client.get(foreign.url("/weather"))
    assert balances(payer, accounts) == before
    assert "/settle" not in foreign.facilitator.asked


def test_the_command_line_buys_from_an_official_seller(foreign: Foreign, accounts: Accounts) -> None:
    before = accounts.balance(PAYEE)
    done = subprocess.run(
        [sys.executable, "-m", "micropaywall", "get", foreign.url("/weather")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == REPORT
    assert accounts.balance(PAYEE) == before + PRICE
