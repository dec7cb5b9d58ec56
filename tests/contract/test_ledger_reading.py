"""What one can ask of the book beside its commands: shared values, the log, what is found, leases of the dead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.kit.ledgers import LEASE, NOW, SECOND, USDC, capture, end_settle, key_of, moved, new_id, release, reserve

from micropaywall.core import book
from micropaywall.core.export import record_document
from micropaywall.core.lives import ChargeState
from micropaywall.core.model import Rejected
from micropaywall.ledger.port import Ledger
from micropaywall.money import Asset

pytestmark = pytest.mark.anyio


async def sold(ledger: Ledger, name: str, *, at: int = NOW, outcome: Any = None, **more: Any) -> Any:
    applied = await ledger.apply(reserve(name, at=at, **more))
    await ledger.apply(capture(applied, at=at, begin_settle=True))
    await ledger.apply(end_settle(applied, outcome or moved(transaction=f"0x{name}"), at=at))
    return applied


async def log(ledger: Ledger, **more: Any) -> list[book.Record]:
    return [record async for record in ledger.records(**more)]


async def test_all_workers_get_the_value_that_was_there_first(ledger: Ledger) -> None:
    values = await asyncio.gather(*(ledger.meta("quote_key", bytes([n]) * 32) for n in range(10)))
    assert len(set(values)) == 1
    assert await ledger.meta("quote_key", b"later") == values[0]
    assert await ledger.meta("another", b"own") == b"own"


async def test_the_log_has_the_fixed_names_and_never_the_credential(ledger: Ledger) -> None:
    applied = await sold(ledger, "a", agent="agent-7")
    (record,) = await log(ledger)
    document = record_document(record)
    assert list(document) == [
        "timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status", "metadata"
    ]  # fmt: skip
    assert document["timestamp"] == "2027-01-15T08:00:00.000Z"
    assert (document["amount"], document["currency"], document["status"]) == ("0.001", "USDC", "success")
    assert (document["clientId"], document["endpoint"]) == ("agent-7", "GET /api/resource")
    token = str(document["paymentToken"])
    assert len(token) == 64
    key = key_of("a")
    for secret in (key.hex(), key[:16].hex(), b"instruction a".hex(), "instruction a"):
        assert secret not in token
        assert secret not in str(document["metadata"]).replace(record.metadata["paymentId"], "")
    metadata = record.metadata
    assert metadata["transaction"] == "0xa"
    assert (metadata["paymentState"], metadata["chargeState"]) == ("settled", "captured")
    assert (metadata["responseStatus"], metadata["responseBytes"], metadata["latencyMs"]) == (200, 11, 7)
    assert metadata["chargeId"] == applied.charge_id.hex()


async def test_the_status_of_a_record_says_whether_both_sides_have_got_theirs(ledger: Ledger) -> None:
    await sold(ledger, "paid")
    await sold(ledger, "refused", outcome=Rejected("insufficient_funds"))
    unserved = await ledger.apply(reserve("unserved"))
    await ledger.apply(release(unserved))
    await ledger.apply(reserve("running"))
    settling = await ledger.apply(reserve("settling"))
    await ledger.apply(capture(settling, begin_settle=True))
    owed = await ledger.apply(reserve("owed", mode="deferred", payer="0xother"))
    await ledger.apply(capture(owed, settle_due_ms=NOW))
    lost = await ledger.apply(reserve("lost", mode="deferred", payer="0xcheat"))
    await ledger.apply(capture(lost, settle_due_ms=NOW))
    await ledger.apply(book.BeginSettle(payment_id=lost.payment_id, owner="w1", now_ms=NOW, lease_until_ms=NOW + 1))
    await ledger.apply(end_settle(lost, Rejected("insufficient_funds")))
    statuses = [record.status for record in await log(ledger)]
    assert statuses == ["success", "failure", "failure", "pending", "pending", "success", "failure"]


async def test_the_log_is_read_from_a_time_on_in_order_and_in_pieces(ledger: Ledger) -> None:
    for n in range(1_203):
        await ledger.apply(reserve(f"p{n}", at=NOW + n))
    times = [record.timestamp_ms - NOW for record in await log(ledger)]
    assert times == list(range(1_203))
    assert [r.timestamp_ms - NOW for r in await log(ledger, since_ms=NOW + 1_000, limit=3)] == [1000, 1001, 1002]
    assert len(await log(ledger, limit=501)) == 501
    assert await log(ledger, limit=0) == []


async def test_an_asset_that_nobody_registered_is_written_in_atomic_units(ledger: Ledger) -> None:
    await sold(ledger, "a", asset="eip155:1/erc20:0xdd")
    (record,) = await log(ledger)
    assert (record.amount, record.currency) == ("1000", "eip155:1/erc20:0xdd")
    await ledger.register([Asset("eip155:1/erc20:0xdd", "DAI", 18)])
    await ledger.register([Asset("eip155:1/erc20:0xdd", "FAKE", 0), USDC])
    (record,) = await log(ledger)
    assert (record.amount, record.currency) == ("0.000000000000001", "DAI"), "the first name stays"


async def test_records_are_found_by_payer_endpoint_agent_and_transaction(ledger: Ledger) -> None:
    await sold(ledger, "first", at=NOW, payer="0xme", agent="agent-7")
    await sold(ledger, "second", at=NOW + 1, payer="0xme", endpoint="GET /other")
    await sold(ledger, "third", at=NOW + 2, payer="0xyou")

    async def names(*what: str, **more: Any) -> list[str]:
        return [record.metadata["transaction"] for _, record in await ledger.find(*what, **more)]

    assert await names() == ["0xthird", "0xsecond", "0xfirst"]
    assert await names("payer", "0xme") == ["0xsecond", "0xfirst"]
    assert await names("endpoint", "GET /other") == ["0xsecond"]
    assert await names("agent", "agent-7") == ["0xfirst"]
    assert await names("transaction", "0xthird") == ["0xthird"]
    assert await names("payer", "0xnobody") == []
    (newest,) = await ledger.find(limit=1)
    assert await names(before=newest[0], limit=1) == ["0xsecond"]


async def test_what_is_unknown_has_nothing(ledger: Ledger) -> None:
    assert await ledger.payment(b"\x00" * 32) is None
    assert await ledger.charges(new_id()) == []
    assert await ledger.refunds(new_id()) == []
    assert await ledger.response(new_id()) is None


async def test_nobody_waits_for_the_leases_of_the_dead(ledger: Ledger) -> None:
    """A worker was killed and started again: its own leases need not run out."""
    mine = await ledger.apply(reserve("mine", owner="dead"))
    other = await ledger.apply(reserve("other", owner="alive"))
    settling = await ledger.apply(reserve("settling", owner="dead"))
    await ledger.apply(capture(settling, owner="dead", begin_settle=True, settle_lease_ms=NOW + LEASE))
    asked: list[str] = []

    def dead(owner: str) -> bool:
        asked.append(owner)
        return owner == "dead"

    assert await ledger.end_leases(dead=dead, now_ms=NOW + 5) == 2
    assert sorted(asked) == ["alive", "dead"]
    work = await ledger.lease_work(owner="w9", now_ms=NOW + 5, lease_until_ms=NOW + 60 * SECOND, limit=9)
    assert [p.id for p in work.ask] == [settling.payment_id]
    (charge,) = await ledger.charges(mine.payment_id)
    assert charge.state is ChargeState.RELEASED
    (charge,) = await ledger.charges(other.payment_id)
    assert charge.state is ChargeState.RESERVED
