"""The two paying clients, for any generation of httpx: mixed into its `Client` and `AsyncClient`.

    client = Client(budget="$1 a day")                                   # default wallet: play money, made on first use
    client = Client(wallet="main", budget="$0.01 each, $5 a month")      # a wallet of `micropaywall wallet list`
    client = Client(payer=payer)                                         # a `Payer` that several clients share

Requests that cost nothing pass through as ever. One that is answered with a 402 is paid for within budget and policy and
sent again. Call `paid(response)` to see what it cost. Errors are those of `micropaywall.errors` (PolicyRefused,
PaymentNotAccepted, PaymentOutcomeUnknown …), besides httpx's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from micropaywall.client.bodies import ACCEPT_ENCODING
from micropaywall.client.guard import AddressGuard
from micropaywall.client.httpx_common import AsyncExchange, SyncExchange
from micropaywall.client.httpx_streams import Api
from micropaywall.client.network import guard_transport
from micropaywall.client.payer import Approver, Payer, make_payer
from micropaywall.client.wallet import Wallet
from micropaywall.core.budget import Budget
from micropaywall.core.policy import Policy
from micropaywall.core.purchase import PurchaseRow
from micropaywall.wallets.signer import Signer

__all__ = ["PayingAsyncClient", "PayingClient"]


class _Paying:
    """Making the payer and the guard; the same for both colours."""

    _api: ClassVar[Api]
    payer: Payer
    _guard: AddressGuard

    if TYPE_CHECKING:  # of the client that this is mixed into
        headers: Any
        follow_redirects: bool

    def __init__(
        self,
        *,
        wallet: Wallet | Signer | str | None = None,
        budget: Budget | str | None = None,
        policy: Policy | None = None,
        approve: Approver | None = None,
        agent: str = "default",
        idempotency: Literal["header", "request"] = "header",
        payer: Payer | None = None,
        guard: AddressGuard | None = None,
        **options: Any,
    ) -> None:
        """``options`` are the client's own. The rest is described at `Payer`, which ``payer`` is an alternative to."""
        super().__init__(**options)
        self._own_payer = payer is None
        self.payer = make_payer(
            payer, wallet=wallet, budget=budget, policy=policy, approve=approve, agent=agent, idempotency=idempotency
        )
        self._guard = guard or AddressGuard(allow_private=self.payer.policy.allow_private_addresses)
        chosen = self._api.httpx.Headers(options.get("headers"))
        if "accept-encoding" not in chosen:
            self.headers["accept-encoding"] = ACCEPT_ENCODING
        kinds = (self._api.httpx.HTTPTransport, self._api.httpx.AsyncHTTPTransport)
        for transport in (self._transport, *self._mounts.values()):  # type: ignore[attr-defined]
            guard_transport(transport, self._guard, self._api.httpcore, kinds)

    def _close_payer(self) -> None:
        if self._own_payer:
            self.payer.close()

    def _enquiry(self, kind: type[Any], row: PurchaseRow) -> Any:
        request = self._api.httpx.Request("GET", row.origin)
        auth = self._api.httpx.USE_CLIENT_DEFAULT
        send = super().send  # type: ignore[misc]
        return self._exchange(kind, send, request, stream=False, auth=auth, follow_redirects=False)

    def _exchange(
        self, kind: type[Any], send: Any, request: Any, *, stream: bool, auth: Any, follow_redirects: Any
    ) -> Any:
        follow = follow_redirects if isinstance(follow_redirects, bool) else self.follow_redirects

        def send_once(request: Any, auth: Any) -> Any:
            return send(request, stream=True, auth=auth, follow_redirects=False)

        return kind(
            api=self._api,
            client=self,
            payer=self.payer,
            guard=self._guard,
            send_once=send_once,
            request=request,
            auth=auth,
            follow=follow,
            read=not stream,
        )


_DEFAULT: Any = object()


class PayingClient(_Paying):
    """Mixed into a blocking client."""

    def send(self, request: Any, *, stream: bool = False, auth: Any = _DEFAULT, follow_redirects: Any = None) -> Any:
        """Send a request, and pay for it when that is asked and allowed."""
        auth = self._api.httpx.USE_CLIENT_DEFAULT if auth is _DEFAULT else auth
        send = super().send  # type: ignore[misc]
        options = {"stream": stream, "auth": auth, "follow_redirects": follow_redirects}
        return self._exchange(SyncExchange, send, request, **options).run()

    def reconcile(self) -> list[PurchaseRow]:
        """Ask sellers what became of the payments that have no verdict; the payments as they are then.

        One is written off only when it has expired and its seller says that it never moved.
        """
        return [self._enquiry(SyncExchange, row).enquire(row) for row in self.payer.store.open_payments()]

    def close(self) -> None:
        """Close connections, and the journal when it is this client's own."""
        super().close()  # type: ignore[misc]
        self._close_payer()

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)  # type: ignore[misc]
        self._close_payer()


class PayingAsyncClient(_Paying):
    """Mixed into an asynchronous client."""

    async def send(
        self, request: Any, *, stream: bool = False, auth: Any = _DEFAULT, follow_redirects: Any = None
    ) -> Any:
        """Send a request, and pay for it when that is asked and allowed."""
        auth = self._api.httpx.USE_CLIENT_DEFAULT if auth is _DEFAULT else auth
        send = super().send  # type: ignore[misc]
        options = {"stream": stream, "auth": auth, "follow_redirects": follow_redirects}
        return await self._exchange(AsyncExchange, send, request, **options).run()

    async def reconcile(self) -> list[PurchaseRow]:
        """Ask sellers what became of the payments that have no verdict; see `PayingClient.reconcile`."""
        from anyio import to_thread

        rows = await to_thread.run_sync(self.payer.store.open_payments)
        return [await self._enquiry(AsyncExchange, row).enquire(row) for row in rows]

    async def aclose(self) -> None:
        """Close connections, and the journal when it is this client's own."""
        await super().aclose()  # type: ignore[misc]
        self._close_payer()

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)  # type: ignore[misc]
        self._close_payer()
