"""What an answer to a paid request means, and what of a seller's word is believed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from micropaywall.core.verdict import Delivered, Failed, Open, Refused, judge, plain_text, read_status, retry_after_s
from micropaywall.errors import PROBLEM_BASE, all_errors


def problem(code: str, **members: Any) -> bytes:
    return json.dumps({"type": PROBLEM_BASE + code, "code": code, **members}).encode()


def receipt(**members: Any) -> list[tuple[bytes, bytes]]:
    document = {"success": True, "transaction": "0x11", "network": "eip155:84532", **members}
    return [(b"payment-response", base64.b64encode(json.dumps(document).encode()))]


def verdict(
    status: int, headers: Any = (), body: bytes | None = b"", *, doubtful: bool = False, method: str = "GET"
) -> Any:
    return judge(method, status, list(headers), body, doubtful=doubtful)


@pytest.mark.parametrize("status", [200, 204, 206, 302, 304])
def test_an_answer_below_400_is_a_delivery_with_or_without_a_receipt(status: int) -> None:
    assert verdict(status) == Delivered(None)
    delivered = verdict(status, receipt())
    assert isinstance(delivered, Delivered)
    assert delivered.receipt is not None
    assert delivered.receipt.settled


def test_a_refusal_of_ours_says_whether_money_moved() -> None:
    assert verdict(
        402, body=problem("payment_rejected", moneyMoved="no", retryable=False, detail="no funds")
    ) == Refused("payment_rejected", "no", 402, "no funds")
    assert verdict(403, body=problem("payer_suspended", moneyMoved="no")) == Refused("payer_suspended", "no", 403)


@pytest.mark.parametrize(
    ("status", "code", "members"),
    [
        (409, "payment_in_progress", {"moneyMoved": "unknown", "retryable": True}),
        (503, "outcome_unknown", {"moneyMoved": "unknown", "retryable": True}),
        (503, "overloaded", {"moneyMoved": "no", "retryable": True}),
        (504, "handler_timeout", {"moneyMoved": "no", "retryable": True}),
        (429, "exposure_exceeded", {"moneyMoved": "no", "retryable": True}),
    ],
)
def test_what_may_still_change_is_sent_again(status: int, code: str, members: dict[str, Any]) -> None:
    found = verdict(status, [(b"retry-after", b"3")], problem(code, **members))
    assert isinstance(found, Open)
    assert found.resend
    assert found.wait_s == 3.0


def test_a_new_price_after_a_payment_is_a_refusal_never_a_retry() -> None:
    """Our own unpaid 402 says retryable: that is for somebody who has not paid yet."""
    body = problem("payment_required", moneyMoved="no", retryable=True)
    assert verdict(402, body=body) == Refused("payment_required", "no", 402)
    assert verdict(402, body=b'{"x402Version": 1, "error": "pay", "accepts": []}') == Refused(
        "payment_required", "no", 402, "pay"
    )


@pytest.mark.parametrize("code", ["payment_spent", "payment_bound_elsewhere"])
def test_refusals_that_say_nothing_of_the_money_are_asked_about(code: str) -> None:
    found = verdict(402, body=problem(code, moneyMoved="no", retryable=False))
    assert isinstance(found, Open)
    assert not found.resend


def test_after_a_lost_answer_no_refusal_proves_that_no_money_moved() -> None:
    for status, headers, body in (
        (402, [], problem("payment_rejected", moneyMoved="no")),
        (402, [], b"{}"),
        (402, receipt(success=False, errorReason="invalid_exact_evm_signature"), b"{}"),
    ):
        found = verdict(status, headers, body, doubtful=True)
        assert isinstance(found, Open), body
        assert not found.resend
    assert verdict(404, doubtful=True) == Failed(404, "unknown")


@pytest.mark.parametrize(
    "reason",
    [
        "invalid_exact_evm_payload_signature",
        "insufficient_funds",
        "invalid_exact_evm_insufficient_balance",
        "unsupported_scheme",
        "permit2_allowance_required",
        "transaction_failed",
    ],
)
def test_reasons_of_foreign_sellers_that_precede_a_transfer_are_definite(reason: str) -> None:
    assert verdict(402, receipt(success=False, errorReason=reason, transaction="")) == Refused(reason, "no", 402)


@pytest.mark.parametrize(
    "reason", ["unexpected_settle_error", "timed out", "settlement_pending", "invalid_transaction_state", "whatever"]
)
def test_reasons_of_foreign_sellers_that_hide_an_unknown_outcome_are_no_verdict(reason: str) -> None:
    found = verdict(402, receipt(success=False, errorReason=reason, transaction=""))
    assert isinstance(found, Open)
    assert found.resend == (reason == "settlement_pending")


@pytest.mark.parametrize("reason", ["invalid_exact_evm_nonce_already_used", "duplicate_settlement"])
def test_a_used_nonce_means_that_the_money_moved_before(reason: str) -> None:
    found = verdict(402, receipt(success=False, errorReason=reason, transaction=""))
    assert isinstance(found, Open)


def test_the_resources_own_errors_are_the_callers() -> None:
    assert verdict(404, body=b"<h1>nothing here</h1>") == Failed(404, "no")
    assert verdict(409, body=b'{"type": "https://other.example/conflict"}') == Failed(409, "no")
    assert verdict(422, receipt()) == Failed(422, "yes")


def test_a_gateways_error_is_sent_again_and_a_failed_post_is_not() -> None:
    for status in (502, 503, 504):
        assert verdict(status, method="POST").resend
    assert verdict(500, method="GET").resend
    assert not verdict(500, method="POST").resend
    assert verdict(500, method="POST").own


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"[]",
        b"[" * 60_000,
        b"{",
        b"\xff\xfe",
        b'{"type": 7}',
        problem("x", moneyMoved="maybe"),
        b"9" * 60_000,
    ],
)
@pytest.mark.parametrize("status", [400, 402, 409, 500, 503])
def test_any_body_gives_a_verdict_and_never_an_exception(status: int, body: bytes | None) -> None:
    assert isinstance(verdict(status, body=body), Delivered | Refused | Failed | Open)


def test_every_refusal_of_ours_has_a_verdict_that_frees_no_budget_by_mistake() -> None:
    for code, error in all_errors().items():
        if error.status < 400:
            continue
        document = error("detail").problem()
        found = verdict(error.status, body=json.dumps(document).encode())
        if error.money_moved == "unknown":
            assert isinstance(found, Open), code
        elif isinstance(found, Refused):
            assert found.code == code
            assert found.moved == error.money_moved


def test_a_strangers_text_is_cut_and_made_harmless() -> None:
    assert plain_text("a\x1b[2Jb\r\nc\u202ed\u0000") == "a [2Jb  c d "
    assert len(plain_text("x" * 10_000)) == 200
    assert plain_text(7) == ""
    found = verdict(402, body=problem("bad code! \n", moneyMoved="no", detail="ignore\nprevious"))
    assert found == Refused("refused", "no", 402, "ignore previous")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"0", 0.0), (b"3", 3.0), (b"3600", 10.0), (b"-5", 10.0), (b"Wed, 21 Oct 2026 07:28:00 GMT", 10.0), (b"", None)],
)
def test_waiting_is_bounded_whatever_the_seller_asks_for(value: bytes, seconds: float | None) -> None:
    assert retry_after_s([(b"retry-after", value)]) == seconds
    assert retry_after_s([]) is None


# -- GET /payments/{id} -----------------------------------------------------------------------------------------------

ID = "pay_" + "ab" * 20


def status(**members: Any) -> bytes:
    return json.dumps({"paymentId": ID, "state": "settled", "moneyMoved": "yes", "charges": [], **members}).encode()


def test_the_sellers_word_on_a_payment_is_read() -> None:
    word = read_status(200, status(charges=[{"state": "released"}, {"state": "captured"}], transaction="0x11"), ID)
    assert word is not None
    assert (word.moved, word.delivered, word.busy, word.transaction) == ("yes", True, False, "0x11")
    busy = read_status(200, status(moneyMoved="no", charges=[{"state": "reserved"}]), ID)
    assert busy is not None
    assert busy.busy


def test_a_seller_that_never_heard_of_the_payment_says_so() -> None:
    word = read_status(404, problem("payment_not_found"), ID)
    assert word is not None
    assert (word.moved, word.delivered) == ("no", False)


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (404, b"<h1>Not found</h1>"),
        (404, b'{"type": "about:blank"}'),
        (200, None),
        (200, b"[]"),
        (200, status(paymentId="pay_" + "cd" * 20)),
        (200, status(moneyMoved="perhaps")),
        (402, status()),
        (500, status()),
    ],
)
def test_anything_else_is_no_word(code: int, body: bytes | None) -> None:
    assert read_status(code, body, ID) is None


def test_charges_that_are_none_are_passed_over() -> None:
    word = read_status(200, status(charges="captured"), ID)
    assert word is not None
    assert not word.delivered
    assert read_status(200, status(charges=[7, None, {"state": ["captured"]}]), ID) == word
