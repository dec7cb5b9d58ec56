"""Any sequence of commands means the same to the reference ledger and to the SQLite engine, and breaks no invariant."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.kit.ledger_twins import Twins, check_invariants
from tests.kit.ledgers import LEASE, NOW, RESPONSE, capture, end_settle, moved, refund, release, reserve

from micropaywall.core import book
from micropaywall.core.model import Rejected, Unknown

NAMES = st.sampled_from(["a", "b", "c", "account"])
OWNERS = st.sampled_from(["w1", "w2"])
MODES = st.sampled_from(["before", "after", "deferred"])
WAITS = st.sampled_from([0, 1, 5_000, 60_000, LEASE, 300_000, 400_000])
AMOUNTS = st.sampled_from([0, 1, 300, 700, 1000])


class Books(RuleBasedStateMachine):
    """Few payments, few owners, a clock that jumps: collisions are the point."""

    @initialize()
    def begin(self) -> None:
        self.twins = Twins()
        self.now = NOW
        self.applied: list[Any] = []
        self.refund_ids: list[book.BeginRefund] = []
        self.mode = dict.fromkeys("abc", "after") | {"account": "before"}

    def some(self, index: int) -> Any:
        return self.applied[index % len(self.applied)] if self.applied else None

    @rule(wait=WAITS)
    def wait(self, wait: int) -> None:
        self.now += wait

    def a_reserve(self, name: str, body: str, owner: str, mode: str, amount: int, cap: int, key: str) -> book.Reserve:
        account = name == "account"
        return reserve(
            name,
            request="" if account else "GET /a",
            body=body,
            at=self.now,
            owner=owner,
            mode=mode,
            begin_settle=mode == "before",
            charge_amount=amount if account else 1000,
            exposure_cap=cap if mode == "deferred" else None,
            idempotency_key=key if account else "",
            payer="0x" + ("aa" if name in "ab" else "cc") * 20,
        )

    @rule(
        names=st.lists(NAMES, min_size=1, max_size=3),
        body=st.sampled_from(["x", "y"]),
        owner=OWNERS,
        mode=MODES,
        amount=AMOUNTS,
        cap=st.sampled_from([999, 1_000, 2_500]),
        key=st.sampled_from(["", "k1", "k2"]),
    )
    def reserve(self, names: list[str], body: str, owner: str, mode: str, amount: int, cap: int, key: str) -> None:
        commands = [self.a_reserve(name, body, owner, mode, amount, cap, key) for name in names]
        answers = self.twins.apply(*commands, commands[0])
        self.applied += [a for a in answers[: len(commands)] if isinstance(a, book.Applied)]

    @rule(
        index=st.integers(0, 50),
        owner=OWNERS,
        amount=AMOUNTS,
        kept=st.booleans(),
        begin=st.booleans(),
        due=st.sampled_from([None, 0, 5_000]),
    )
    def capture(self, index: int, owner: str, amount: int, kept: bool, begin: bool, due: int | None) -> None:
        if applied := self.some(index):
            command = capture(
                applied,
                at=self.now,
                owner=owner,
                amount=amount,
                response=RESPONSE if kept else None,
                begin_settle=begin,
                settle_due_ms=None if due is None else self.now + due,
            )
            self.twins.apply(command)

    @rule(index=st.integers(0, 50), owner=OWNERS)
    def release(self, index: int, owner: str) -> None:
        if applied := self.some(index):
            self.twins.apply(release(applied, at=self.now, owner=owner))

    @rule(index=st.integers(0, 50), kept=st.booleans())
    def delivered(self, index: int, kept: bool) -> None:
        if applied := self.some(index):
            self.twins.apply(
                book.Delivered(charge_id=applied.charge_id, now_ms=self.now, response=RESPONSE if kept else None)
            )

    @rule(index=st.integers(0, 50), owner=OWNERS, wait=WAITS)
    def extend(self, index: int, owner: str, wait: int) -> None:
        if applied := self.some(index):
            self.twins.apply(
                book.Extend(charge_id=applied.charge_id, owner=owner, now_ms=self.now, lease_until_ms=self.now + wait)
            )

    @rule(index=st.integers(0, 50), owner=OWNERS)
    def begin_settle(self, index: int, owner: str) -> None:
        if applied := self.some(index):
            self.twins.apply(
                book.BeginSettle(
                    payment_id=applied.payment_id, owner=owner, now_ms=self.now, lease_until_ms=self.now + 60_000
                )
            )

    @rule(
        index=st.integers(0, 50),
        owner=OWNERS,
        outcome=st.sampled_from(
            [moved(), moved(final=True), moved(999), Rejected("no funds"), Unknown("lost"), Unknown("lost", "0xabc")]
        ),
        retry=st.sampled_from([None, 1, 60_000]),
    )
    def end_settle(self, index: int, owner: str, outcome: Any, retry: int | None) -> None:
        if applied := self.some(index):
            retry_ms = None if retry is None else self.now + retry
            self.twins.apply(end_settle(applied, outcome, at=self.now, owner=owner, retry_ms=retry_ms))

    @rule(index=st.integers(0, 50))
    def reorganise(self, index: int) -> None:
        if applied := self.some(index):
            self.twins.apply(book.Reorganise(payment_id=applied.payment_id, now_ms=self.now))

    @rule(index=st.integers(0, 50), amount=AMOUNTS, mine=st.booleans(), again=st.booleans())
    def begin_refund(self, index: int, amount: int, mine: bool, again: bool) -> None:
        if applied := self.some(index):
            command = refund(applied, amount, at=self.now, lease_until_ms=self.now + 60_000 if mine else 0)
            if again and self.refund_ids:
                known = self.refund_ids[index % len(self.refund_ids)]
                command = refund(applied, amount, at=self.now, refund_id=known.refund_id)
            self.twins.apply(command)
            if command.refund_id in self.twins.state.refunds:
                self.refund_ids.append(command)

    @rule(
        index=st.integers(0, 20),
        owner=OWNERS,
        outcome=st.sampled_from(["settled", "rejected", "unknown"]),
        retry=st.sampled_from([None, 1]),
    )
    def end_refund(self, index: int, owner: str, outcome: str, retry: int | None) -> None:
        refunds = list(self.twins.state.refunds.values())
        if refunds:
            one = refunds[index % len(refunds)]
            kind: Any = {"settled": moved(one.amount), "rejected": Rejected("low"), "unknown": Unknown("lost")}[outcome]
            retry_ms = None if retry is None else self.now + retry
            self.twins.apply(
                book.EndRefund(refund_id=one.id, owner=owner, now_ms=self.now, outcome=kind, retry_ms=retry_ms)
            )

    @rule(index=st.integers(0, 20))
    def cancel_refund(self, index: int) -> None:
        refunds = list(self.twins.state.refunds.values())
        if refunds:
            one = refunds[index % len(refunds)]
            self.twins.apply(book.CancelRefund(refund_id=one.id, now_ms=self.now, reason="changed my mind"))

    @rule(owner=OWNERS, limit=st.sampled_from([1, 2, 100]))
    def work(self, owner: str, limit: int) -> None:
        self.twins.lease_work(owner=owner, now_ms=self.now, lease_until_ms=self.now + 60_000, limit=limit)

    @invariant()
    def the_same(self) -> None:
        if hasattr(self, "twins"):
            self.twins.compare()
            check_invariants(self.twins.state)

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            self.twins.connection.close()


TestBooks = Books.TestCase
TestBooks.settings = settings(stateful_step_count=60)
