"""What each account of a SQLite book comes to, from its journal."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from micropaywall.errors import StoreUnavailable
from micropaywall.ledger import statements as sql
from micropaywall.ledger.accounts import ENTRY_KINDS, account
from micropaywall.ledger.sqlite import files
from micropaywall.ledger.sqlite.alone import check_ours
from micropaywall.money import Asset, format_decimal

__all__ = ["Balance", "balances"]

_LOW_BITS: Final = 32
# In halves: a sum of 64-bit amounts does not fit into 64 bits.
_MOVEMENTS: Final = """
SELECT j.kind, p.rail, p.network, p.payer, p.payee, p.asset, SUM(j.amount >> 32), SUM(j.amount & 0xFFFFFFFF)
FROM journal j JOIN payments p ON p.no = j.payment_no WHERE j.amount > 0
GROUP BY j.kind, p.rail, p.network, p.payer, p.payee, p.asset"""
_CARRIED: Final = "SELECT account, asset, debit, credit FROM carried"
_OWNED: Final = ("wallet", "loss")
"""Accounts that grow with debits; the others grow with credits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's balance in one asset; an asset that the book does not know has neither symbol nor decimals.

    ``wallet:…`` is what came in and was not given back, ``credit:<payer>`` what that payer may still draw (negative:
    delivered and not settled), ``income:…`` what was earned, ``loss:…`` what was delivered and never paid. In each asset,
    wallets and losses come to credits and income.
    """

    account: str
    amount_atomic: int
    asset: Asset

    def __str__(self) -> str:
        whole = Decimal(self.amount_atomic).scaleb(-self.asset.decimals)
        return f"{format_decimal(whole)} {self.asset.symbol or self.asset.id}"


def balances(path: Path) -> list[Balance]:
    """The balances of the book at ``path`` that are not zero, by asset and account; servers may run.

    Raises StoreUnavailable, or ConfigurationError when the file is not a book of this version.
    """
    if not path.is_file():
        raise StoreUnavailable(f"there is no book at {path}")
    totals: defaultdict[tuple[str, str], int] = defaultdict(int)
    try:
        with closing(files.connect(path, read_only=True)) as book:
            check_ours(book, path)
            files.check_version(path, book)
            book.execute("BEGIN")  # all of it as it is at one moment
            for kind, rail, network, payer, payee, asset, high, low in book.execute(_MOVEMENTS):
                for side, name in zip((1, -1), ENTRY_KINDS.get(kind, ()), strict=False):
                    place = account(name, rail=rail, network=network, payer=payer, payee=payee)
                    totals[asset, place] += side * ((high << _LOW_BITS) + low)
            for place, asset, debit, credit in book.execute(_CARRIED):
                totals[asset, place] += debit - credit
            known = {row[0]: Asset(*row) for row in book.execute(sql.ASSETS)}
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the book {path} cannot be read: {error}") from error
    return [
        Balance(
            account=place,
            amount_atomic=debited if place.partition(":")[0] in _OWNED else -debited,
            asset=known.get(asset, Asset(asset, "", 0)),
        )
        for (asset, place), debited in sorted(totals.items())
        if debited
    ]
