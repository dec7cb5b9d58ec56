"""Pay ``PAY_URL`` with the legacy Python SDK (x402 v1) over httpx."""

from __future__ import annotations

import asyncio
import os

from eth_account import Account
from report import finish
from x402.clients.httpx import x402HttpxClient


async def pay() -> None:
    account = Account.from_key(os.environ["EVM_PRIVATE_KEY"])
    async with x402HttpxClient(account=account, max_value=100_000, timeout=30) as http:
        response = await http.get(os.environ["PAY_URL"])
        await response.aread()
        finish(response.status_code, response.headers, response.text, "X-PAYMENT-RESPONSE")


if __name__ == "__main__":
    asyncio.run(pay())
