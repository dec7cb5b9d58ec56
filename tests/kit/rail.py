"""A settlement that does what a test tells it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from micropaywall.core.book import PaymentRow, RefundRow
from micropaywall.core.model import Outcome, Settled, Unknown

Answer = Outcome | BaseException | float | Callable[[PaymentRow], Outcome]
"""An outcome, an exception to raise, seconds to hang (then success), or a function of the row."""


class ScriptedSettlement:
    """Answers each call from a list; when that is empty, `settle` succeeds and `status` says absent."""

    def __init__(self) -> None:
        self.settles: deque[Answer] = deque()
        self.asks: deque[Answer] = deque()
        self.refund_answers: deque[Outcome | BaseException] = deque()
        self.calls: list[tuple[str, bytes]] = []
        self.under_way: dict[bytes, int] = {}
        self.most_under_way = 0
        self.gate: asyncio.Event | None = None
        self.closed = False

    async def settle(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        return await self._each("settle", payments, self.settles, moved)

    async def status(self, payments: Sequence[PaymentRow]) -> list[Outcome]:
        return await self._each("status", payments, self.asks, lambda _: Unknown("nothing there", doubt="absent"))

    async def refund(self, refund: RefundRow) -> Outcome:
        self.calls.append(("refund", refund.id))
        answer = self.refund_answers.popleft() if self.refund_answers else Settled("0xrefund", refund.amount)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed = True

    def made(self, what: str) -> int:
        return sum(1 for name, _ in self.calls if name == what)

    async def _each(
        self,
        what: str,
        payments: Sequence[PaymentRow],
        script: deque[Answer],
        default: Callable[[PaymentRow], Outcome],
    ) -> list[Outcome]:
        return [await self._one(what, row, script.popleft() if script else default) for row in payments]

    async def _one(self, what: str, row: PaymentRow, answer: Answer) -> Outcome:
        self.calls.append((what, row.key))
        if what == "settle":
            self.under_way[row.key] = self.under_way.get(row.key, 0) + 1
            self.most_under_way = max(self.most_under_way, self.under_way[row.key])
        try:
            if self.gate is not None:
                await self.gate.wait()
            await asyncio.sleep(answer if isinstance(answer, float) else 0)
        finally:
            if what == "settle":
                self.under_way[row.key] -= 1
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, float):
            return moved(row)
        return answer(row) if callable(answer) else answer


def moved(row: PaymentRow, *, final: bool = False, block: int = 1) -> Settled:
    """Success, as every rail reports it."""
    return Settled("0x" + row.key.hex(), row.amount, block, final)
