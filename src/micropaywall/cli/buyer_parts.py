"""From settings and flags to somebody who buys: wallet, budget, policy, and a person to ask."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import click

from micropaywall.client import ApprovalRequest, Budget, Limit, Payer, Policy, Wallet
from micropaywall.core.policy import Reason
from micropaywall.errors import BuyerError, ConfigurationError
from micropaywall.money import parse_price

if TYPE_CHECKING:
    from micropaywall.settings import BuyerSettings

__all__ = ["budget_of", "http_client", "payer", "policy_of"]

_CLIENTS: Final = ("httpx2", "httpx")
_WHY: Final[dict[Reason, str]] = {
    "above_threshold": "it is above the amount that you want to be asked for",
    "first_payment": "this host was never paid before",
    "payee_changed": "this host asks for payment to another address than before",
}


@contextmanager
def http_client(payer: Payer, **options: Any) -> Iterator[Any]:
    """A paying client on whichever HTTP library is there; its errors come out as ours.

    Raises ConfigurationError when no library is installed or the URL is none, BuyerError when there is no answer.
    """
    api, paying = _library()
    with paying.Client(payer=payer, **options) as client:
        try:
            yield client
        except (api.InvalidURL, api.UnsupportedProtocol) as error:
            raise ConfigurationError(f"that is no URL to request: {error}", expected="http://… or https://…") from None
        except api.HTTPError as error:
            raise BuyerError(
                f"there is no answer: {error or type(error).__name__}",
                received=str(error.request.url) if getattr(error, "_request", None) is not None else None,
                hint="Is the server running, and is the address right?",
            ) from None


def _library() -> tuple[ModuleType, ModuleType]:
    for name in _CLIENTS:
        try:
            return importlib.import_module(name), importlib.import_module(f"micropaywall.client.{name}")
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("micropaywall"):
                raise
    raise ConfigurationError(
        "buying needs an HTTP client, and none is installed",
        expected=list(_CLIENTS),
        hint="pip install 'micropaywall[httpx2]'",
    )


def payer(
    buyer: BuyerSettings,
    *,
    wallet: str | None = None,
    passphrase_file: Path | None = None,
    allow_env_key: bool = False,
    max_price: str | None = None,
    yes: bool = False,
) -> Payer:
    """Who pays for `get`. Flags win over the settings."""
    if allow_env_key:
        chosen = Wallet.from_environment(allow_env_key=True)
    else:
        file = passphrase_file or (Path(buyer.passphrase_file).expanduser() if buyer.passphrase_file else None)
        chosen = Wallet.named(wallet or buyer.wallet or None, passphrase_file=file)
    return Payer(
        wallet=chosen,
        budget=budget_of(buyer, max_price),
        policy=policy_of(buyer),
        approve=(lambda _request: True) if yes else _ask if sys.stdin.isatty() and sys.stderr.isatty() else None,
        idempotency="request",  # a command that is run again after a lost answer sends the same payment again
    )


def policy_of(buyer: BuyerSettings) -> Policy:
    """The configured policy."""
    return Policy(
        approve_above=None if buyer.approve_above is None else parse_price(buyer.approve_above),
        allow_hosts=buyer.allow_hosts,
        deny_hosts=buyer.deny_hosts,
        first_payment=buyer.first_payment,
        kill_switch=buyer.kill_switch,
        allow_private_addresses=buyer.allow_private_addresses,
    )


def budget_of(buyer: BuyerSettings, max_price: str | None) -> Budget | None:
    """The configured limits and ``max_price`` for each payment; None when there are none, and the user's own hold alone."""
    limits = [
        Limit(parse_price(entry.limit), entry.window, *_scope(entry.host, entry.payee, entry.asset))
        for entry in buyer.budgets
    ]
    if max_price is not None:
        limits.append(Limit(parse_price(max_price), "payment"))
    return Budget(tuple(limits)) if limits else None


def _scope(host: str, payee: str, asset: str) -> tuple[Any, str]:
    given = [(name, value) for name, value in (("host", host), ("payee", payee), ("asset", asset)) if value]
    if len(given) > 1:
        raise ConfigurationError(
            "a budget is for a host, a payee or an asset", expected="one of them", received=[name for name, _ in given]
        )
    return given[0] if given else ("all", "")


def _ask(request: ApprovalRequest) -> bool:
    click.echo(f"{request.authority} asks for {request.price} on {request.network}, to {request.payee}", err=True)
    for reason in request.reasons:
        click.echo(f"  {_WHY[reason]}", err=True)
    return click.confirm("Pay?", default=False, err=True)
