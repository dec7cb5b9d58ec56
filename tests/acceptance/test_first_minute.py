"""The first minute of a new user: a seller, a 402, a payment, a receipt, a row in the book."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import Done, Seller, run, serving

Cli = Callable[..., Done]


def test_asking_without_a_payment_gets_the_402(seller: Seller) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(seller.url)
    with caught.value as answer:
        assert answer.code == 402
        assert answer.headers["PAYMENT-REQUIRED"]
        assert "micropaywall get" in json.load(answer)["hint"]


def test_get_pays_and_keeps_body_and_receipt_apart(seller: Seller, cli: Cli) -> None:
    done = cli("get", seller.url + "/api/resource")
    assert done.code == 0, done.err
    assert json.loads(done.out)["value"] == 42
    assert "paid 0.001 USDC" in done.err
    assert "settled" in done.err


def test_the_sellers_book_and_the_buyers_log_name_the_same_payment(seller: Seller, cli: Cli) -> None:
    paid = cli("get", seller.url + "/", "--json").json
    token = paid["payment"]["paymentToken"]
    assert (paid["status"], paid["receipt"]["settled"]) == (200, True)
    assert token in [record["paymentToken"] for record in cli("ledger", "list", "--json").json]
    assert token in [record["paymentToken"] for record in cli("payments", "list", "--json").json]
    assert {"timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status"} <= set(paid["payment"])


def test_a_price_by_request_is_asked_and_paid(seller: Seller, cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"word " * 500)
    done = cli("get", seller.url + "/api/words", "-d", f"@{text}", "-H", "Content-Type: text/plain")
    assert json.loads(done.out)["words"] == 500
    assert "paid 0.003 USDC" in done.err


def test_a_stream_is_paid_and_comes_through(seller: Seller, cli: Cli) -> None:
    done = cli("get", seller.url + "/api/stream")
    assert done.out.count("data: ") == 5
    assert "paid 0.002 USDC" in done.err


def test_the_body_may_come_from_standard_input(seller: Seller, cli: Cli) -> None:
    done = cli("get", seller.url + "/api/words", "-d", "-", stdin=b"one two three")
    assert json.loads(done.out)["words"] == 3


def test_what_is_free_costs_nothing(seller: Seller, cli: Cli) -> None:
    done = cli("get", seller.url + "/health", "--json")
    assert (done.code, done.json["status"], done.json["payment"], done.json["receipt"]) == (0, 200, None, None)


def test_head_is_priced_as_get(seller: Seller, cli: Cli) -> None:
    done = cli("get", "-X", "HEAD", seller.url + "/api/resource")
    assert (done.code, done.out_bytes) == (0, b"")
    assert "paid 0.001 USDC" in done.err


# -- exit codes -------------------------------------------------------------------------------------------------------


def test_exit_2_for_a_command_line_that_makes_no_sense(cli: Cli) -> None:
    assert cli("get").code == 2
    assert cli("get", "http://localhost/", "-H", "nonsense").code == 2
    assert cli("get", "http://localhost/", "--max", "12", "--json").problem["code"] == "price_invalid"


def test_exit_3_when_the_budget_refuses_and_nothing_is_signed(seller: Seller, cli: Cli) -> None:
    before = len(cli("payments", "list", "--json", "--limit", "1000").json)
    done = cli("get", seller.url + "/api/stream", "--max", "$0.001", "--json")
    assert (done.code, done.problem["code"], done.problem["moneyMoved"]) == (3, "budget_exceeded", "no")
    assert len(cli("payments", "list", "--json", "--limit", "1000").json) == before


def test_exit_3_when_all_payments_are_stopped(seller: Seller, cli: Cli) -> None:
    cli("budget", "set", "--stop")
    try:
        done = cli("get", seller.url + "/api/resource", "--json")
        assert (done.code, done.problem["code"]) == (3, "kill_switch_on")
    finally:
        cli("budget", "set", "--resume")
    assert cli("get", seller.url + "/api/resource").code == 0


def test_exit_4_when_the_seller_refuses_the_payment(seller: Seller, cli: Cli) -> None:
    done = cli("get", seller.url + "/api/resource", "-H", "Sandbox-Fault: rejected", "--json")
    assert (done.code, done.problem["code"]) == (4, "payment_not_accepted")
    assert done.out_bytes == b""


def test_exit_5_when_the_outcome_is_unknown_and_the_same_payment_is_sent_next_time(tmp_path: Path) -> None:
    with serving(tmp_path, "--sandbox", "--fault", "unreachable") as seller:
        done = run(tmp_path, "get", seller.url + "/api/resource", "--json")
        assert (done.code, done.problem["code"], done.problem["moneyMoved"]) == (
            5,
            "payment_outcome_unknown",
            "unknown",
        )
        port = str(seller.told["port"])
        seller.stop()
    with serving(tmp_path, "--sandbox", "--port", port) as seller:
        done = run(tmp_path, "get", seller.url + "/api/resource", "--json")
        assert done.code == 0, done.err
    payments = run(tmp_path, "payments", "list", "--json").json
    assert [payment["status"] for payment in payments] == ["success"], "one payment, sent until it was served"


def test_exit_6_for_everything_else(seller: Seller, cli: Cli) -> None:
    assert cli("get", seller.url + "/nothing-here").code == 6
    done = cli("get", "http://127.0.0.1:1/", "--json")
    assert (done.code, done.problem["code"]) == (6, "buyer_error")


def test_a_url_that_is_none_is_a_usage_error(cli: Cli) -> None:
    assert cli("get", "ftp://example.com/").code == 2
