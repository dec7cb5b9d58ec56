"""Rows of the journal: SQL that several statements share, and reading a row back."""

from __future__ import annotations

import sqlite3
from typing import Final, get_args

from micropaywall.core.model import Dialect
from micropaywall.core.policy import Realm
from micropaywall.core.purchase import HeaderLine, PurchaseRow, PurchaseState
from micropaywall.errors import MoneyMoved, StoreUnavailable
from micropaywall.ids import Fingerprint, PaymentId, ReplayKey, RowId
from micropaywall.money import Asset, Money

__all__ = ["INSERT", "RECORD", "SELECT", "read_row"]

SELECT: Final = (
    "SELECT purchase.*, assets.symbol, assets.decimals, assets.fiat FROM purchase"
    " JOIN assets ON assets.id = purchase.asset"
)

_COLUMNS: Final = (
    "id", "agent", "call_key", "fingerprint", "endpoint", "origin", "authority", "host", "realm", "scheme", "network",
    "asset", "amount", "units", "payer", "payee", "dialect", "created_ms", "lease_until_ms",
)  # fmt: skip
INSERT: Final = (
    f"INSERT INTO purchase (state, {', '.join(_COLUMNS)})"  # noqa: S608 - constants
    f" VALUES ('reserved', {', '.join(':' + column for column in _COLUMNS)})"
)
"""A new reservation; takes one value for each column but ``state``."""

RECORD: Final = (
    "UPDATE purchase SET state = :state, money_moved = :moved, reason = :reason, attempts = attempts + :attempt,"
    " response_status = coalesce(:status, response_status),"
    " transaction_id = CASE WHEN :transaction <> '' THEN :transaction ELSE transaction_id END,"
    " concluded_ms = CASE WHEN :concluded THEN :now END WHERE id = :id"
)

_REALMS: Final[dict[str, Realm]] = {name: name for name in get_args(Realm)}
_DIALECTS: Final[dict[str, Dialect]] = {name: name for name in get_args(Dialect)}
_MOVED: Final[dict[str, MoneyMoved]] = {name: name for name in get_args(MoneyMoved)}


def read_row(row: sqlite3.Row) -> PurchaseRow:
    """A row of SELECT as a value."""
    try:
        return PurchaseRow(
            id=RowId(row["id"]),
            state=PurchaseState(row["state"]),
            agent=row["agent"],
            call_key=row["call_key"],
            fingerprint=Fingerprint(row["fingerprint"]),
            endpoint=row["endpoint"],
            origin=row["origin"],
            authority=row["authority"],
            realm=_REALMS[row["realm"]],
            scheme=row["scheme"],
            network=row["network"],
            price=Money(row["amount"], Asset(row["asset"], row["symbol"], row["decimals"], row["fiat"])),
            payer=row["payer"],
            payee=row["payee"],
            dialect=_DIALECTS[row["dialect"]],
            created_ms=row["created_ms"],
            key=None if row["key"] is None else ReplayKey(row["key"]),
            payment_id=None if row["payment_id"] is None else PaymentId(row["payment_id"]),
            credential=None if row["header_value"] is None else HeaderLine(row["header_name"], row["header_value"]),
            valid_before_ms=row["valid_before_ms"],
            signed_ms=row["signed_ms"],
            concluded_ms=row["concluded_ms"],
            attempts=row["attempts"],
            money_moved=_MOVED[row["money_moved"]],
            reason=row["reason"],
            response_status=row["response_status"],
            transaction=row["transaction_id"],
        )
    except (KeyError, ValueError) as error:
        raise StoreUnavailable(f"a row of the spending store cannot be read ({type(error).__name__})") from None
