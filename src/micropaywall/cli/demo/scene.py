"""What the demo's steps share: the seller, the buyer, and three ways to look behind the curtain (both books, the network)."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from micropaywall.cli import buyer_parts
from micropaywall.cli.demo.seller import SellerProcess
from micropaywall.cli.demo.stage import Stage
from micropaywall.client import Payer, Wallet
from micropaywall.core.book import Record
from micropaywall.core.purchase import PurchaseRow
from micropaywall.crypto.address import parse_address
from micropaywall.ledger import open_ledger
from micropaywall.ledger.port import Ledger
from micropaywall.money import Money
from micropaywall.sandbox.rail import DEFAULT_PAYEE, open_network
from micropaywall.sandbox.token import SANDBOX_TOKEN

__all__ = ["HttpReply", "Scene", "decoded"]

T = TypeVar("T")
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer to a request that was made by hand."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The ``code`` of a problem, or ""."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return ""
        return str(found.get("code", "")) if isinstance(found, dict) else ""


def decoded(header: str) -> dict[str, Any]:
    """The JSON in an x402 header."""
    found = json.loads(base64.b64decode(header))
    if not isinstance(found, dict):
        raise TypeError("an x402 header holds an object")
    return found


class Scene:
    """One performance, in ``home``."""

    def __init__(self, stage: Stage, home: Path, seller: SellerProcess) -> None:
        self.stage = stage
        self.home = home
        self.seller = seller
        self.wallet = Wallet.sandbox(home=home)
        self.network = open_network(home / "sandbox.db")
        self.journal = self.payer("$0.01 each, $1 a day")

    @property
    def resource(self) -> str:
        """The URL that is bought most."""
        return self.seller.url + "/api/resource"

    def payer(self, budget: str) -> Payer:
        """A buyer with a budget of its own; all of them share wallet and journal."""
        return Payer(wallet=self.wallet, budget=budget, home=self.home, idempotency="request")

    def client(self, payer: Payer, **options: Any) -> AbstractContextManager[Any]:
        """A paying HTTP client."""
        return buyer_parts.http_client(payer, timeout=_TIMEOUT_S, **options)

    def ask(self, url: str, headers: Mapping[str, str] | None = None) -> HttpReply:
        """One GET by hand, which pays nothing by itself."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", parts.path, headers={"Accept": "application/json", **(headers or {})})
            response = connection.getresponse()
            lines = {name.lower(): value for name, value in response.getheaders()}
            return HttpReply(response.status, lines, response.read())
        finally:
            connection.close()

    # -- behind the curtain -------------------------------------------------------------------------------------------

    def balances(self) -> tuple[Money, Money]:
        """What buyer and seller have on the network."""
        addresses = [parse_address(self.wallet.open().address), parse_address(DEFAULT_PAYEE)]
        buyer, seller = (SANDBOX_TOKEN.asset.money(value) for value in self.network.balances(addresses))
        return buyer, seller

    def moved(self, before: tuple[Money, Money]) -> tuple[int, int]:
        """What left the buyer and what reached the seller since ``before``, in atomic units."""
        buyer, seller = self.balances()
        return before[0].amount_atomic - buyer.amount_atomic, seller.amount_atomic - before[1].amount_atomic

    def in_book(self, look: Callable[[Ledger], Any]) -> Any:
        """Look into the seller's book: ``look`` takes the open book and returns an awaitable."""

        async def looking() -> Any:
            book = await open_ledger(f"sqlite:///{self.home / 'ledger.db'}", assets=[SANDBOX_TOKEN.asset])
            try:
                return await look(book)
            finally:
                await book.close()

        return asyncio.run(looking())

    def records(self) -> list[Record]:
        """The seller's log."""

        async def collect(book: Ledger) -> list[Record]:
            return [record async for record in book.records()]

        found: list[Record] = self.in_book(collect)
        return found

    def purchases(self) -> list[PurchaseRow]:
        """The buyer's log."""
        return list(self.journal.store.payments())

    def close(self) -> None:
        """Let go of network and journal."""
        self.journal.close()
        self.network.close()
