"""Whatever a seller answers, in whatever order: one payment for a logical call, and a budget that tells the truth."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.kit.world import LOST, URL, World, answer, challenge, offer, problem

from micropaywall.clock import ManualClock
from micropaywall.core import buyer_effects as fx
from micropaywall.core.budget import Budget
from micropaywall.core.purchase import PurchaseState, counts
from micropaywall.errors import MicropaywallError, all_errors
from micropaywall.spending.store import SpendingStore

TERMS = Budget.parse("$1 a day").limits[0]


def receipt(members: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(b"payment-response", base64.b64encode(json.dumps(members).encode()))]


receipts = st.fixed_dictionaries(
    {"success": st.booleans(), "transaction": st.sampled_from(["", "0x11"]), "network": st.just("eip155:84532")},
    optional={
        "errorReason": st.sampled_from(
            ["unexpected_settle_error", "settlement_pending", "insufficient_funds", "nonce_already_used", "timed out"]
        )
    },
).map(receipt)

problems = st.builds(
    problem,
    st.sampled_from([400, 402, 403, 409, 429, 500, 503, 504]),
    st.sampled_from([*all_errors(), "made_up", "PAYMENT!"]),
    moneyMoved=st.sampled_from(["yes", "no", "unknown", "perhaps", None]),
    retryable=st.booleans(),
    detail=st.text(max_size=20),
)
answers = st.one_of(
    st.just(LOST),
    problems,
    st.builds(challenge, st.builds(offer, st.integers(1, 5000))),
    st.builds(
        answer,
        st.sampled_from([200, 204, 302, 400, 402, 404, 409, 410, 500, 502, 503]),
        st.binary(max_size=30),
        st.one_of(st.just([]), receipts, st.just([(b"retry-after", b"3600")])),
    ),
)
words = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "moneyMoved": st.sampled_from(["yes", "no", "unknown"]),
            "state": st.just("settled"),
            "charges": st.lists(
                st.sampled_from([{"state": "captured"}, {"state": "reserved"}, {"state": "released"}]), max_size=2
            ),
        }
    ),
)
calls = st.sampled_from([fx.Call("GET", URL), fx.Call("POST", URL, "key"), fx.Call("GET", URL, same_if_equal=True)])


@given(call=calls, scripts=st.lists(st.tuples(st.lists(answers, max_size=7), words), min_size=1, max_size=3))
def test_a_logical_call_never_shows_two_payments_unless_the_first_came_to_nothing(
    call: fx.Call, scripts: list[tuple[list[Any], Any]]
) -> None:
    with tempfile.TemporaryDirectory() as place, SpendingStore(Path(place) / "s.db", ManualClock()) as store:
        world = World(store, ManualClock())
        for script, word in scripts:
            before = list(store.payments(states=list(PurchaseState)))
            _run(world, call, script, word)
            _check(world, call, before)


def _run(world: World, call: fx.Call, script: list[Any], word: Any) -> None:
    world.sent, world.asked = [], []
    world.answers = [challenge(), *script, *[LOST] * 10]

    def tell(effect: fx.AskStatus) -> Any:
        payment = effect.url.rpartition("/")[2]
        return None if word is None else (200, json.dumps({"paymentId": payment, **word}).encode())

    world.do_AskStatus = tell  # type: ignore[method-assign]
    try:
        world.run(call)
    except MicropaywallError:
        pass  # a typed refusal; anything else fails the test


def _check(world: World, call: fx.Call, before: list[Any]) -> None:
    rows = list(world.store.payments(states=list(PurchaseState)))
    nonces = {authorization.nonce for authorization in world.shown}
    assert len(nonces) <= 1, "one run shows one payment"
    assert world.asked.count("Sign") <= 1
    assert len(rows) - len(before) <= 1
    if world.asked.count("Sign") and call.key:
        came_to_nothing = {PurchaseState.REJECTED, PurchaseState.EXPIRED, PurchaseState.RELEASED}
        assert {row.state for row in before} <= came_to_nothing, "signed anew with a payment open or served"
    sends = [asked for asked in world.asked if asked in ("Journal", "Send+")]
    assert "Send+" not in sends[: sends.index("Journal")] if "Journal" in sends else True
    assert all(wait <= 10 for wait in world.waits)
    counted = sum(row.price.amount_atomic for row in rows if counts(row.state, row.money_moved))
    [(_, spent)] = world.store.spent(TERMS, realm="test")
    assert spent * 1_000_000 == counted
    assert all(row.state is not PurchaseState.RESERVED for row in rows)
