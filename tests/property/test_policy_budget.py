"""Budgets against an oracle that adds up a plain list, over random lives of random payments and a clock that jumps."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.kit.purchases import OTHER_PAYEE, PAYEE, PLAY, REAL, WIDE, draft, signed

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.core.budget import TRUST_FACTOR, WINDOW_MS, Budget, Limit, Scope, Window
from micropaywall.core.policy import realm_of
from micropaywall.core.purchase import PurchaseEvent, PurchaseRow, PurchaseState
from micropaywall.errors import BudgetExceeded
from micropaywall.money import Price
from micropaywall.spending.store import SpendingStore

HOSTS = ("a.example", "b.example")
AGENTS = ("x", "y")
ASSETS = (PLAY, REAL, WIDE)


@dataclass
class Paid:
    """One payment as the oracle remembers it."""

    row: PurchaseRow
    agent: str
    host: str
    payee: str
    value: Fraction
    created_ms: int
    lease_ms: int | None
    counted: bool = True
    signed: bool = True

    def matches(self, limit: Limit, subject: str) -> bool:
        mine = {"all": "", "host": self.host, "payee": self.payee, "asset": self.row.price.asset.id}[limit.scope]
        return mine == subject


class Oracle:
    """Adds up everything each time."""

    def __init__(self) -> None:
        self.paid: list[Paid] = []
        self.now_ms = 0

    def fits(self, limits_: tuple[Limit, ...], agent: str | None, new: Paid, realm: str) -> bool:
        for limit in limits_:
            cap = Fraction(limit.amount.value)
            subject = {"all": "", "host": new.host, "payee": new.payee, "asset": new.row.price.asset.id}[limit.scope]
            if limit.subject not in ("", subject):
                continue
            if limit.window == "payment":
                if new.value > cap:
                    return False
                continue
            since = -1 if limit.window == "total" else self.now_ms - WINDOW_MS[limit.window]
            relevant = [
                one
                for one in self.paid
                if one.created_ms > since
                and realm_of(one.row.price.asset) == realm
                and (agent is None or one.agent == agent)
                and one.matches(limit, subject)
            ]
            counted = sum((one.value for one in relevant if one.counted), Fraction(0))
            everything = sum((one.value for one in relevant if one.signed), Fraction(0))
            if counted + new.value > cap or everything + new.value > TRUST_FACTOR * cap:
                return False
        return True

    def lapse(self) -> list[tuple[Paid, int]]:
        lapsed = []
        for one in self.paid:
            if one.lease_ms is not None and one.lease_ms < self.now_ms:
                lapsed.append((one, one.lease_ms))
                one.counted = one.signed = False
                one.lease_ms = None
        return lapsed


windows: st.SearchStrategy[Window] = st.sampled_from(["payment", "hour", "day", "month", "total"])
scopes: st.SearchStrategy[Scope] = st.sampled_from(["all", "host", "payee", "asset"])
limit_lists = st.lists(
    st.builds(
        lambda cents, window, scope: Limit(Price(cents, "USD"), window, scope),
        st.decimals("0.001", "0.02", places=3),
        windows,
        scopes,
    ),
    min_size=1,
    max_size=3,
).map(tuple)

steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("reserve"),
            st.sampled_from(AGENTS),
            st.sampled_from(HOSTS),
            st.sampled_from((PAYEE, OTHER_PAYEE)),
            st.sampled_from(ASSETS),
            st.integers(1, 9),
            st.booleans(),
        ),
        st.tuples(
            st.just("verdict"),
            st.integers(0, 30),
            st.sampled_from(
                [PurchaseEvent.DELIVERED, PurchaseEvent.REFUSED, PurchaseEvent.LAPSED, PurchaseEvent.GIVEN_UP]
            ),
            st.sampled_from(["yes", "no", "unknown"]),
        ),
        st.tuples(st.just("time"), st.sampled_from([-90_000, 1, 600, 901, 3_599, 3_600, 40_000, 86_400, 3_000_000])),
    ),
    max_size=30,
)


@given(mine=limit_lists, users=st.one_of(st.just(()), limit_lists), script=steps)
def test_a_payment_is_let_through_exactly_when_the_oracle_says_so(
    mine: tuple[Limit, ...], users: tuple[Limit, ...], script: list[Any]
) -> None:
    clock, oracle = ManualClock(), Oracle()
    with tempfile.TemporaryDirectory() as place, SpendingStore(Path(place) / "s.db", clock) as store:
        store.set_budget(Budget(users))
        for step in script:
            if step[0] == "time":
                clock.advance(step[1])
            elif step[0] == "verdict":
                _conclude(store, oracle, clock, *step[1:])
            else:
                _reserve(store, oracle, clock, mine, users, *step[1:])


def _reserve(
    store: SpendingStore,
    oracle: Oracle,
    clock: ManualClock,
    mine: tuple[Limit, ...],
    users: tuple[Limit, ...],
    agent: str,
    host: str,
    payee: str,
    asset: Any,
    thousandths: int,
    sign: bool,
) -> None:
    seen_ms = oracle.now_ms
    oracle.now_ms = max(seen_ms, clock.now_ms())
    lapsed = oracle.lapse()
    amount = thousandths * 10 ** (asset.decimals - 3)
    changes = {"agent": agent, "host": host, "payee": payee, "asset": asset}
    try:
        if sign:
            row = signed(store, amount, Budget(mine), **changes)
        else:
            row, _ = store.reserve(draft(amount, **changes), Budget(mine))
    except BudgetExceeded:
        row = None  # type: ignore[assignment]
    lease = None if sign else oracle.now_ms + limits.RESERVATION_LEASE_S * 1000
    shown = row or signed_like(amount, asset)
    new = Paid(shown, agent, host, payee, Fraction(thousandths, 1000), oracle.now_ms, lease)
    realm = realm_of(asset)
    assert (row is not None) == (oracle.fits(mine, agent, new, realm) and oracle.fits(users, None, new, realm)), (
        mine,
        users,
        new,
    )
    if row is not None:
        oracle.paid.append(new)
    else:  # a refusal leaves everything as it was, the time that was seen included
        oracle.now_ms = seen_ms
        for one, lease_ms in lapsed:
            one.counted, one.signed, one.lease_ms = True, True, lease_ms


def signed_like(amount: int, asset: Any) -> Any:
    class Shown:
        price = asset.money(amount)

    return Shown()


def _conclude(
    store: SpendingStore, oracle: Oracle, clock: ManualClock, index: int, event: PurchaseEvent, moved: Any
) -> None:
    open_rows = [one for one in oracle.paid if one.row.state is PurchaseState.SIGNED]
    if not open_rows:
        return
    one = open_rows[index % len(open_rows)]
    one.row = store.record(one.row, event, moved)
    oracle.now_ms = max(oracle.now_ms, clock.now_ms())
    one.counted = not (event is PurchaseEvent.LAPSED or (event is PurchaseEvent.REFUSED and moved == "no"))
