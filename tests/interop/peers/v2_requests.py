"""Pay ``PAY_URL`` with the official Python SDK (x402 v2) over requests."""

from __future__ import annotations

import os

from eth_account import Account
from report import finish
from x402 import SchemeRegistration, x402ClientConfig, x402ClientSync
from x402.http.clients.requests import x402_requests
from x402.mechanisms.evm.exact import ExactEvmScheme


def make_client() -> x402ClientSync:
    account = Account.from_key(os.environ["EVM_PRIVATE_KEY"])
    return x402ClientSync.from_config(
        x402ClientConfig(
            schemes=[SchemeRegistration(network="eip155:*", client=ExactEvmScheme(account))],
            spend_controls={
                "allowed_assets": [{"network": os.environ["PAY_NETWORK"], "asset": os.environ["PAY_ASSET"]}]
            },
        )
    )


def pay() -> None:
    with x402_requests(make_client()) as session:
        response = session.get(os.environ["PAY_URL"], timeout=30)
        finish(response.status_code, response.headers, response.text, "PAYMENT-RESPONSE")


if __name__ == "__main__":
    pay()
