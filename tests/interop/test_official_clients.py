"""The official x402 clients, unmodified, pay our sandbox seller: directly and behind nginx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from micropaywall import limits
from micropaywall.sandbox.token import SANDBOX_NETWORK
from tests.interop.conftest import Accounts, Payer, Program, challenge_of, fetch

PATH = "/api/resource"
PRICE = 1_000
V2_CLIENTS = ["v2_httpx", "v2_requests", "v2_fetch"]
V1_CLIENTS = ["v1_httpx", "v1_requests", "v1_fetch"]

Pay = Callable[[str, str, Payer], dict[str, Any]]


def check_purchase(client: str, at: Program, pay: Pay, payer: Payer, accounts: Accounts) -> None:
    """One payment by ``client``: the body, the receipt, and the exact change of both balances."""
    payee = challenge_of(at.url(PATH))["accepts"][0]["payTo"]
    before = accounts.balance(payer.address), accounts.balance(payee)
    answer = pay(client, at.url(PATH), payer)
    assert answer["success"], answer
    assert answer["status"] == 200
    assert isinstance(answer["body"], dict)
    assert "accepts" not in answer["body"]
    receipt = answer["payment_response"]
    assert receipt["success"] is True
    assert receipt["network"] == ("base-sepolia" if client in V1_CLIENTS else SANDBOX_NETWORK)
    assert receipt["payer"].lower() == payer.address.lower()
    mined = accounts.network.receipt(bytes.fromhex(receipt["transaction"].removeprefix("0x")))
    assert mined is not None
    assert (mined.sender, mined.value, mined.moved) == (payer.address_bytes, PRICE, True)
    assert (accounts.balance(payer.address), accounts.balance(payee)) == (before[0] - PRICE, before[1] + PRICE)


@pytest.mark.parametrize("client", V2_CLIENTS + V1_CLIENTS)
def test_an_official_client_buys_from_our_seller(
    client: str, seller: Program, pay: Pay, payer: Payer, accounts: Accounts
) -> None:
    check_purchase(client, seller, pay, payer, accounts)


@pytest.mark.parametrize("client", V2_CLIENTS + V1_CLIENTS)
def test_an_official_client_buys_from_our_seller_behind_nginx(
    client: str, nginx: Program, pay: Pay, payer: Payer, accounts: Accounts
) -> None:
    check_purchase(client, nginx, pay, payer, accounts)


def test_a_payer_without_money_is_refused_and_nothing_moves(
    seller: Program, pay: Pay, payer: Payer, accounts: Accounts
) -> None:
    balance = accounts.balance(payer.address)
    sink = b"\x01" * 20
    accounts.network.transfer(payer.address_bytes, sink, balance, key=payer.address_bytes + bytes(12))
    answer = pay("v2_httpx", seller.url(PATH), payer)
    assert answer["success"] is False
    assert answer["status"] == 402
    assert answer["body"]["moneyMoved"] == "no"
    assert accounts.balance(payer.address) == 0


def header_bytes(headers: list[tuple[str, str]]) -> int:
    """The header block as on the wire: ``name: value CRLF`` for each line."""
    return sum(len(name.encode()) + len(value.encode("latin-1")) + 4 for name, value in headers)


def test_the_402_behind_nginx_names_the_public_address_and_stays_small(nginx: Program) -> None:
    status, headers, _ = fetch(nginx.url(PATH))
    assert status == 402
    assert header_bytes(headers) < limits.CHALLENGE_HEADERS_BYTES_MAX
    challenge = challenge_of(nginx.url(PATH))
    assert challenge["resource"]["url"] == nginx.url(PATH)


def test_forged_forwarding_headers_do_not_change_what_is_offered(seller: Program, nginx: Program) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "Forwarded": "host=evil.example"}
    for at in (seller, nginx):
        status, headers, body = fetch(at.url(PATH), forged)
        assert status == 402
        assert b"evil.example" not in body
        assert all("evil.example" not in value for _, value in headers)
        assert challenge_of(at.url(PATH))["resource"]["url"] == at.url(PATH)
