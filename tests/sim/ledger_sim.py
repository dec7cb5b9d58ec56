"""A seeded life of a book: sellers, buyers, rails and crashes, against the reference ledger. A failure prints the seed."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from tests.kit.ledger_twins import Twins, check_invariants
from tests.kit.ledgers import LEASE, NOW, RESPONSE, capture, end_settle, moved, refund, release, reserve

from micropaywall.core import book
from micropaywall.core.lives import PaymentState
from micropaywall.core.model import Rejected, Unknown

OWNERS = ("w1", "w2", "w3")
MODES = ("before", "after", "deferred")


class Simulation:
    """``steps`` random steps from ``seed``; ``seen`` counts answers, states and entries, so that a test can tell that
    the interesting ones were reached.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.twins = Twins()
        self.now = NOW
        self.seen: Counter[str] = Counter()
        self.names = 0
        self.live: list[tuple[book.Reserve, book.Applied]] = []

    def run(self, steps: int, *, compare_every: int = 20) -> None:
        for step in range(steps):
            self.now += self.random.choice((0, 0, 1, 200, 5_000, 30_000))
            self.random.choices(
                (self.new, self.retry, self.attack, self.finish, self.rail, self.background, self.operator, self.crash),
                (20, 12, 6, 30, 25, 10, 6, 2),
            )[0]()
            if step % compare_every == 0:
                self.twins.compare()
                check_invariants(self.twins.state)
        self.twins.compare()
        check_invariants(self.twins.state)
        for payment in self.twins.state.payments.values():
            self.seen[f"state {payment.state.value}"] += 1
        for entry in self.twins.state.entries:
            self.seen[f"entry {entry.kind}"] += 1

    def tell(self, *commands: book.Command) -> list[Any]:
        answers = self.twins.apply(*commands)
        for command, answer in zip(commands, answers, strict=True):
            self.seen[f"{type(command).__name__} {type(answer).__name__}"] += 1
            if isinstance(command, book.Reserve) and isinstance(answer, book.Applied):
                self.live.append((command, answer))
        return answers

    def some(self) -> tuple[book.Reserve, book.Applied] | None:
        recent = self.live[-12:]
        return self.random.choice(recent if self.random.random() < 0.9 else self.live) if recent else None

    # -- what happens ------------------------------------------------------------------------------------------------

    def ask(self, name: str, mode: str, **more: Any) -> book.Reserve:
        account = name.startswith("account")
        facts: dict[str, Any] = {
            "at": self.now,
            "owner": self.random.choice(OWNERS),
            "mode": mode,
            "begin_settle": mode == "before" and self.random.random() < 0.9,
            "payer": f"0x{int(name.rpartition('-')[2]) % 7:040x}",
            "exposure_cap": 3_000 if mode == "deferred" else None,
            "valid_before_ms": self.now + 300_000,
        }
        if account:
            facts |= {"request": "", "amount": 5_000, "charge_amount": self.random.choice((0, 100, 1_500))}
            facts["idempotency_key"] = self.random.choice(("", "k1", "k2"))
        return reserve(name, **{**facts, **more})

    def new(self) -> None:
        self.names += 1
        name = f"{self.random.choice(('pay', 'pay', 'account'))}-{self.names}"
        one = self.ask(name, self.random.choice(MODES))
        others = [self.ask(f"pay-{self.names}0{n}", one.mode) for n in range(self.random.choice((0, 0, 2)))]
        self.tell(one, *others, *([one] if self.random.random() < 0.2 else []))

    def retry(self) -> None:
        if known := self.some():
            self.tell(self.same(known[0]))

    def same(self, c: book.Reserve, **more: Any) -> book.Reserve:
        fresh = reserve("x", at=self.now)
        facts = {name: getattr(c, name) for name in c.__slots__}
        facts |= {
            "payment_id": fresh.payment_id,
            "charge_id": fresh.charge_id,
            "now_ms": self.now,
            "lease_until_ms": self.now + LEASE,
            "settle_lease_ms": self.now + 60_000,
            "owner": self.random.choice(OWNERS),
        }
        return book.Reserve(**{**facts, **more})

    def attack(self) -> None:
        if known := self.some():
            wrong: dict[str, Any] = self.random.choice(
                (
                    {"fingerprint": b"\x01" * 32},
                    {"binding": b"\x02" * 32},
                    {"payee": "0x" + "66" * 20},
                    {"instruction": b"another"},
                    {"mode": self.random.choice(MODES)},
                )
            )
            self.tell(self.same(known[0], **wrong))

    def finish(self) -> None:
        if not (known := self.some()):
            return
        command, applied = known
        owner = command.owner if self.random.random() < 0.9 else self.random.choice(OWNERS)
        kind = self.random.choices(("capture", "release", "delivered", "extend"), (70, 15, 10, 5))[0]
        if kind == "capture":
            less = self.random.random() < 0.15
            self.tell(
                capture(
                    applied,
                    at=self.now,
                    owner=owner,
                    amount=command.charge_amount // 2 if less else command.charge_amount,
                    response=RESPONSE if self.random.random() < 0.8 else None,
                    begin_settle=command.mode == "after" and self.random.random() < 0.9,
                    settle_due_ms=self.now + 2_000 if command.mode == "deferred" else None,
                )
            )
        elif kind == "release":
            self.tell(release(applied, at=self.now, owner=owner))
        elif kind == "delivered":
            self.tell(book.Delivered(charge_id=applied.charge_id or b"", now_ms=self.now, response=RESPONSE))
        else:
            self.tell(
                book.Extend(
                    charge_id=applied.charge_id or b"", owner=owner, now_ms=self.now, lease_until_ms=self.now + LEASE
                )
            )

    def outcome(self, amount: int) -> Any:
        return self.random.choices(
            (moved(amount), moved(amount, final=True), Rejected("insufficient_funds"), Unknown("timed out")),
            (50, 20, 12, 18),
        )[0]

    def rail(self) -> None:
        if not (known := self.some()):
            return
        _command, applied = known
        payment = self.twins.state.payments[applied.payment_id]
        owner = payment.owner if payment.owner and self.random.random() < 0.9 else self.random.choice(OWNERS)
        chance = self.random.random()
        if chance < 0.15:
            self.tell(
                book.BeginSettle(payment_id=payment.id, owner=owner, now_ms=self.now, lease_until_ms=self.now + 60_000)
            )
        elif chance < 0.22:
            self.tell(book.Reorganise(payment_id=payment.id, now_ms=self.now))
        else:
            outcome = self.outcome(payment.amount)
            self.tell(end_settle(applied, outcome, at=self.now, owner=owner, retry_ms=self.now + 1_000))

    def background(self) -> None:
        owner = self.random.choice(OWNERS)
        limit = self.random.choice((1, 5, 100))
        work = self.twins.lease_work(owner=owner, now_ms=self.now, lease_until_ms=self.now + 60_000, limit=limit)
        for row in [*work.settle, *work.ask]:
            self.seen["work settle"] += 1
            outcome = self.outcome(row.amount)
            self.tell(end_settle(book.Applied(row.id), outcome, at=self.now, owner=owner, retry_ms=self.now + 1_000))
        for back in work.refunds:
            self.seen["work refund"] += 1
            self.tell(
                book.EndRefund(
                    refund_id=back.id,
                    owner=owner,
                    now_ms=self.now,
                    outcome=self.outcome(back.amount),
                    retry_ms=self.random.choice((None, self.now + 1_000)),
                )
            )

    def operator(self) -> None:
        if not (known := self.some()):
            return
        payment = self.twins.state.payments[known[1].payment_id]
        chance = self.random.random()
        refunds = list(self.twins.state.refunds.values())
        if chance < 0.6 or not refunds:
            settled = [
                p for p in self.twins.state.payments.values() if p.state in (PaymentState.SETTLED, PaymentState.FINAL)
            ]
            if settled and self.random.random() < 0.8:
                payment = self.random.choice(settled[-10:])
            amount = self.random.choice((1, payment.amount // 2, payment.amount, payment.amount + 1))
            self.tell(
                refund(
                    book.Applied(payment.id),
                    amount,
                    at=self.now,
                    lease_until_ms=self.random.choice((0, self.now + 60_000)),
                )
            )
        else:
            back = self.random.choice(refunds[-4:])
            if chance < 0.8:
                self.tell(book.CancelRefund(refund_id=back.id, now_ms=self.now))
            else:
                self.tell(
                    book.EndRefund(
                        refund_id=back.id, owner=back.owner, now_ms=self.now, outcome=self.outcome(back.amount)
                    )
                )

    def crash(self) -> None:
        """Everybody is gone for a while; leases run out."""
        self.now += 400_000
        self.live = self.live[-30:]
