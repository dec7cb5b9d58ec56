"""Amounts of money: whole numbers with an asset. No float anywhere.

An amount inside the program is always a :class:`Money`: an ``int`` of the asset's smallest unit (``amount_atomic``)
together with the :class:`Asset`. ``Decimal`` appears only where people read or write a price.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from micropaywall.errors import PriceError

__all__ = ["BTC", "MAX_ATOMIC", "Asset", "Money", "Price", "parse_price"]

MAX_ATOMIC: Final = 2**62 - 1
"""Largest amount the book takes, in atomic units: signed 64-bit columns, with room to add two amounts."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A unit of value on a network.

    ``id`` is CAIP-19 (``eip155:8453/erc20:0x…``) or, off chain, a plain name (``btc``); equal ids are the same asset.
    ``symbol`` is what people call it, ``decimals`` how many digits its smallest unit is away from one whole.
    ``fiat`` names the currency a ``"$…"`` price may be paid in at par (``"USD"`` for USDC), or "".
    """

    id: str
    symbol: str
    decimals: int
    fiat: str = ""

    def money(self, amount_atomic: int) -> Money:
        """``amount_atomic`` of this asset."""
        return Money(amount_atomic, self)

    def from_decimal(self, value: Decimal) -> Money:
        """``value`` whole units of this asset; PriceError when it has more decimals than the asset."""
        scaled = value.scaleb(self.decimals)
        if scaled != scaled.to_integral_value():
            raise PriceError(
                f"{value} {self.symbol} has more than {self.decimals} decimals, the most that {self.symbol} has",
                expected=f"at most {self.decimals} decimals",
                received=str(value),
                hint="Round the price yourself; micropaywall never rounds money.",
            )
        return Money(int(scaled), self)


BTC: Final = Asset("btc", "BTC", 8)
"""Bitcoin in satoshis, for prices that a Lightning rail will take."""


@dataclass(frozen=True, slots=True)
class Money:
    """``amount_atomic`` smallest units of ``asset``; zero or more, at most MAX_ATOMIC."""

    amount_atomic: int
    asset: Asset

    def __post_init__(self) -> None:
        if type(self.amount_atomic) is not int:
            raise PriceError("an amount is a whole number of atomic units", received=repr(self.amount_atomic))
        if not 0 <= self.amount_atomic <= MAX_ATOMIC:
            raise PriceError(
                "an amount is between 0 and 2^62-1 atomic units",
                expected=f"0..{MAX_ATOMIC}",
                received=self.amount_atomic,
            )

    @property
    def decimal(self) -> Decimal:
        """The amount in whole units, exact."""
        return Decimal(self.amount_atomic).scaleb(-self.asset.decimals)

    def __str__(self) -> str:
        return f"{format_decimal(self.decimal)} {self.asset.symbol}"

    def __add__(self, other: Money) -> Money:
        if other.asset != self.asset:
            raise PriceError(f"{self.asset.symbol} and {other.asset.symbol} do not add up")
        return Money(self.amount_atomic + other.amount_atomic, self.asset)


def format_decimal(value: Decimal) -> str:
    """``value`` in plain notation, without an exponent and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Price:
    """What a seller asks, before a rail says in which asset it is paid.

    ``value`` is in whole units of ``unit`` (``"USD"``, ``"USDC"``, ``"BTC"`` …), or, with ``unit`` "", an amount in the
    atomic units of whichever asset the rail has.
    """

    value: Decimal
    unit: str

    def in_asset(self, asset: Asset) -> Money | None:
        """The same price in ``asset``, or None when the asset cannot pay it (another unit)."""
        if self.unit == "":
            return Money(int(self.value), asset)
        if self.unit in (asset.symbol.upper(), asset.fiat.upper()):
            return asset.from_decimal(self.value)
        return None

    def __str__(self) -> str:
        if self.unit == "USD":
            return f"${format_decimal(self.value)}"
        return f"{format_decimal(self.value)} {self.unit or 'atomic units'}"


_NUMBER = r"(?P<number>(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?)"
_DOLLARS = re.compile(rf"\$\s?{_NUMBER}", re.ASCII)
_UNIT = re.compile(rf"{_NUMBER}\s*(?P<unit>[A-Za-z][A-Za-z0-9.]{{0,11}})", re.ASCII)
_SATS = {"SAT": Decimal(1), "SATS": Decimal(1), "MSAT": Decimal("0.001")}


def parse_price(value: str | int | Money | Price) -> Price:
    """Read a price: ``"$0.001"``, ``"0.001 USDC"``, ``"0.001 BTC"``, ``"10 sat"``, an int of atomic units, or Money.

    Raises PriceError for anything else: negative, zero, exponent, thousands separators, a float, a bare number in a string
    (which could mean dollars or atomic units).
    """
    price = _read(value)
    if price.value <= 0:
        raise PriceError("a price is more than zero", received=str(value), hint="Leave the price off to serve it free.")
    return price


def _read(value: str | int | Money | Price) -> Price:
    if isinstance(value, Price):
        return value
    if isinstance(value, Money):
        return Price(value.decimal, value.asset.symbol.upper())
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise PriceError(
            f"a price is a string, an int of atomic units or Money, not {type(value).__name__}",
            expected='"$0.001", "0.001 USDC", "10 sat" or 1000',
            received=repr(value),
            hint="Write it as a string: floats cannot hold most prices exactly.",
        )
    if isinstance(value, int):
        if not 0 <= value <= MAX_ATOMIC:
            raise PriceError("a price is more than zero and below 2^62 atomic units", received=value)
        return Price(Decimal(value), "")
    text = value.strip()
    if match := _DOLLARS.fullmatch(text):
        return Price(Decimal(match["number"]), "USD")
    if match := _UNIT.fullmatch(text):
        number, unit = Decimal(match["number"]), match["unit"].upper()
        if unit in _SATS:
            sats = number * _SATS[unit]
            if sats != sats.to_integral_value():
                raise PriceError("a satoshi is the smallest unit of a Bitcoin price", received=value)
            return Price(sats.scaleb(-8), "BTC")
        return Price(number, unit)
    raise PriceError(
        f"{value!r} is not a price",
        expected='"$0.001", "0.001 USDC", "0.001 BTC", "10 sat" or an int of atomic units',
        received=value,
        hint='A bare number in a string is ambiguous: write "$0.001" or 1000 (atomic units).',
    )
