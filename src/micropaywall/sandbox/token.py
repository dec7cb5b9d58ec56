"""The sandbox network's token: USDC in everything but worth, on a chain id that no live chain uses."""

from __future__ import annotations

from typing import Final

from micropaywall.crypto.keccak import keccak256
from micropaywall.money import Asset
from micropaywall.proto.x402 import asset_id
from micropaywall.rails.exact.types import Token

__all__ = ["SANDBOX_CHAIN_ID", "SANDBOX_NETWORK", "SANDBOX_TOKEN"]

SANDBOX_CHAIN_ID: Final = 4_020_402
SANDBOX_NETWORK: Final = f"eip155:{SANDBOX_CHAIN_ID}"
_ADDRESS: Final = keccak256(b"micropaywall sandbox USDC")[12:]
"""Our own: the hash of a sentence, so that no contract of a live chain can be deployed there by anybody."""

SANDBOX_TOKEN: Final = Token(
    asset=Asset(asset_id(SANDBOX_NETWORK, "0x" + _ADDRESS.hex()), "USDC", 6, fiat="USD"),
    network=SANDBOX_NETWORK,
    chain_id=SANDBOX_CHAIN_ID,
    address=_ADDRESS,
    name="USDC",
    version="2",
    v1_network="base-sepolia",
    v1_chain_id=84_532,
    play_money=True,
)
"""x402 v1 clients can only pay networks that they enumerate, so to them the same token is on base-sepolia.

What they sign names our token's address, where that chain has no code: it can move nothing there.
"""
