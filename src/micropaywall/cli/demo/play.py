"""The demo's first part: a price, a payment, and the two books that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from micropaywall.cli.books import short_id
from micropaywall.cli.demo.scene import Scene, decoded
from micropaywall.cli.demo.seller import SellerProcess
from micropaywall.cli.demo.stage import Stage
from micropaywall.cli.demo.trouble import ACTS as TROUBLE
from micropaywall.cli.output import local_time
from micropaywall.cli.purchases import purchase_record
from micropaywall.cli.screen import Column
from micropaywall.client import paid
from micropaywall.core.purchase import PurchaseRow
from micropaywall.core.quote import is_derived
from micropaywall.crypto.address import parse_address
from micropaywall.errors import MicropaywallError
from micropaywall.money import Money
from micropaywall.proto import x402
from micropaywall.sandbox.token import SANDBOX_TOKEN

__all__ = ["play"]


def play(stage: Stage, home: Path) -> None:
    """All steps, in order; the first error ends the play."""
    seller = SellerProcess(home)
    scene = Scene(stage, home, seller)
    try:
        for act in (start, challenge, payment, books, *TROUBLE):
            act(scene)
    except MicropaywallError as error:
        stage.check(False, f"{error.title}: {error.detail}")
    finally:
        seller.kill()
        scene.close()


def start(scene: Scene) -> None:
    stage, seller = scene.stage, scene.seller
    with stage.step("seller", "A seller puts a price on an endpoint") as step:
        seller.start()
        priced = next(route for route in seller.routes if route["route"] == "GET /api/resource")
        stage.pairs(
            [
                ("listens on", f"{seller.url} (process {seller.pid})"),
                ("priced", f"{priced['route']} at {priced['price']}"),
                ("free", "GET /health, and everything else that has no price"),
            ]
        )
        step.facts.update(url=seller.url, pid=seller.pid, price=priced["price"])
        free = scene.ask(seller.url + "/health")
        stage.check(free.status == 200, "what has no price is served as ever")


def challenge(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("challenge", "A buyer asks, and is told the price") as step:
        stage.arrow("→", "GET /api/resource")
        reply = scene.ask(scene.resource)
        stage.arrow("←", f"{reply.status} Payment Required")
        required = decoded(reply.headers["payment-required"])
        offer: dict[str, Any] = required["accepts"][0]
        body = json.loads(reply.body)
        stage.pairs(
            [
                ("price", f"{_money(offer['amount'])} by {offer['scheme']} on {offer['network']} (the sandbox)"),
                ("pay to", offer["payTo"]),
                ("quote", f"{offer['extra']['quote']}, which binds method, URL, price and payee"),
            ]
        )
        step.facts.update(status=reply.status, paymentRequired=required, body=body)
        stage.check(reply.status == 402, "it is a 402, and says what to do")
        v1 = x402.read_challenge(402, (), reply.body)
        stage.check(
            required["x402Version"] == 2
            and v1.dialect == "x402/1"
            and {"amount", "currency", "paymentAddress"} <= set(body),
            "one answer for every client: x402 v2 in a header, x402 v1 and plain fields in the body",
        )
        stage.check(not scene.records(), "asking costs the seller nothing: its book has no row")


def payment(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("payment", "The buyer's wallet signs, within a budget, and gets the answer") as step:
        before = scene.balances()
        with scene.client(scene.journal) as client:
            response = client.get(scene.resource)
        bought = paid(response)
        if bought is None or bought.purchase.credential is None:
            stage.check(False, f"nothing was paid; the seller answered {response.status_code}")
            return
        purchase, receipt = bought.purchase, bought.receipt
        signed = decoded(bought.purchase.credential.value)
        _show_signed(scene, purchase, signed)
        stage.arrow("→", f"GET /api/resource, with {bought.purchase.credential.name} (the signature)")
        stage.arrow("←", f"{response.status_code} {response.reason_phrase}, with PAYMENT-RESPONSE (the receipt)")
        content = response.json()
        stage.pairs(
            [
                ("body", _abridged(response.text.strip())),
                ("payment", str(purchase.payment_id)),
                ("transaction", receipt.transaction if receipt else "none"),
            ]
        )
        step.facts.update(
            authorization=signed["payload"]["authorization"],
            status=response.status_code,
            body=content,
            paymentId=purchase.payment_id,
            transaction=receipt.transaction if receipt else None,
        )
        stage.check(
            response.status_code == 200 and content["payment"]["paymentId"] == purchase.payment_id,
            "the resource came, and its handler was told who paid",
        )
        nonce = bytes.fromhex(signed["payload"]["authorization"]["nonce"][2:])
        stage.check(
            is_derived(nonce, signed["accepted"]["extra"]["quote"], parse_address(purchase.payer)),
            "the signature covers the quote: it can buy nothing else",
        )
        stage.check(
            receipt is not None and receipt.settled and scene.moved(before) == (1_000, 1_000),
            "the money moved: 0.001 USDC from the buyer, 0.001 USDC to the seller",
        )


def _show_signed(scene: Scene, purchase: PurchaseRow, signed: dict[str, Any]) -> None:
    authorization = signed["payload"]["authorization"]
    scene.stage.pairs(
        [
            (
                "signs",
                f"TransferWithAuthorization (EIP-3009) of {SANDBOX_TOKEN.name} on chain {SANDBOX_TOKEN.chain_id}",
            ),
            ("from", authorization["from"]),
            ("to", authorization["to"]),
            ("value", f"{authorization['value']} atomic units = {purchase.price}"),
            ("valid until", local_time(int(authorization["validBefore"]) * 1000)),
            ("nonce", f"{authorization['nonce'][:22]}… derived from the quote"),
            ("within", str(scene.journal.budget)),
        ]
    )


def books(scene: Scene) -> None:
    stage = scene.stage
    with stage.step("books", "Both sides have written it down") as step:
        records, purchases = scene.records(), [purchase_record(row) for row in scene.purchases()]
        stage.table(
            [
                Column("book", rigid=True),
                Column("amount", right=True, rigid=True),
                Column("endpoint", keep="end", least=16),
                Column("status", rigid=True),
                Column("payment", rigid=True),
            ],
            [
                (
                    book,
                    f"{record.amount} {record.currency}",
                    record.endpoint,
                    record.status,
                    short_id(str(record.metadata["paymentId"])),
                )
                for book, record in [*(("seller", r) for r in records), *(("buyer", r) for r in purchases)]
            ],
        )
        step.facts.update(seller=len(records), buyer=len(purchases))
        stage.check(
            len(records) == len(purchases) == 1 and records[0].payment_token == purchases[0].payment_token,
            "one row each, and they name the same payment",
        )
        stage.check(
            all(record.status == "success" and record.amount == "0.001" for record in [*records, *purchases]),
            "both say success, and the same amount",
        )


def _money(atomic: str) -> Money:
    return SANDBOX_TOKEN.asset.money(int(atomic))


def _abridged(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
