"""Payments over TLS: certificates are checked against the name although a checked address is dialled; no step down to HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import requests
import trustme
from tests.kit.buyers import NAMES, Buyer
from tests.kit.seller_double import SellerDouble

from micropaywall.client import Payer
from micropaywall.client.guard import AddressGuard
from micropaywall.core.purchase import PurchaseState
from micropaywall.crypto.secp256k1 import PrivateKey
from micropaywall.errors import CrossOriginPayment, InsecureTransport
from micropaywall.money import Asset
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.wallets.signer import LocalSigner

NAME = "shop.example"
LIVE = replace(
    SANDBOX_TOKEN,
    asset=Asset("eip155:8453/erc20:0xaa", "USDC", 6, "USD"),
    network="eip155:8453",
    chain_id=8453,
    v1_network="",
    v1_chain_id=None,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def shop(authority: trustme.CA) -> Iterator[SellerDouble]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(tls)
    with SellerDouble(tls=tls) as double:
        yield double


@pytest.fixture(params=NAMES)
def buyer(request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path) -> Iterator[Buyer]:
    """Trusts the authority, and finds every name on this machine, as if it were a public address."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    guard = AddressGuard(allow_private=True, resolver=lambda host, port: ["127.0.0.1"])
    payer = Payer(budget="$1 a day", rails=[ExactBuyer([LIVE])], wallet=LocalSigner(PrivateKey(b"\x05" * 32)))
    own: dict[str, Any] = {} if request.param == "requests" else {"client_options": {"verify": trust}}
    with payer, Buyer(request.param, payer=payer, guard=guard, **own) as made:
        if request.param == "requests":
            authority.cert_pem.write_to_path(tmp_path / "ca.pem")
            made.client.trust_env = False  # variables of the machine would win over the session's own setting
            made.client.verify = str(tmp_path / "ca.pem")
        yield made


def test_real_money_is_paid_over_tls_to_the_name_in_the_certificate(buyer: Buyer, shop: SellerDouble) -> None:
    shelf = shop.put("/resource", network="eip155:8453", dialects=(2,))
    got = buyer.get(f"https://{NAME}:{shop.port}/resource")
    assert got.status == 200
    assert len(shelf.presentations) == 1
    assert [row.realm for row in buyer.store.payments()] == ["live"]


def test_a_certificate_of_another_name_is_not_accepted(buyer: Buyer, shop: SellerDouble) -> None:
    shelf = shop.put("/resource", network="eip155:8453", dialects=(2,))
    with pytest.raises((httpx.ConnectError, httpx2.ConnectError, requests.exceptions.SSLError)):
        buyer.get(f"https://other.example:{shop.port}/resource")
    assert (shelf.unpaid, shelf.presentations) == (0, [])


def test_nothing_is_signed_after_a_redirect_from_https_to_http(buyer: Buyer, shop: SellerDouble) -> None:
    with SellerDouble() as plain:
        shelf = plain.put("/resource", network="eip155:8453", dialects=(2,))
        with pytest.raises((InsecureTransport, CrossOriginPayment)) as caught:
            buyer.get(f"https://{NAME}:{shop.port}/redirect?to=http://{NAME}:{plain.port}/resource", follow=True)
        assert isinstance(caught.value, InsecureTransport)
        assert shelf.presentations == []
    assert list(buyer.store.payments(states=list(PurchaseState))) == []
