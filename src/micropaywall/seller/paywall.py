"""The Paywall: everything one seller needs, opened once and shared by all adapters and endpoints of a process."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from micropaywall import limits
from micropaywall.clock import Clock, SystemClock
from micropaywall.core import book, effects
from micropaywall.core import paywall as flow
from micropaywall.core.challenge import Challenger, problem_response
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Credential, Offer, Request, StoredResponse
from micropaywall.core.routes import PriceFunction, PriceSpec, Route, RouteTable, make_route
from micropaywall.errors import ConfigurationError, CredentialMalformed, MicropaywallError, PaymentNotFound
from micropaywall.ids import RowId, key_prefix, payment_id, row_id
from micropaywall.money import Price
from micropaywall.observe import SILENT, Observer, events
from micropaywall.observe.together import Together
from micropaywall.proto import x402
from micropaywall.seller.assembly import open_ledger, open_rails
from micropaywall.seller.owner import is_dead, new_owner
from micropaywall.seller.status import payment_status
from micropaywall.settlement.events import outcome_event
from micropaywall.settlement.settler import Settler
from micropaywall.settlement.worker import SettlementWorker

_log = logging.getLogger("micropaywall.seller")

if TYPE_CHECKING:
    from micropaywall.asgi import PaywallMiddleware
    from micropaywall.ledger.port import Ledger
    from micropaywall.rails.port import Rail
    from micropaywall.wsgi import PaywallApplication

STATUS_PREFIX = "/payments/"


class Paywall:
    """Prices for an application, and the book that records what was paid.

    ``routes`` maps ``"GET /path"`` to a price, a price function or route options (see `core.routes.make_route`); endpoints may
    also be priced one by one with `contrib`. ``pay_to`` is the seller's address; on the sandbox network it may be left out.
    ``rails`` names the ways to pay (default: the sandbox network only) or holds finished `rails.port.Rail` objects.
    ``ledger`` is ``sqlite:///path`` or an open Ledger; default: the user's own book. ``public_url`` is the origin that buyers
    see (``https://api.example.com``), needed behind a reverse proxy. The ``…_bytes`` bound a response that waits for its settlement
    in memory and on disk, and one that is kept for a retry: for ``response_retention_s``, in a book that is opened here.
    ``background`` runs settlement and recovery in this process; turn it off when ``micropaywall worker`` does it. ``observer`` is
    told of what happens (`observe`).

    Nothing is opened until the first request or `start`. Raises ConfigurationError for anything that cannot work.
    """

    def __init__(
        self,
        routes: Mapping[str, PriceSpec | PriceFunction | Mapping[str, object]] | Sequence[Route] | None = None,
        *,
        pay_to: str | None = None,
        rails: Sequence[str | Rail] = ("sandbox",),
        ledger: str | Ledger | None = None,
        public_url: str | None = None,
        quote_lifetime_s: int = limits.QUOTE_LIFETIME_S,
        held_body_memory_bytes: int = limits.HELD_BODY_MEMORY_BYTES_MAX,
        held_body_disk_bytes: int = limits.HELD_BODY_DISK_BYTES_MAX,
        stored_response_bytes: int = limits.STORED_RESPONSE_BYTES_MAX,
        response_retention_s: int = limits.RESPONSE_RETENTION_S,
        settle_timeout_s: float = limits.SETTLE_TIMEOUT_S,
        background: bool = True,
        clock: Clock | None = None,
        observer: Observer = SILENT,
        rail_options: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self.table = RouteTable.of(routes or {})
        self.clock: Clock = clock or SystemClock()
        self.public_url = _origin(public_url)
        self.owner = new_owner()
        self.working: set[RowId] = set()
        self.quote_key = b""
        self.observer = SILENT if observer is SILENT else Together(observer)
        self.observed = observer is not SILENT
        self.noted_headers: frozenset[bytes] = frozenset()
        self.started = False
        self.bound = False
        self.rails: tuple[Rail, ...] = open_rails(rails, pay_to=pay_to, options=rail_options or {}, clock=self.clock)
        self._sellers = {rail.seller.name: rail.seller for rail in self.rails}
        self._offers: dict[tuple[str, Price], list[tuple[Any, Offer]]] = {}
        self._ledger_given = ledger
        self._ledger: Ledger | None = None
        self._owned = False
        self._lifetime_s = quote_lifetime_s
        self.held_memory_bytes = held_body_memory_bytes
        self.held_disk_bytes = held_body_disk_bytes
        self.stored_bytes = stored_response_bytes
        self._retention_s = response_retention_s
        self._settle_timeout_s = settle_timeout_s
        self._background = background
        self._starting: asyncio.Lock | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._worker_stop: Callable[[], None] | None = None
        self._worker_task: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._settler: Settler | None = None
        self.challenger = Challenger(b"", self.offers, self._lifetime_s)
        self.at_once: Mapping[type[effects.Effect], Callable[[], Any]] = {
            effects.NewIds: self._fresh_ids,
            effects.Now: self._now_ms,
        }  # effects that need no coroutine: two in every paid request
        for _, _, _, route in self.table.routes:
            self._check(route)

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The open book; ConfigurationError before `start`."""
        if self._ledger is None:
            raise ConfigurationError(
                "the paywall is not started", hint="await paywall.start(), or serve a request first"
            )
        return self._ledger

    @property
    def settler(self) -> Settler:
        """What settles while a buyer waits; ConfigurationError before `start`."""
        if self._settler is None:
            raise ConfigurationError(
                "the paywall is not started", hint="await paywall.start(), or serve a request first"
            )
        return self._settler

    async def start(self) -> None:
        """Open the book, recover what an earlier process left, begin background work. Idempotent."""
        if self._starting is None:
            self._starting = asyncio.Lock()
        async with self._starting:
            if not self.started:
                await self._open()

    async def _open(self) -> None:
        given = self._ledger_given
        self._owned = given is None or isinstance(given, str)
        if given is None or isinstance(given, str):
            book_ = await open_ledger(given, self.rails, self.clock, response_retention_s=self._retention_s)
        else:
            book_ = given
        self.quote_key = await book_.meta("quote_key", secrets.token_bytes(32))
        self.challenger = Challenger(self.quote_key, self.offers, self._lifetime_s)
        self.noted_headers = frozenset().union(*(getattr(rail.settlement, "noted_headers", ()) for rail in self.rails))
        settlements = {(rail.seller.name, rail.seller.network): rail.settlement for rail in self.rails}
        self._settler = Settler(
            book_,
            settlements,
            clock=self.clock,
            owner=self.owner,
            timeout_s=self._settle_timeout_s,
            observer=self.observer,
        )
        if self._background:
            worker = SettlementWorker(book_, settlements, clock=self.clock, owner=self.owner, observer=self.observer)
            self._worker_stop = worker.stop
            self._worker_task = asyncio.create_task(worker.run(), name="micropaywall-settlement")
        self._ledger = book_
        await book_.end_leases(dead=is_dead, now_ms=self.clock.now_ms())
        self._tending = asyncio.create_task(self._tend(), name="micropaywall-leases")
        self.started = True

    async def stop(self) -> None:
        """Let background work finish what it holds, then close the book (when it was opened here)."""
        if not self.started:
            return
        self.started = False
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        if self._worker_stop is not None and self._worker_task is not None:
            self._worker_stop()
            await self._worker_task
            self._worker_task = self._worker_stop = None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limits.SETTLE_TIMEOUT_S)
        if self._settler is not None:
            await self._settler.drain()
        for rail in self.rails:
            await rail.settlement.close()
        if self._ledger is not None and self._owned:
            await self._ledger.close()
        self._ledger = None

    async def _tend(self) -> None:
        """Keep the leases of what is being served here, and end those of workers that died."""
        while True:
            await asyncio.sleep(limits.LEASE_CARE_S)
            now_ms = self.clock.now_ms()
            try:
                for charge_id in tuple(self.working):
                    until_ms = now_ms + limits.CHARGE_LEASE_S * 1000
                    await self.ledger.apply(
                        book.Extend(charge_id=charge_id, owner=self.owner, now_ms=now_ms, lease_until_ms=until_ms)
                    )
                await self.ledger.end_leases(dead=is_dead, now_ms=now_ms)
            except MicropaywallError as error:
                _log.warning("leases could not be tended: %s", error.code)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold a task that must finish although its request is gone."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- adapters ----------------------------------------------------------------------------------------------------

    def asgi(self, app: Any) -> PaywallMiddleware:
        """``app`` (any ASGI application) behind this paywall."""
        from micropaywall.asgi import PaywallMiddleware

        return PaywallMiddleware(app, self)

    def wsgi(self, app: Any) -> PaywallApplication:
        """``app`` (any WSGI application) behind this paywall."""
        from micropaywall.wsgi import PaywallApplication

        return PaywallApplication(app, self)

    def route(self, name: str, price: PriceSpec | PriceFunction, **options: object) -> Route:
        """A checked Route for an endpoint that is priced by itself (used by `contrib`)."""
        route = make_route(name, {"price": price, **options})
        self._check(route)
        self.bound = True
        return route

    def _check(self, route: Route) -> None:
        if isinstance(route.price, Price) and not self.offers(route, route.price):
            raise ConfigurationError(
                f"route {route.name!r}: no rail takes payment in {route.price.unit}",
                expected=sorted({rail.seller.asset.symbol for rail in self.rails}),
                received=str(route.price),
            )

    # -- what the flow needs -----------------------------------------------------------------------------------------

    def offers(self, route: Route, price: Price) -> list[tuple[Any, Offer]]:
        """The (rail, offer without quote) pairs of ``route`` at ``price``, in the order of the rails."""
        key = (route.name, price)
        found = self._offers.get(key)
        if found is None:
            found = []
            for rail in self.rails:
                if not route.rails or rail.seller.name in route.rails:
                    offer = rail.seller.offer(price, lifetime_s=limits.AUTHORIZATION_LIFETIME_S)
                    if offer is not None:
                        found.append((rail.seller, offer))
            if len(self._offers) >= limits.CHALLENGE_CACHE_ENTRIES_MAX:
                self._offers.clear()
            self._offers[key] = found
        return found

    def url(self, scheme: str, host: str, target: str) -> str:
        """The public URL of a request; ``target`` is path and query as received."""
        return self.public_url + target if self.public_url else f"{scheme}://{host}{target}"

    async def price(self, route: Route, request: Request) -> Price | None:
        """The price of ``request`` outside a flow (for a 402)."""
        steps = flow.price_of(route, request)
        try:
            effect = next(steps)
            while True:
                effect = steps.send(await self.perform(effect))
        except StopIteration as done:
            price: Price | None = done.value
            return price

    def _now_ms(self) -> int:
        return self.clock.now_ms()

    def _fresh_ids(self) -> tuple[int, RowId, RowId]:
        now_ms = self.clock.now_ms()
        noise = os.urandom(20)
        return now_ms, row_id(now_ms, noise[:10]), row_id(now_ms, noise[10:])

    async def perform(self, effect: effects.Effect) -> Any:
        """Carry out one effect of the flow that does not concern the connection."""
        if isinstance(effect, effects.Book):
            return await self.ledger.apply(effect.command)
        if isinstance(effect, effects.Now):
            return self.clock.now_ms()
        if isinstance(effect, effects.NewIds):
            return self._fresh_ids()
        if isinstance(effect, effects.Settle):
            outcome = await self.settler.settle(effect.payment, ask_first=effect.ask_first)
            if self.observed:
                self.observer.notify(outcome_event(effect.payment, outcome))
            return outcome
        if isinstance(effect, effects.Tell):
            return self.observer.notify(effect.event)
        if isinstance(effect, effects.FindPayment):
            return await self.ledger.payment(effect.key)
        if isinstance(effect, effects.FindResponse):
            return await self.ledger.response(effect.charge_id)
        if isinstance(effect, effects.NoteRequest):
            return await self.settler.note_request(effect.rail, effect.network, effect.key, effect.headers)
        if isinstance(effect, effects.AskPrice) and not isinstance(effect.route.price, Price):
            spec = effect.route.price(effect.request)
            return await spec if inspect.isawaitable(spec) else spec
        raise LookupError(f"{type(effect).__name__} is for the adapter")

    async def unpaid(self, route: Route, request: Request) -> StoredResponse | None:
        """The 402 for a request without credential; None when its price function says that it is free."""
        price = route.price if isinstance(route.price, Price) else await self.price(route, request)
        if price is None:
            return None
        if self.observed:
            self.observer.notify(events.Offered(route=route.name, price=str(price)))
        return self.challenger.unpaid(route, request, price, now_s=self.clock.now_ms() // 1000)

    async def refused(self, route: Route, request: Request, error: MicropaywallError) -> StoredResponse:
        """The answer to a refused credential."""
        if self.observed:
            ident = str(error.facts.get("paymentId", ""))
            self.observer.notify(events.Refused(route=route.name, code=error.code, payment_id=ident))
        price: Price | None = None
        if error.status == 402:
            price = route.price if isinstance(route.price, Price) else await self.price(route, request)
        return self.challenger.refused(route, request, price, error, now_s=self.clock.now_ms() // 1000)

    async def status(self, request: Request) -> StoredResponse:
        """``GET /payments/{id}`` and ``…/response`` for the holder of the credential; PaymentNotFound for all others."""
        try:
            return await self._status(request)
        except MicropaywallError as error:
            return problem_response(error)

    async def _status(self, request: Request) -> StoredResponse:
        name, _, part = request.path.removeprefix(STATUS_PREFIX).partition("/")
        prefix = key_prefix(name)
        if request.method not in ("GET", "HEAD") or prefix is None or part not in ("", "response"):
            raise PaymentNotFound(
                "there is nothing at this address", expected="GET /payments/pay_… or GET /payments/pay_…/response"
            )
        credential = x402.read_credential(request.headers)
        if credential is None:
            raise PaymentNotFound(
                "a payment is shown to the holder of its credential", hint="Send the payment header with it."
            )
        row = await self.ledger.payment(prefix)
        if row is None or not self._holds(credential, row):
            raise PaymentNotFound("no such payment for this credential", facts={"paymentId": name})
        charges = await self.ledger.charges(row.id)
        served = next(
            (c for c in reversed(charges) if c.response_status is not None and c.state.value == "captured"), None
        )
        kept = None
        if served is not None and self._may_show(row):
            kept = await self.ledger.response(served.id)
        if part == "response":
            if kept is None:
                raise PaymentNotFound("no response is kept for this payment", facts={"paymentId": payment_id(row.key)})
            return kept
        return payment_status(row, charges, kept)

    def _holds(self, credential: Credential, row: book.PaymentRow) -> bool:
        for rail in self.rails:
            if rail.seller.accepts(credential):
                try:
                    key, instruction = rail.seller.identify(credential)
                except CredentialMalformed:
                    continue
                if key == row.key and secrets.compare_digest(instruction, row.instruction):
                    return True
        return False

    @staticmethod
    def _may_show(row: book.PaymentRow) -> bool:
        if row.mode == "deferred":
            return row.state is not PaymentState.FAILED
        return row.state in (PaymentState.SETTLED, PaymentState.FINAL)


def _origin(public_url: str | None) -> str:
    if not public_url:
        return ""
    from urllib.parse import urlsplit

    parts = urlsplit(public_url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ConfigurationError(
            "public_url is the origin that buyers see", expected="https://api.example.com", received=public_url
        )
    return public_url.rstrip("/")
