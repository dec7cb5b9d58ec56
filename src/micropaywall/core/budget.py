"""Budgets: limits on what is spent, and whether one more payment fits. Pure.

Amounts are compared exactly: nothing is rounded, whatever the decimals of the assets that a limit adds up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, Literal, get_args

from micropaywall.core.hosts import normal_host
from micropaywall.errors import BudgetExceeded, ConfigurationError, PriceError
from micropaywall.money import Asset, Money, Price, format_decimal, parse_price

__all__ = [
    "TRUST_FACTOR",
    "WINDOW_MS",
    "Budget",
    "Limit",
    "Purchase",
    "Scope",
    "Spent",
    "SpentLookup",
    "Window",
    "applies",
    "covers",
    "spend",
]

Window = Literal["payment", "hour", "day", "month", "total"]
"""One payment, a rolling hour, day or month (30 days), or all time."""
Scope = Literal["all", "host", "payee", "asset"]

WINDOW_MS: Final[Mapping[Window, int]] = {"hour": 3_600_000, "day": 86_400_000, "month": 30 * 86_400_000}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``amount`` in each ``window``.

    ``scope`` and ``subject`` say what is added up: everything (``all``), or the payments to one host, one payee, one asset
    (CAIP-19 id). With ``subject`` "" every host (payee, asset) has the limit for itself. ``amount`` in "USD" covers all
    assets at par with the dollar; in an asset's symbol it covers that asset.
    """

    amount: Price
    window: Window
    scope: Scope = "all"
    subject: str = ""

    def __post_init__(self) -> None:
        if self.amount.unit == "":
            raise ConfigurationError(
                "a budget needs a currency: atomic units mean another amount in every asset",
                expected='"$1" or "1 USDC"',
                received=str(self.amount),
            )
        if self.window not in ("payment", *WINDOW_MS, "total") or self.scope not in ("all", "host", "payee", "asset"):
            raise ConfigurationError("a budget has a window and a scope", received=f"{self.window}, {self.scope}")
        if self.subject and self.scope == "all":
            raise ConfigurationError("a budget for everything has no subject", received=self.subject)
        if self.scope in ("host", "payee", "asset") and self.subject:
            subject = normal_host(self.subject) if self.scope == "host" else self.subject.lower()
            object.__setattr__(self, "subject", subject)

    def __str__(self) -> str:
        window = {"payment": "each", "total": "in total"}.get(self.window, f"per {self.window}")
        whose = {"all": "", "host": " at ", "payee": " to ", "asset": " in "}[self.scope] + self.subject
        if self.scope != "all" and not self.subject:
            whose = f" for each {self.scope}"
        return f"{self.amount} {window}{whose}"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that all hold. An asset that no limit covers is not spent at all."""

    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read limits as people write them, separated by commas: a price, a window and, if need be, a scope.

        Windows: ``each`` (one payment), ``an hour``, ``a day``, ``a month`` (also ``/day`` or ``per day``), ``in total``.
        Scopes: ``for each host`` (payee, asset), ``at api.example.com``, ``to 0x…``, ``in eip155:8453/erc20:0x…``.
        Raises ConfigurationError.
        """
        return cls(_parse(text))

    def __str__(self) -> str:
        return ", ".join(str(limit) for limit in self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One payment, as budgets see it. ``host`` is normal (`normal_host`), ``payee`` lower case."""

    price: Money
    host: str
    payee: str

    def subject(self, scope: Scope) -> str:
        """What the payment counts under in ``scope``."""
        return {"all": "", "host": self.host, "payee": self.payee, "asset": self.price.asset.id}[scope]


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent in one asset within a window, in whole units: ``counted`` against the budget, and ``signed`` in all.

    The difference is what sellers said they refused: that signed payments came to nothing is, for a while, their word only.
    """

    asset: Asset
    counted: Fraction
    signed: Fraction


SpentLookup = Callable[[Limit, str], Sequence[Spent]]
"""What was spent within the limit's window under (its scope, the subject given)."""

TRUST_FACTOR: Final = 2
"""What was signed within a window is at most this many times the limit, whatever sellers say they refused.

A payment that a seller says it refused is given back to the budget, though the seller could still settle it until it
expires. So a budget is exceeded at most by this factor, and only when sellers lie.
"""


def covers(unit: str, asset: Asset) -> bool:
    """Whether amounts in ``unit`` ("USD", "USDC") can be compared with amounts of ``asset``."""
    return unit != "" and unit in (asset.fiat.upper(), asset.symbol.upper())


def applies(limit: Limit, purchase: Purchase) -> bool:
    """Whether the limit has anything to say about the payment."""
    return covers(limit.amount.unit, purchase.price.asset) and limit.subject in ("", purchase.subject(limit.scope))


def spend(limits: Collection[Limit], purchase: Purchase, spent: SpentLookup) -> None:
    """Accept ``purchase`` on top of what was spent, or raise BudgetExceeded for the first limit that has no room.

    At least one limit must apply to it.
    """
    relevant = [limit for limit in limits if applies(limit, purchase)]
    price = purchase.price
    if not relevant:
        raise BudgetExceeded(
            f"no budget covers {price.asset.symbol or 'this asset'}",
            expected="a budget in its currency",
            received=str(price),
            hint='Give a budget, "$1 a day" for example, or: micropaywall budget set',
        )
    for limit in relevant:
        cap = Fraction(limit.amount.value)
        if limit.window == "payment":
            if _whole(price) > cap:
                raise BudgetExceeded(
                    f"the price is above the limit of {limit}",
                    expected=f"at most {limit.amount}",
                    received=str(price),
                    facts={"limit": str(limit)},
                )
            continue
        rows = [row for row in spent(limit, purchase.subject(limit.scope)) if covers(limit.amount.unit, row.asset)]
        counted = sum((row.counted for row in rows), Fraction(0))
        signed = sum((row.signed for row in rows), Fraction(0))
        asked = _whole(price)
        if counted + asked > cap:
            raise BudgetExceeded(
                f"the budget of {limit} has no room for this payment",
                expected=f"at most {_text(max(cap - counted, Fraction(0)))} {limit.amount.unit} more",
                received=str(price),
                facts={"limit": str(limit), "spent": _text(counted)},
            )
        if signed + asked > cap * TRUST_FACTOR:
            raise BudgetExceeded(
                f"too much was signed that sellers say they refused, for a budget of {limit}",
                expected=f"at most {_text(cap * TRUST_FACTOR)} {limit.amount.unit} signed",
                received=str(price),
                hint="See what was refused: micropaywall payments list",
                facts={"limit": str(limit), "signed": _text(signed)},
            )


def _whole(price: Money) -> Fraction:
    return Fraction(price.amount_atomic, 10**price.asset.decimals)


def _text(value: Fraction) -> str:
    return format_decimal(Decimal(value.numerator) / Decimal(value.denominator))


# -- budgets as people write them -------------------------------------------------------------------------------------

_SEPARATOR: Final = re.compile(r"\s*(?:[,;\n]|\band\b)\s*")
_LIMIT: Final = re.compile(
    r"""(?P<price>.+?)
        (?: \s+ (?P<each>each) | \s+ (?P<total>(?:in\s+)?total)
          | (?: \s*/\s* | \s+(?:per|an?)\s+ ) (?P<window>payment|call|request|hour|day|month) )
        (?: \s+ (?:for\s+each|per) \s+ (?P<per>host|payee|asset)
          | \s+ at \s+ (?P<host>\S+) | \s+ to \s+ (?P<payee>\S+) | \s+ in \s+ (?P<asset>\S+) )?""",
    re.VERBOSE | re.IGNORECASE,
)
_EXAMPLE: Final = '"$0.01 each, $1 a day" or "5 USDC in total, $0.50/hour for each host"'


def _parse(text: str) -> tuple[Limit, ...]:
    limits = [_parse_limit(part) for part in _SEPARATOR.split(text.strip()) if part]
    if not limits:
        raise ConfigurationError("the budget is empty", expected=_EXAMPLE)
    return tuple(limits)


def _parse_limit(text: str) -> Limit:
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text[:100]!r} is not a budget", expected=_EXAMPLE, received=text[:100])
    try:
        amount = parse_price(match["price"])
    except PriceError as error:
        raise ConfigurationError(
            f"{text[:100]!r} is not a budget: {error.detail}", expected=_EXAMPLE, received=match["price"][:100]
        ) from None
    word = (match["window"] or "").lower()
    window: Window = "payment"
    if match["total"]:
        window = "total"
    elif word in WINDOW_MS:
        window = next(known for known in WINDOW_MS if known == word)
    for scope in ("host", "payee", "asset"):
        if match[scope]:
            return Limit(amount, window, scope, match[scope])
    if match["per"]:
        per = next(known for known in get_args(Scope) if known == match["per"].lower())
        return Limit(amount, window, per)
    return Limit(amount, window)
