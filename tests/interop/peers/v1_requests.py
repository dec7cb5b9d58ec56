"""Pay ``PAY_URL`` with the legacy Python SDK (x402 v1) over requests."""

from __future__ import annotations

import os

from eth_account import Account
from report import finish
from x402.clients.requests import x402_requests


def pay() -> None:
    session = x402_requests(Account.from_key(os.environ["EVM_PRIVATE_KEY"]), max_value=100_000)
    response = session.get(os.environ["PAY_URL"], timeout=30)
    finish(response.status_code, response.headers, response.text, "X-PAYMENT-RESPONSE")


if __name__ == "__main__":
    pay()
