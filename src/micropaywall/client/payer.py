"""A buyer without the network: wallet, budget, policy and store, behind the effects of the buyer's flow.

The clients add what sends requests. `Payer` is also what other carriers of payments (tools, agents) are built on.
"""

from __future__ import annotations

import contextlib
import inspect
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from micropaywall.client.wallet import Wallet
from micropaywall.clock import Clock, SystemClock
from micropaywall.core import buyer_effects as fx
from micropaywall.core.budget import Budget
from micropaywall.core.drive import Handlers
from micropaywall.core.model import Offer, Receipt
from micropaywall.core.policy import Policy
from micropaywall.core.purchase import PurchaseEvent, PurchaseRow
from micropaywall.errors import ApprovalDenied, ConfigurationError, SignatureRefused, StoreUnavailable
from micropaywall.home import data_directory
from micropaywall.money import Asset
from micropaywall.rails.exact.buyer import ExactBuyer
from micropaywall.sandbox.token import SANDBOX_TOKEN

if TYPE_CHECKING:
    from micropaywall.rails.port import BuyerRail
    from micropaywall.spending.store import SpendingStore
    from micropaywall.wallets.signer import Signer

__all__ = ["DEFAULT_BUDGET", "Approver", "Paid", "Payer", "attach", "make_payer", "paid"]

Approver = Callable[[fx.ApprovalRequest], "bool | Awaitable[bool]"]
"""Asked before a payment that needs a person's agreement; may be asynchronous in asynchronous clients."""

DEFAULT_BUDGET: Final = Budget.parse("$0.10 each, $1 a day")
"""What may be spent when neither the program nor the user gave a budget."""

_EXTENSION: Final = "micropaywall"


@dataclass(frozen=True, slots=True)
class Paid:
    """What an answer cost: the payment as journaled, and the seller's receipt (its word, not a proof) when it sent one."""

    purchase: PurchaseRow
    receipt: Receipt | None


def paid(response: object) -> Paid | None:
    """What ``response``, from one of the paying clients, cost; None when nothing was paid for it."""
    extensions = getattr(response, "extensions", None)
    found = extensions.get(_EXTENSION) if isinstance(extensions, dict) else getattr(response, _EXTENSION, None)
    return found if isinstance(found, Paid) else None


class Payer:
    """Who pays, and within which bounds. Thread-safe; may be shared by clients.

    ``wallet``: a `Wallet`, a signer, the name of a wallet, or None for the default one. ``budget``: a `Budget`, text such
    as ``"$0.01 each, $1 a day"``, or None for the limits of `micropaywall budget set` (without any: DEFAULT_BUDGET).
    ``approve`` is asked where the policy wants a person's agreement. ``agent`` is the name that the budget is counted
    under. ``idempotency``: ``"header"`` makes a call with an Idempotency-Key header one logical call, whichever process
    makes it; ``"request"`` makes also equal requests one call while its payment has no verdict. ``rails``: how it can pay.
    """

    def __init__(
        self,
        *,
        wallet: Wallet | Signer | str | None = None,
        budget: Budget | str | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        agent: str = "default",
        idempotency: Literal["header", "request"] = "header",
        home: str | Path | None = None,
        store: SpendingStore | None = None,
        rails: Iterable[BuyerRail] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if idempotency not in ("header", "request"):
            raise ConfigurationError("idempotency is 'header' or 'request'", received=repr(idempotency)[:80])
        self._home = Path(home) if home is not None else None
        self.wallet = _wallet(wallet, self._home)
        self.budget = Budget.parse(budget) if isinstance(budget, str) else budget
        self.policy = policy or Policy()
        self.agent = agent
        self.same_if_equal = idempotency == "request"
        self._approve = approve
        self._rails: Sequence[BuyerRail] = tuple(rails) if rails is not None else (ExactBuyer((SANDBOX_TOKEN,)),)
        self._clock = clock or SystemClock()
        self._store = store
        self._own_store = store is None
        self._lock = threading.Lock()

    @property
    def store(self) -> SpendingStore:
        """Budgets and journal; opened when they are first needed."""
        from micropaywall.spending.store import SpendingStore  # not before something is bought

        with self._lock:
            if self._store is None:
                self._store = SpendingStore((self._home or data_directory()) / "spending.db", self._clock)
            return self._store

    def close(self) -> None:
        """Let go of the store, when this payer opened it."""
        with self._lock:
            if self._own_store and self._store is not None:
                self._store.close()
                self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def call(self, method: str, url: str, key: str | None) -> fx.Call:
        """The logical call of a request. ``key`` is its Idempotency-Key header, if any."""
        return fx.Call(method.upper(), url, key or "", same_if_equal=self.same_if_equal)

    def handlers(self) -> Handlers:
        """What carries out the effects that touch no network; each may block."""
        return {
            fx.OpenWallet: lambda effect: self._buyer(),
            fx.Now: lambda effect: self._clock.now_ms(),
            fx.Entropy: lambda effect: secrets.token_bytes(effect.count),
            fx.KnowHost: lambda effect: self.store.known(effect.authority),
            fx.FindCall: lambda effect: self.store.find_call(effect.agent, effect.call_key),
            fx.Reserve: lambda effect: self.store.reserve(effect.draft, effect.budget),
            fx.Sign: self._sign,
            fx.Journal: lambda effect: self.store.journal(
                effect.row, effect.key, effect.credential, effect.valid_before_s
            ),
            fx.Record: lambda effect: self.store.record(
                effect.row, effect.event, effect.moved, effect.reason, effect.status, effect.transaction
            ),
        }

    def cut_off(self, row: PurchaseRow) -> None:
        """A streamed answer broke off: the payment has no verdict again, so that the same call can send it again.

        Never raises: the caller is about to get the transport's own error.
        """
        with contextlib.suppress(StoreUnavailable):
            self.store.record(row, PurchaseEvent.CUT_OFF, "unknown", "cut_off")

    def approve(self, effect: fx.Approve) -> bool:
        """Ask the approver, synchronously."""
        answer = self._ask(effect)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()
            raise ConfigurationError("a synchronous client needs a synchronous approver")
        return answer is True

    async def approve_async(self, effect: fx.Approve) -> bool:
        """Ask the approver, which may be asynchronous."""
        answer = self._ask(effect)
        return (await answer if inspect.isawaitable(answer) else answer) is True

    def _ask(self, effect: fx.Approve) -> bool | Awaitable[bool]:
        if self._approve is None:
            raise ApprovalDenied(
                f"the payment of {effect.request.price} needs somebody's approval, and there is nobody to ask",
                received=list(effect.request.reasons),
                hint="Pass approve=… to the client.",
            )
        return self._approve(effect.request)

    def _buyer(self) -> fx.Buyer:
        signer = self.wallet.open()
        budget = self.budget
        if budget is None and not self.store.budget().limits:
            budget = DEFAULT_BUDGET
        return fx.Buyer(
            policy=self.policy,
            budget=budget,
            agent=self.agent,
            payer=signer.address,
            can_ask=self._approve is not None,
            can_pay=lambda offer: any(rail.can_pay(offer) for rail in self._rails),
            assets=self._asset,
        )

    def _asset(self, network: str, address: str) -> Asset | None:
        for rail in self._rails:
            if (asset := rail.asset_of(network, address)) is not None:
                return asset
        return None

    def _rail(self, offer: Offer) -> BuyerRail:
        for rail in self._rails:
            if rail.can_pay(offer):
                return rail
        raise SignatureRefused("none of this payer's rails pays that offer", received=offer.network)

    def _sign(self, effect: fx.Sign) -> fx.Signed:
        rail = self._rail(effect.offer)
        payload = rail.authorize(effect.offer, signer=self.wallet.open(), now_s=effect.now_s, nonce=effect.nonce)
        key, valid_before_s = rail.identify(effect.offer, payload)
        return fx.Signed(payload, key, valid_before_s)

    def __repr__(self) -> str:
        return f"Payer(wallet={self.wallet!r}, agent={self.agent!r})"


def make_payer(payer: Payer | None, **options: Any) -> Payer:
    """``payer`` itself, or one made of a client's options; ConfigurationError when both were given."""
    if payer is None:
        return Payer(**options)
    defaults = {"agent": "default", "idempotency": "header"}
    given = sorted(name for name, value in options.items() if value != defaults.get(name))
    if given:
        raise ConfigurationError("pass a payer, or what to make one of, not both", received=given)
    return payer


def _wallet(wallet: Wallet | Signer | str | None, home: Path | None) -> Wallet:
    if isinstance(wallet, Wallet):
        return wallet
    if wallet is None or isinstance(wallet, str):
        return Wallet.named(wallet, home=home)
    return Wallet.of(wallet)


def attach(response: Any, bought: fx.Bought) -> None:
    """Put what was paid where `paid` finds it."""
    if bought.purchase is None:
        return
    what = Paid(bought.purchase, bought.receipt)
    if isinstance(getattr(response, "extensions", None), dict):
        response.extensions[_EXTENSION] = what
    else:
        setattr(response, _EXTENSION, what)
