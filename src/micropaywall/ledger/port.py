"""The port every ledger engine has, and every test double passes the contract tests of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, Protocol

from micropaywall.core.book import Answer, ChargeRow, Command, PaymentRow, Record, RefundRow, Work
from micropaywall.core.model import StoredResponse
from micropaywall.ids import ReplayKey, RowId
from micropaywall.money import Asset

NEWEST: Final = RowId(b"\xff" * 16)
"""Every id lies before it."""
WORDS: Final = ("payer", "endpoint", "agent", "transaction")
"""By what `Ledger.find` can look."""


class Ledger(Protocol):
    """The book. Every method may raise StoreUnavailable; none of them leaves a command half done.

    An answer is durable when it is returned: a power cut right after keeps it.
    """

    async def apply(self, command: Command) -> Answer:
        """Carry out one command; see `core.book`."""
        ...

    async def payment(self, key: ReplayKey | bytes) -> PaymentRow | None:
        """The payment with this replay key, or with a key that begins with these 20 bytes (a payment id)."""
        ...

    async def charges(self, payment_id: RowId) -> list[ChargeRow]:
        """The charges drawn from a payment, oldest first."""
        ...

    async def response(self, charge_id: RowId) -> StoredResponse | None:
        """The kept response of a charge, while retention lasts."""
        ...

    async def refunds(self, payment_id: RowId) -> list[RefundRow]:
        """The refunds of a payment, oldest first."""
        ...

    async def lease_work(self, *, owner: str, now_ms: int, lease_until_ms: int, limit: int) -> Work:
        """Release dead charges, void what expired unused, and lease what is due for settlement or refund."""
        ...

    async def unconfirmed(self, *, now_ms: int, limit: int) -> list[PaymentRow]:
        """Settled payments that are not final yet, the longest unchecked first (for confirmation and reorganisation)."""
        ...

    async def end_leases(self, *, dead: Callable[[str], bool], now_ms: int) -> int:
        """End at ``now_ms`` every lease whose owner is ``dead``, so that nobody has to wait for it to run out; how many.

        ``dead`` is asked once for each owner that holds a lease.
        """
        ...

    async def meta(self, name: str, new: bytes) -> bytes:
        """A value shared by all workers of this book (the quote key, say): ``new`` when there was none."""
        ...

    async def register(self, assets: Iterable[Asset]) -> None:
        """Remember how amounts of ``assets`` are written for people: the log has decimals and symbols of its own."""
        ...

    async def pardon(self, payer: str, asset: str) -> bool:
        """Let a suspended payer buy again; False when it was not suspended. What was lost stays written down."""
        ...

    def records(self, *, since_ms: int = 0, limit: int | None = None) -> AsyncIterator[Record]:
        """The transaction log, oldest first, for export."""
        ...

    async def find(
        self, word: str = "", value: str = "", *, before: RowId = NEWEST, limit: int = 100
    ) -> list[tuple[RowId, Record]]:
        """The newest records, newest first, each with its charge's id; the last of them is ``before`` for the next page.

        ``word`` says what must be ``value``: ``payer``, ``endpoint``, ``agent`` or ``transaction``; "" finds all.
        """
        ...

    async def close(self) -> None:
        """Finish what was accepted, then let go of the store."""
        ...
