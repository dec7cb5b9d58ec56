"""The reference ledger behind the port: for tests and examples. Nothing survives the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from micropaywall.core.book import Answer, ChargeRow, Command, PaymentRow, Record, RefundRow, Work
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import StoredResponse
from micropaywall.errors import StoreUnavailable
from micropaywall.ids import ReplayKey, RowId
from micropaywall.ledger import rules, rules_settlement
from micropaywall.ledger.port import NEWEST
from micropaywall.ledger.records import record_of
from micropaywall.ledger.rules_state import State
from micropaywall.money import Asset


class MemoryLedger:
    """The rules over dictionaries. Passes the same contract tests as the engines."""

    def __init__(self, assets: Iterable[Asset] = ()) -> None:
        self.state = State()
        self._meta: dict[str, bytes] = {}
        self._assets = {asset.id: asset for asset in assets}
        self._open = True

    def _check(self) -> None:
        if not self._open:
            raise StoreUnavailable("the book is closed")

    async def apply(self, command: Command) -> Answer:
        self._check()
        return rules.apply(self.state, command)

    async def payment(self, key: ReplayKey | bytes) -> PaymentRow | None:
        self._check()
        if len(key) == 32:
            found = self.state.by_key.get(ReplayKey(key))
        else:
            found = next((id_ for known, id_ in self.state.by_key.items() if known.startswith(key)), None)
        return None if found is None else self.state.payments[found].row()

    async def charges(self, payment_id: RowId) -> list[ChargeRow]:
        self._check()
        payment = self.state.payments.get(payment_id)
        return [self.state.charges[id_].row() for id_ in payment.charges] if payment else []

    async def response(self, charge_id: RowId) -> StoredResponse | None:
        self._check()
        charge = self.state.charges.get(charge_id)
        return charge.response if charge else None

    async def refunds(self, payment_id: RowId) -> list[RefundRow]:
        self._check()
        payment = self.state.payments.get(payment_id)
        return [self.state.refunds[id_].row(payment) for id_ in payment.refunds] if payment else []

    async def lease_work(self, *, owner: str, now_ms: int, lease_until_ms: int, limit: int) -> Work:
        self._check()
        return rules_settlement.lease_work(
            self.state, owner=owner, now_ms=now_ms, lease_until_ms=lease_until_ms, limit=limit
        )

    async def unconfirmed(self, *, now_ms: int, limit: int) -> list[PaymentRow]:
        self._check()
        settled = [p for p in self.state.payments.values() if p.state is PaymentState.SETTLED]
        oldest = sorted(settled, key=lambda p: p.checked_ms)[:limit]
        for payment in oldest:
            payment.checked_ms = now_ms
        return [payment.row() for payment in oldest]

    async def meta(self, name: str, new: bytes) -> bytes:
        self._check()
        return self._meta.setdefault(name, new)

    async def register(self, assets: Iterable[Asset]) -> None:
        self._check()
        for asset in assets:
            self._assets.setdefault(asset.id, asset)

    async def pardon(self, payer: str, asset: str) -> bool:
        self._check()
        exposure = self.state.exposures.get((payer, asset))
        suspended = exposure is not None and exposure.suspended
        if exposure is not None:
            exposure.suspended = False
        return suspended

    async def end_leases(self, *, dead: Callable[[str], bool], now_ms: int) -> int:
        self._check()
        charges = [c for c in self.state.charges.values() if c.lease_until_ms > now_ms]
        payments = [p for p in self.state.payments.values() if p.leased(now_ms)]
        holders = [charge.owner for charge in charges] + [payment.owner for payment in payments]
        gone = {owner for owner in set(holders) if dead(owner)}
        for charge in charges:
            if charge.owner in gone:
                charge.lease_until_ms = now_ms
        for payment in payments:
            if payment.owner in gone:
                payment.due_ms = now_ms
        return sum(owner in gone for owner in holders)

    async def records(self, *, since_ms: int = 0, limit: int | None = None) -> AsyncIterator[Record]:
        self._check()
        for record in self._records(since_ms, limit):
            yield record

    def _records(self, since_ms: int, limit: int | None) -> Iterator[Record]:
        charges = sorted((c for c in self.state.charges.values() if c.created_ms >= since_ms), key=lambda c: c.id)
        for charge in charges[:limit]:
            yield record_of(self.state.payments[charge.payment_id].row(), charge.row(), self._assets)

    async def find(
        self, word: str = "", value: str = "", *, before: RowId = NEWEST, limit: int = 100
    ) -> list[tuple[RowId, Record]]:
        self._check()
        found: list[tuple[RowId, Record]] = []
        for charge in sorted(self.state.charges.values(), key=lambda c: c.id, reverse=True):
            payment = self.state.payments[charge.payment_id]
            values = {
                "": "",
                "payer": payment.payer,
                "endpoint": charge.endpoint,
                "agent": charge.agent,
                "transaction": payment.transaction if payment.settled_ms is not None else "",
            }
            if charge.id < before and values[word] == value and len(found) < limit:
                found.append((charge.id, record_of(payment.row(), charge.row(), self._assets)))
        return found

    async def close(self) -> None:
        self._open = False
