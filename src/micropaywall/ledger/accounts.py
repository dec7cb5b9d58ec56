"""The accounts of double entry: which one a movement debits and which one it credits.

Per asset. ``wallet:<rail>:<network>:<payee>`` is what we own on a rail, ``credit:<payer>`` what we owe a payer (negative:
delivered and not settled, exposure), ``income:<payee>`` what we earned, ``loss:<payee>`` what was delivered and never paid.
A movement names both sides, so every row adds to zero, and with it every set of rows.
"""

from __future__ import annotations

from typing import Final

ENTRY_KINDS: Final[dict[str, tuple[str, str]]] = {
    "settled": ("wallet", "credit"),
    "captured": ("credit", "income"),
    "returned": ("income", "credit"),
    "reorganised": ("credit", "wallet"),
    "refunded": ("credit", "wallet"),
    "written_off": ("loss", "credit"),
}
"""Movement: (account debited, account credited)."""


def account(kind: str, *, rail: str, network: str, payer: str, payee: str) -> str:
    """The name of the ``kind`` account (``wallet``, ``credit``, ``income``, ``loss``) of a payment with these fields."""
    if kind == "wallet":
        return f"wallet:{rail}:{network}:{payee}"
    return f"credit:{payer}" if kind == "credit" else f"{kind}:{payee}"
