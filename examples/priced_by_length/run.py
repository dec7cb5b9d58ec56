"""A price that depends on what is sent: a tenth of a cent for each 100 characters, around a Flask application."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flask import Flask, request

import micropaywall.client.httpx2 as paying
from micropaywall.clock import SystemClock
from micropaywall.core.model import Request
from micropaywall.testing.sandbox import PaywallSandbox
from micropaywall.testing.seller import SellerFactory

app = Flask(__name__)


@app.post("/shout")
def shout() -> str:
    return request.get_data(as_text=True).upper()


def price(asked: Request) -> int:
    """In atomic units: whole numbers, since floats cannot hold most prices."""
    hundreds = max(1, -(-len(asked.body or b"") // 100))
    return hundreds * 1_000


def main() -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        sandbox = PaywallSandbox(Path(directory), SystemClock())
        sellers = SellerFactory(sandbox)
        routes = {"POST /shout": {"price": price, "price_reads_body": True, "bind_body": True}}
        seller = sellers(app, routes, interface="wsgi")
        with paying.Client(payer=sandbox.payer) as client:
            for text in ("a few words", "many words " * 25):
                response = client.post(seller.url + "/shout", content=text)
                bought = paying.paid(response)
                print(f"{response.text[:11]} cost {bought.purchase.price if bought else 'nothing'}")
        sellers.close()
        sandbox.close()


if __name__ == "__main__":
    main()
