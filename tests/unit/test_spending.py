"""Budgets and journal: reserved before signing, whole or not at all, for every process, whatever the clock does."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.kit.purchases import CREDENTIAL, OTHER_PAYEE, PAYEE, PLAY, REAL, WIDE, draft, served, signed

from micropaywall import limits
from micropaywall.clock import ManualClock
from micropaywall.core.budget import Budget
from micropaywall.core.purchase import LIFE, OPEN, VERDICTS, HeaderLine, PurchaseEvent, PurchaseState, after, counts
from micropaywall.errors import BudgetExceeded, KillSwitchOn, PolicyRefused, StoreUnavailable
from micropaywall.ids import Fingerprint, ReplayKey
from micropaywall.spending import tallies
from micropaywall.spending.schema import HOUR_MS
from micropaywall.spending.store import SpendingStore

S, E = PurchaseState, PurchaseEvent
ONE = Budget.parse("$0.001 a day")
MANY = Budget.parse("$1000 a month")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "spending.db"


@pytest.fixture
def store(path: Path, clock: ManualClock) -> Iterator[SpendingStore]:
    with SpendingStore(path, clock) as opened:
        yield opened


def full(store: SpendingStore, budget: Budget | None = ONE, amount: int = 1000, **changes: Any) -> bool:
    """Whether there is no room for one more; leaves everything as it was."""
    try:
        row, _ = store.reserve(draft(amount, **changes), budget)
    except BudgetExceeded:
        return True
    store.record(row, E.DROPPED, "no")
    return False


# -- what holds a budget ----------------------------------------------------------------------------------------------


def test_a_reservation_holds_the_budget_before_anything_is_signed(store: SpendingStore) -> None:
    store.reserve(draft(), ONE)
    assert full(store)


@pytest.mark.parametrize("event", [E.UNANSWERED, E.GIVEN_UP, E.DELIVERED])
def test_a_signed_payment_holds_its_budget_without_a_verdict_and_when_served(
    store: SpendingStore, event: PurchaseEvent
) -> None:
    store.record(signed(store, budget=ONE), event)
    assert full(store)


def test_only_definite_outcomes_give_budget_back(store: SpendingStore) -> None:
    store.record(signed(store, budget=ONE), E.REFUSED, "unknown")
    assert full(store)
    store.record(signed(store, budget=Budget.parse("$1 a day"), agent="b"), E.REFUSED, "yes")
    assert full(store, agent="b")
    store.record(signed(store, budget=ONE, agent="c"), E.REFUSED, "no")
    assert not full(store, agent="c")
    store.record(signed(store, budget=ONE, agent="d"), E.LAPSED, "no")
    assert not full(store, agent="d")
    row, _ = store.reserve(draft(agent="e"), ONE)
    store.record(row, E.DROPPED, "no")
    assert not full(store, agent="e")


def test_sellers_that_say_they_refused_cannot_have_a_budget_signed_over_and_over(store: SpendingStore) -> None:
    for _ in range(2):
        store.record(signed(store, budget=ONE), E.REFUSED, "no")
    with pytest.raises(BudgetExceeded, match="refused"):
        store.reserve(draft(), ONE)


def test_what_was_never_signed_does_not_count_as_signed(store: SpendingStore) -> None:
    for _ in range(5):
        row, _ = store.reserve(draft(), ONE)
        store.record(row, E.DROPPED, "no")
    assert not full(store)


def test_the_table_and_the_sql_agree_on_what_counts(store: SpendingStore, path: Path) -> None:
    row = served(store, budget=MANY)
    with sqlite3.connect(path) as db:
        for state in PurchaseState:
            for moved in ("yes", "no", "unknown"):
                db.execute("UPDATE purchase SET state = ?, money_moved = ? WHERE id = ?", (state.value, moved, row.id))
                found = db.execute(f"SELECT {tallies._COUNTS} FROM purchase WHERE id = ?", (row.id,)).fetchone()[0]
                assert bool(found) == counts(state, moved), (state, moved)
    db.close()


# -- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("window", "seconds"), [("hour", 3600), ("day", 86_400), ("month", 30 * 86_400)])
def test_a_rolling_window_frees_its_budget_to_the_millisecond(
    store: SpendingStore, clock: ManualClock, window: str, seconds: int
) -> None:
    clock.advance(1234.567)  # not on the hour
    budget = Budget.parse(f"$0.001 per {window}")
    served(store, budget=budget)
    clock.advance(seconds - 0.001)
    assert full(store, budget)
    clock.advance(0.001)
    assert not full(store, budget)


def test_a_total_never_comes_back(store: SpendingStore, clock: ManualClock) -> None:
    budget = Budget.parse("$0.002 in total")
    served(store, budget=budget)
    clock.advance(400 * 86_400)
    served(store, budget=budget)
    clock.advance(400 * 86_400)
    assert full(store, budget)


def test_a_clock_that_is_set_back_frees_nothing(store: SpendingStore, clock: ManualClock) -> None:
    served(store, budget=ONE)
    clock.advance(-3 * 86_400)
    assert full(store)
    clock.advance(3 * 86_400 + 86_399)
    assert full(store)
    clock.advance(2)
    assert not full(store)


def test_what_is_spent_while_the_clock_is_set_back_still_counts_when_it_is_right_again(
    store: SpendingStore, clock: ManualClock
) -> None:
    assert not full(store)  # the store has seen the right time
    clock.advance(-3 * 86_400)
    served(store, budget=ONE)
    clock.advance(3 * 86_400)
    assert full(store)
    clock.advance(86_400)
    assert not full(store)


def test_a_clock_set_back_and_a_restart_together_free_nothing(path: Path, clock: ManualClock) -> None:
    with SpendingStore(path, clock) as first:
        served(first, budget=ONE)
    with SpendingStore(path, ManualClock(clock.now_ms() - 40 * 86_400_000)) as second:
        assert full(second)


def test_a_clock_that_stood_in_the_future_can_be_forgiven(store: SpendingStore, clock: ManualClock) -> None:
    clock.advance(365 * 86_400)
    served(store, budget=ONE)
    clock.advance(-365 * 86_400)
    assert full(store)
    store.reset_clock()
    assert full(store)  # what was counted in that future stays counted
    clock.advance(366 * 86_400)
    assert not full(store)


def test_old_hours_are_added_up_and_still_count_in_total(store: SpendingStore, clock: ManualClock, path: Path) -> None:
    budget = Budget.parse("$1 in total, $1 a month")
    open_row = signed(store, budget=budget)
    for _ in range(50):
        served(store, budget=budget)
        clock.advance(86_400)
    with sqlite3.connect(path) as db:
        hours = [row[0] for row in db.execute("SELECT hour FROM tally ORDER BY hour")]
    db.close()
    assert hours[0] == 0
    assert len(hours) <= 33
    [(_, total)] = store.spent(budget.limits[0], realm="test")
    assert total == Decimal("0.051")
    store.record(open_row, E.REFUSED, "no")  # its own hour is gone
    [(_, total)] = store.spent(budget.limits[0], realm="test")
    assert total == Decimal("0.05")


# -- who and what is counted ------------------------------------------------------------------------------------------


def test_limits_for_hosts_payees_and_assets_count_theirs_alone(store: SpendingStore) -> None:
    each = Budget.parse("$1 a day, $0.001 a day for each host")
    served(store, budget=each)
    assert full(store, each)
    assert not full(store, each, host="other.example.com")
    payees = Budget.parse("$1 a day, $0.001 a day for each payee")
    assert full(store, payees)
    assert full(store, payees, payee=PAYEE.upper().replace("0X", "0x"))
    assert not full(store, payees, payee=OTHER_PAYEE)
    named = Budget.parse("$1 a day, $0.001 a day at api.example.com")
    assert full(store, named)
    assert not full(store, named, host="other.example.com")
    assets = Budget.parse(f"$1 a day, $0.001 a day in {PLAY.id}")
    assert full(store, assets)


def test_play_money_and_real_money_are_never_added_up(store: SpendingStore) -> None:
    served(store, budget=ONE, asset=PLAY)
    assert not full(store, asset=REAL)
    served(store, budget=ONE, asset=REAL)
    assert full(store, asset=REAL)
    assert full(store, asset=PLAY)


def test_dollar_assets_of_any_decimals_are_added_up_exactly(store: SpendingStore) -> None:
    budget = Budget.parse("$1 a day")
    served(store, 999_999, budget, asset=REAL)
    assert not full(store, budget, amount=10**12, asset=WIDE)
    assert full(store, budget, amount=10**12 + 1, asset=WIDE)


def test_eighteen_decimals_do_not_outgrow_the_store(store: SpendingStore) -> None:
    budget = Budget.parse("$100 a day")
    for _ in range(20):
        served(store, 4 * 10**18, budget, asset=WIDE)
    [(_, spent)] = store.spent(budget.limits[0], realm="live")
    assert spent == 80


def test_less_than_a_unit_is_counted_as_one(store: SpendingStore) -> None:
    budget = Budget.parse("1 DAI a day")
    for _ in range(3):
        served(store, 1, budget, asset=WIDE)
    [(_, spent)] = store.spent(budget.limits[0], realm="live")
    assert spent == Decimal("0.000000003")


def test_an_agents_budget_counts_its_own_and_the_users_counts_everybodys(store: SpendingStore) -> None:
    served(store, budget=ONE, agent="a")
    assert full(store, agent="a")
    assert not full(store, agent="b")
    store.set_budget(Budget.parse("$0.002 a day"))
    served(store, budget=ONE, agent="b")
    assert full(store, Budget.parse("$1 a day"), agent="c")
    assert full(store, None, agent="c")


def test_the_users_limits_hold_for_programs_with_a_larger_budget(store: SpendingStore) -> None:
    store.set_budget(Budget.parse("$0.0005 each"))
    with pytest.raises(BudgetExceeded, match="each"):
        store.reserve(draft(), Budget.parse("$1000 a day"))


def test_without_any_limit_nothing_is_spent(store: SpendingStore) -> None:
    with pytest.raises(BudgetExceeded, match="no budget covers"):
        store.reserve(draft(), None)


# -- processes, threads, crashes --------------------------------------------------------------------------------------


def test_twenty_parallel_calls_with_a_budget_for_one_reserve_once(store: SpendingStore) -> None:
    def attempt(_: int) -> bool:
        try:
            return store.reserve(draft(), ONE)[1]
        except BudgetExceeded:
            return False

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(attempt, range(20))) == 1


def _attempts(path: str, budget: str, count: int) -> int:
    """How many of ``count`` payments one process can sign, once all of them stand at the gate."""
    home = Path(path).parent
    (home / f"ready-{os.getpid()}").touch()
    while not (home / "gate").exists():
        time.sleep(0.001)
    won = 0
    with SpendingStore(Path(path)) as store:  # the processes may well make the file at the same time
        for _ in range(count):
            try:
                signed(store, budget=Budget.parse(budget))
                won += 1
            except BudgetExceeded:
                pass
    return won


def _of_four_processes(path: Path, budget: str, count: int) -> int:
    path.parent.mkdir(parents=True)
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        attempts = [pool.submit(_attempts, str(path), budget, count) for _ in range(4)]
        while len(list(path.parent.glob("ready-*"))) < 4 and not any(attempt.done() for attempt in attempts):
            time.sleep(0.005)
        (path.parent / "gate").touch()
        return sum(attempt.result(60) for attempt in attempts)


def test_twenty_calls_of_four_processes_with_a_budget_for_one_sign_once(path: Path) -> None:
    assert _of_four_processes(path, "$0.001 a day", 5) == 1


def test_many_calls_of_four_processes_sign_exactly_what_the_budget_has_room_for(path: Path) -> None:
    assert _of_four_processes(path, "$0.030 a day", 25) == 30


def test_a_budget_survives_a_restart(path: Path, clock: ManualClock) -> None:
    with SpendingStore(path, clock) as first:
        signed(first, budget=ONE)
    with SpendingStore(path, clock) as second:
        assert full(second)
        assert [row.state for row in second.open_payments()] == [S.SIGNED]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_uses_a_connection_of_its_own(store: SpendingStore) -> None:
    budget = Budget.parse("$0.002 a day")
    served(store, budget=budget)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # the child, which must not return into pytest
        try:
            served(store, budget=budget)
            os.write(writer, b"1")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"1"
    assert full(store, budget)


def test_a_reservation_of_a_process_that_died_is_given_back_after_its_lease(
    store: SpendingStore, clock: ManualClock
) -> None:
    row, _ = store.reserve(draft(), ONE)
    clock.advance(limits.RESERVATION_LEASE_S)
    assert full(store)
    clock.advance(0.001)
    assert not full(store)
    with pytest.raises(PolicyRefused, match="not held any more"):
        store.journal(row, ReplayKey(b"k" * 32), CREDENTIAL, 10)


def test_a_journaled_payment_never_lapses_by_itself(store: SpendingStore, clock: ManualClock) -> None:
    signed(store, budget=Budget.parse("$0.001 in total"))
    clock.advance(10 * 365 * 86_400)
    assert full(store, Budget.parse("$0.001 in total"))
    assert len(store.open_payments()) == 1


def test_one_authorization_is_journaled_once(store: SpendingStore) -> None:
    first, _ = store.reserve(draft(), MANY)
    second, _ = store.reserve(draft(), MANY)
    store.journal(first, ReplayKey(b"k" * 32), CREDENTIAL, 10)
    with pytest.raises(StoreUnavailable):
        store.journal(second, ReplayKey(b"k" * 32), CREDENTIAL, 10)
    with pytest.raises(PolicyRefused):
        store.journal(first, ReplayKey(b"j" * 32), CREDENTIAL, 10)


# -- logical calls ----------------------------------------------------------------------------------------------------


def test_a_logical_call_has_one_open_payment(store: SpendingStore) -> None:
    row, new = store.reserve(draft(call_key="k"), ONE)
    assert new
    assert store.reserve(draft(call_key="k"), ONE) == (row, False)
    assert store.find_call("default", "k") == row
    assert store.find_call("other", "k") is None
    assert store.find_call("default", "") is None


def test_a_call_that_was_served_is_the_same_call_only_when_that_is_asked(store: SpendingStore) -> None:
    row = served(store, budget=MANY, call_key="k")
    assert store.reserve(draft(call_key="k", replay_served=True), MANY) == (row, False)
    again, new = store.reserve(draft(call_key="k"), MANY)
    assert new
    assert store.find_call("default", "k") == again


@pytest.mark.parametrize("event", [E.REFUSED, E.LAPSED])
def test_a_call_whose_payment_came_to_nothing_may_pay_again(store: SpendingStore, event: PurchaseEvent) -> None:
    store.record(signed(store, budget=MANY, call_key="k"), event, "no")
    assert store.find_call("default", "k") is None
    assert store.reserve(draft(call_key="k"), MANY)[1]


# -- what happened ----------------------------------------------------------------------------------------------------


def test_every_step_of_the_table_and_no_other_is_taken(store: SpendingStore) -> None:
    for state, steps in LIFE.items():
        for event in PurchaseEvent:
            row = _in_state(store, state)
            if event is E.JOURNALED:
                continue
            if event in steps:
                assert store.record(row, event, "no").state is steps[event]
            elif state in VERDICTS:
                assert store.record(row, event, "no") == row, "a verdict stands"
            else:
                with pytest.raises(LookupError):
                    store.record(row, event, "no")
                with pytest.raises(LookupError):
                    after(state, event)
    assert {state for state in LIFE if E.LAPSED in LIFE[state]} == OPEN


def test_what_is_served_after_a_refusal_of_another_presentation_counts_again(store: SpendingStore) -> None:
    row = store.record(signed(store, budget=MANY), E.REFUSED, "no")
    assert row.state is S.REJECTED
    late = store.record(row, E.DELIVERED, "yes", status=200)
    assert (late.state, late.money_moved) == (S.SERVED, "yes")
    (month,) = MANY.limits
    assert sum(value for _, value in store.spent(month, realm=late.realm)) > 0


def _in_state(store: SpendingStore, state: PurchaseState) -> Any:
    if state in (S.RESERVED, S.RELEASED):
        row, _ = store.reserve(draft(), Budget.parse("$100 a day"))
        return row if state is S.RESERVED else store.record(row, E.DROPPED, "no")
    row = signed(store, budget=Budget.parse("$100 a day"))
    events = {
        S.SIGNED: None,
        S.SENT: E.UNANSWERED,
        S.UNKNOWN: E.GIVEN_UP,
        S.SERVED: E.DELIVERED,
        S.REJECTED: E.REFUSED,
        S.EXPIRED: E.LAPSED,
    }
    event = events[state]
    return row if event is None else store.record(row, event, "no")


def test_the_first_verdict_stands_when_two_processes_have_one(store: SpendingStore) -> None:
    stale = signed(store, budget=MANY)
    store.record(stale, E.DELIVERED, "yes", transaction="0x11")
    late = store.record(stale, E.REFUSED, "no", "late")
    assert (late.state, late.money_moved, late.transaction) == (S.SERVED, "yes", "0x11")


def test_what_is_known_of_a_payment_is_kept(store: SpendingStore, clock: ManualClock) -> None:
    row = signed(store, budget=MANY)
    clock.advance(1)
    row = store.record(row, E.UNANSWERED, "unknown", "no_answer")
    assert (row.attempts, row.reason, row.concluded_ms) == (1, "no_answer", None)
    row = store.record(row, E.DELIVERED, "yes", "", 200, "0xabc")
    assert (row.attempts, row.response_status, row.transaction) == (2, 200, "0xabc")
    assert row.concluded_ms == clock.now_ms()
    assert row.payment_id is not None
    assert store.payment(row.payment_id) == row
    assert store.payment("pay_" + "00" * 20) is None


def test_the_log_is_in_order_and_can_be_narrowed(store: SpendingStore, clock: ManualClock) -> None:
    rows = []
    for index in range(7):
        rows.append(served(store, budget=MANY, agent="a" if index % 2 else "b"))
        clock.advance(10)
    store.reserve(draft(), MANY)
    store.record(store.reserve(draft(), MANY)[0], E.DROPPED, "no")
    assert list(store.payments()) == rows
    assert list(store.payments(limit=3)) == rows[:3]
    assert list(store.payments(agent="a")) == rows[1::2]
    assert list(store.payments(since_ms=rows[4].created_ms)) == rows[4:]
    assert [row.state for row in store.payments(states=[S.RESERVED, S.RELEASED])] == [S.RESERVED, S.RELEASED]


def test_the_log_is_read_in_pieces(store: SpendingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [served(store, budget=MANY) for _ in range(7)]
    for size in (1, 3, 7, 8):
        monkeypatch.setattr("micropaywall.spending.store._ROWS_PER_READ", size)
        assert list(store.payments()) == rows
        assert list(store.payments(limit=5)) == rows[:5]


# -- hosts and the kill switch ----------------------------------------------------------------------------------------


def test_a_host_is_known_once_it_has_served(store: SpendingStore) -> None:
    row = signed(store, budget=MANY)
    assert not store.known("api.example.com:443").paid_before
    store.record(row, E.DELIVERED, "unknown")
    assert store.known("api.example.com:443").payees == {PLAY.id.partition("/")[0]: frozenset({PAYEE})}
    assert not store.known("api.example.com:8443").paid_before
    store.trust("api.example.com:443", "eip155:1", OTHER_PAYEE)
    assert store.known("api.example.com:443").payees["eip155:1"] == {OTHER_PAYEE}


def test_the_kill_switch_stops_reservations_and_signatures_of_every_process(path: Path, store: SpendingStore) -> None:
    row, _ = store.reserve(draft(), MANY)
    with SpendingStore(path) as other:
        other.set_kill_switch(on=True)
    assert store.kill_switch()
    with pytest.raises(KillSwitchOn):
        store.reserve(draft(), MANY)
    with pytest.raises(KillSwitchOn):
        store.journal(row, ReplayKey(b"k" * 32), CREDENTIAL, 10)
    store.set_kill_switch(on=False)
    store.journal(row, ReplayKey(b"k" * 32), CREDENTIAL, 10)


# -- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there are no modes on Windows")
def test_the_file_and_its_companions_are_their_owners_alone(store: SpendingStore, path: Path) -> None:
    served(store, budget=MANY)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


def test_a_payment_shown_to_people_shows_no_credential(store: SpendingStore) -> None:
    row = served(store, budget=MANY)
    assert row.credential == HeaderLine(CREDENTIAL.name, CREDENTIAL.value)
    assert CREDENTIAL.value not in repr(row)


def test_a_store_of_a_newer_program_is_not_touched(store: SpendingStore, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreUnavailable, match="newer"):
        SpendingStore(path)


def test_a_store_that_cannot_be_opened_or_written_is_a_typed_refusal(tmp_path: Path, store: SpendingStore) -> None:
    with pytest.raises(StoreUnavailable):
        SpendingStore(tmp_path)  # a directory
    (tmp_path / "text.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable):
        SpendingStore(tmp_path / "text.db")
    store.close()
    with pytest.raises(StoreUnavailable):
        store.reserve(draft(), MANY)


def test_what_fails_leaves_nothing_behind(store: SpendingStore) -> None:
    bad = replace(draft(), fingerprint=Fingerprint(b""), call_key="k", endpoint=None)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        store.reserve(bad, ONE)
    assert not full(store)
    assert store.find_call("default", "k") is None


def test_the_cost_of_a_reservation_does_not_grow_with_the_journal(store: SpendingStore, path: Path) -> None:
    """The sum over a month reads hours, not payments."""
    served(store, budget=MANY)
    with sqlite3.connect(path) as db:
        plan = " ".join(
            row[3]
            for row in db.execute(
                "EXPLAIN QUERY PLAN SELECT asset, units FROM purchase WHERE created_ms > ? AND created_ms < ?",
                (0, HOUR_MS),
            )
        )
    db.close()
    assert "purchase_created" in plan
