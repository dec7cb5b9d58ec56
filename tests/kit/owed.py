"""A book with payments in the states that the settlement meets."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from micropaywall.clock import ManualClock
from micropaywall.core import book
from micropaywall.core.book import ChargeRow, PaymentRow
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import SettleMode, StoredResponse
from micropaywall.ids import Fingerprint, RowId
from micropaywall.ledger.memory import MemoryLedger
from micropaywall.ledger.port import Ledger
from micropaywall.rails.exact.types import Instruction
from tests.kit.chain import instruct, new_key, new_row_id, payment

OWNER = "seller:1"


@dataclass
class Owed:
    """A book, a clock, and steps that bring payments to where a test begins."""

    clock: ManualClock = field(default_factory=ManualClock)
    ledger: Ledger = field(default_factory=MemoryLedger)

    async def served(
        self,
        instruction: Instruction | None = None,
        *,
        mode: SettleMode = "deferred",
        owner: str = OWNER,
        lease_s: float = 60,
    ) -> PaymentRow:
        """A payment whose resource was served: due for the worker (`deferred`), or leased to ``owner`` (`after`)."""
        now = self.clock.now_ms()
        row = payment(instruction or instruct(new_key(), 1_000), mode=mode)
        charge: RowId = new_row_id()
        await self.applied(
            book.Reserve(
                payment_id=row.id,
                charge_id=charge,
                key=row.key,
                rail=row.rail,
                network=row.network,
                asset=row.asset,
                payer=row.payer,
                payee=row.payee,
                amount=row.amount,
                charge_amount=row.amount,
                mode=mode,
                dialect=row.dialect,
                binding=b"b" * 32,
                fingerprint=Fingerprint(secrets.token_bytes(32)),
                instruction=row.instruction,
                valid_before_ms=row.valid_before_ms,
                endpoint="GET /",
                url="http://seller.test/",
                owner=owner,
                now_ms=now,
                lease_until_ms=now + 60_000,
                exposure_cap=10**12 if mode == "deferred" else None,
            )
        )
        await self.applied(
            book.Capture(
                charge_id=charge,
                payment_id=row.id,
                amount=row.amount,
                owner=owner,
                now_ms=now,
                response=StoredResponse(200, (), b"served"),
                begin_settle=mode == "after",
                settle_lease_ms=now + round(lease_s * 1000),
                settle_due_ms=now if mode == "deferred" else None,
            )
        )
        return await self.row(row)

    async def refund_due(self, row: PaymentRow, amount: int) -> RowId:
        """A refund that the background has to pay."""
        refund = new_row_id()
        now = self.clock.now_ms()
        await self.applied(
            book.BeginRefund(
                refund_id=refund,
                payment_id=row.id,
                amount=amount,
                reason="test",
                owner="",
                now_ms=now,
                lease_until_ms=now,
            )
        )
        return refund

    async def applied(self, command: book.Command) -> book.Applied:
        answer = await self.ledger.apply(command)
        assert isinstance(answer, book.Applied), answer
        return answer

    async def row(self, row: PaymentRow) -> PaymentRow:
        found = await self.ledger.payment(row.key)
        assert found is not None
        return found

    async def state(self, row: PaymentRow) -> PaymentState:
        return (await self.row(row)).state

    async def charge(self, row: PaymentRow) -> ChargeRow:
        (charge,) = await self.ledger.charges(row.id)
        return charge


class Heard:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def notify(self, event: Any, /) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]
