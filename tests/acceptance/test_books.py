"""The books from the command line: list, show, refund, export, worker."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import run, serving


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book with three deliveries, whose seller has stopped."""
    home = tmp_path_factory.mktemp("book")
    with serving(home, "--sandbox") as seller:
        for path in ("/api/resource", "/", "/api/stream"):
            assert run(home, "get", seller.url + path).code == 0
        assert seller.stop() == 0
    return home


def records(home: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run(home, "ledger", "list", "--json").json
    return found


def identifier(home: Path, index: int) -> str:
    return str(records(home)[index]["metadata"]["paymentId"])


def test_the_list_has_every_delivery_in_order(home: Path) -> None:
    assert [record["endpoint"] for record in records(home)] == ["GET /api/resource", "GET /", "GET /api/stream"]
    assert len(run(home, "ledger", "list", "--json", "--limit", "2").json) == 2
    assert run(home, "ledger", "list", "--json", "--since", "2099-01-01").json == []
    assert run(home, "ledger", "list", "--json", "--status", "failure").json == []


def test_a_payment_is_found_by_the_beginning_of_its_id(home: Path) -> None:
    full = identifier(home, 0)
    assert run(home, "ledger", "show", full[:16], "--json").json["paymentId"] == full
    assert run(home, "payments", "show", full[:16], "--json").json["metadata"]["paymentId"] == full
    for wrong in ("pay_", "pay_0000000000000000", "nonsense"):
        done = run(home, "ledger", "show", wrong, "--json")
        assert (done.code, done.problem["code"]) == (6, "payment_not_found")


def test_the_export_is_the_same_log_in_three_forms(home: Path, tmp_path: Path) -> None:
    as_json = json.loads(run(home, "ledger", "export").out)
    as_lines = [json.loads(line) for line in run(home, "ledger", "export", "--format", "jsonl").out.splitlines()]
    assert as_json == as_lines == records(home)
    file = tmp_path / "log.csv"
    run(home, "ledger", "export", "--format", "csv", "-o", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["amount"] for row in rows] == ["0.001", "0.001", "0.002"]
    assert {"timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status"} <= set(rows[0])


def test_the_buyers_export_names_the_same_payments(home: Path) -> None:
    bought = json.loads(run(home, "payments", "export").out)
    assert [record["paymentToken"] for record in bought] == [record["paymentToken"] for record in records(home)]
    assert [record["amount"] for record in bought] == ["0.001", "0.001", "0.002"]


def test_a_refund_moves_the_money_back_once(home: Path) -> None:
    before = run(home, "wallet", "balance", "--json").json[0]["balanceAtomic"]
    name = identifier(home, 2)
    part = run(home, "refund", name, "--amount", "$0.0005", "--reason", "half of it was late", "--json").json
    assert (part["refundedAtomic"], part["paymentState"]) == ("500", "final")
    rest = run(home, "refund", name, "--json").json
    assert (rest["refundedAtomic"], rest["refundedInAllAtomic"], rest["paymentState"]) == ("1500", "2000", "refunded")
    again = run(home, "refund", name, "--json")
    assert (again.code, again.problem["code"]) == (6, "refund_refused")
    after = run(home, "wallet", "balance", "--json").json[0]["balanceAtomic"]
    assert int(after) - int(before) == 2_000
    shown = run(home, "ledger", "show", name, "--json").json
    assert [(r["amountAtomic"], r["state"], r["reason"]) for r in shown["refunds"]] == [
        ("500", "paid", "half of it was late"),
        ("1500", "paid", ""),
    ]


@pytest.mark.parametrize("amount", ["$0.0011", "$1"])
def test_no_more_goes_back_than_was_paid(home: Path, amount: str) -> None:
    done = run(home, "refund", identifier(home, 0), "--amount", amount, "--json")
    assert (done.code, done.problem["code"]) == (6, "refund_refused")


def test_a_refund_in_another_currency_is_refused(home: Path) -> None:
    done = run(home, "refund", identifier(home, 0), "--amount", "0.0005 BTC", "--json")
    assert (done.code, done.problem["code"]) == (6, "refund_refused")


def test_a_worker_finishes_what_a_server_left(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox", "--fault", "flapping=4") as seller:
        paid = run(tmp_path, "get", seller.url + "/api/resource", "--json")
        assert paid.code in (0, 5)
    states = []
    for _ in range(20):
        done = run(tmp_path, "worker", "--once", "--json")
        assert done.code == 0
        states = [record["metadata"]["paymentState"] for record in records(tmp_path)]
        if set(states) <= {"settled", "final"}:
            break
    assert len(states) == 1
    assert states[0] in ("settled", "final")


def test_looking_at_a_book_that_is_not_there_does_not_begin_one(tmp_path: Path) -> None:
    done = run(tmp_path, "ledger", "list", "--json")
    assert (done.code, done.problem["code"]) == (6, "store_unavailable")
    assert not (tmp_path / "ledger.db").exists()
