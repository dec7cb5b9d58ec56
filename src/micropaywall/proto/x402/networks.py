"""Network names of x402 v1 and their CAIP-2 ids.

v1 clients enumerate the networks that they know and reject the whole challenge when one entry is another. A seller may
therefore offer only those that every legacy client knows; a buyer reads all that any of them knows.
"""

from __future__ import annotations

from typing import Final

__all__ = ["V1_CHAIN_IDS", "V1_OFFERABLE", "caip2_of_v1", "v1_of_caip2"]

V1_CHAIN_IDS: Final = {
    "abstract": 2741,
    "abstract-testnet": 11124,
    "avalanche": 43114,
    "avalanche-fuji": 43113,
    "base": 8453,
    "base-sepolia": 84532,
    "celo": 42220,
    "educhain": 656476,
    "ethereum": 1,
    "flare": 14,
    "iotex": 4689,
    "megaeth": 4326,
    "monad": 143,
    "monad-testnet": 10143,
    "peaq": 3338,
    "polygon": 137,
    "polygon-amoy": 80002,
    "sei": 1329,
    "sei-testnet": 1328,
    "skale-base-sepolia": 1444673419,
    "stable": 988,
    "stable-testnet": 2201,
    "story": 1513,
}
"""EVM network names of v1 with their chain ids (PyPI x402 2.25.0, mechanisms/evm/v1/constants.py)."""

V1_OFFERABLE: Final = frozenset({"base", "base-sepolia", "avalanche", "avalanche-fuji"})
"""Names that both legacy clients enumerate: PyPI x402 0.2.1 (networks.py) has these four, npm x402-fetch 1.2.0 more."""

_BY_CAIP2: Final = {f"eip155:{chain_id}": name for name, chain_id in V1_CHAIN_IDS.items()}


def caip2_of_v1(name: str) -> str | None:
    """The CAIP-2 id of a v1 network name, or None when it is none of an EVM chain."""
    chain_id = V1_CHAIN_IDS.get(name)
    return None if chain_id is None else f"eip155:{chain_id}"


def v1_of_caip2(network: str) -> str:
    """The v1 name of a CAIP-2 network, or "" when v1 has none."""
    return _BY_CAIP2.get(network, "")
