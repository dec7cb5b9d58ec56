"""Pay ``PAY_URL`` with the official Python SDK (x402 v2) over httpx."""

from __future__ import annotations

import asyncio
import os

from eth_account import Account
from report import finish
from x402 import SchemeRegistration, x402Client, x402ClientConfig
from x402.http.clients.httpx import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme


def make_client() -> x402Client:
    account = Account.from_key(os.environ["EVM_PRIVATE_KEY"])
    return x402Client.from_config(
        x402ClientConfig(
            schemes=[SchemeRegistration(network="eip155:*", client=ExactEvmScheme(account))],
            spend_controls={
                "allowed_assets": [{"network": os.environ["PAY_NETWORK"], "asset": os.environ["PAY_ASSET"]}]
            },
        )
    )


async def pay() -> None:
    async with x402HttpxClient(make_client(), timeout=30) as http:
        response = await http.get(os.environ["PAY_URL"])
        await response.aread()
        finish(response.status_code, response.headers, response.text, "PAYMENT-RESPONSE")


if __name__ == "__main__":
    asyncio.run(pay())
