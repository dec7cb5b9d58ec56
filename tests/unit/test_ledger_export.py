"""The transaction log as JSON, JSON Lines and CSV: fixed names, exact amounts, nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.ledgers import NOW, USDC, capture, end_settle, key_of, reserve
from tests.kit.purchases import served, signed

from micropaywall.cli import frame
from micropaywall.cli.parts import spending_store
from micropaywall.cli.purchases import purchase_record
from micropaywall.core import book
from micropaywall.core.budget import Budget
from micropaywall.core.export import CSV_COLUMNS, FORMATS, export, export_async, record_document, rfc3339
from micropaywall.ledger.memory import MemoryLedger
from micropaywall.ledger.sqlite import SqliteLedger

FIXED = ["timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status"]


def record(**more: Any) -> book.Record:
    facts: dict[str, Any] = {
        "timestamp_ms": NOW,
        "amount": "0.001",
        "currency": "USDC",
        "client_id": "0xabc",
        "endpoint": "GET /api/resource",
        "payment_token": "ab" * 32,
        "status": "success",
        "metadata": {"responseStatus": 200, "url": "https://shop.example/a"},
    }
    return book.Record(**(facts | more))


def text_of(records: list[book.Record], form: str) -> str:
    return "".join(export(records, FORMATS[form]))


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


# -- the record -------------------------------------------------------------------------------------------------------


def test_a_record_has_the_fixed_names_in_order_and_no_other() -> None:
    document = record_document(record())
    assert list(document) == [*FIXED, "metadata"]
    assert document["timestamp"] == "2027-01-15T08:00:00.000Z"
    assert document["amount"] == "0.001"
    assert document["metadata"] == {"responseStatus": 200, "url": "https://shop.example/a"}


@pytest.mark.parametrize(("ms", "text"), [(0, "1970-01-01T00:00:00.000Z"), (NOW + 7, "2027-01-15T08:00:00.007Z")])
def test_times_are_iso_8601_in_utc_with_milliseconds(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_log_of_any_length_is_one_json_array(count: int) -> None:
    text = text_of([record(timestamp_ms=NOW + n) for n in range(count)], "json")
    assert json.loads(text) == [record_document(record(timestamp_ms=NOW + n)) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_lines_are_one_document_a_line(count: int) -> None:
    text = text_of([record(timestamp_ms=NOW + n) for n in range(count)], "jsonl")
    assert [json.loads(line)["timestamp"] for line in text.splitlines()] == [rfc3339(NOW + n) for n in range(count)]
    assert text.count("\n") == count


def test_no_character_of_a_stranger_breaks_a_line() -> None:
    odd = "a\u2028b\u0085c\nd\r\x00\ud800é"
    text = text_of([record(endpoint=odd)], "jsonl")
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert json.loads(text)["endpoint"] == odd


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_csv_has_a_column_for_each_field_and_lines_end_as_rfc_4180_says() -> None:
    text = text_of([record(), record(status="failure")], "csv")
    assert text.split("\r\n")[0] == ",".join(CSV_COLUMNS)
    assert text.count("\r\n") == 3
    assert text.endswith("\r\n")
    first, second = cells(text)
    assert {name: first[name] for name in FIXED} == {name: record_document(record())[name] for name in FIXED}
    assert (first["responseStatus"], first["url"], first["transaction"]) == ("200", "https://shop.example/a", "")
    assert second["status"] == "failure"


def test_an_empty_log_is_its_heading() -> None:
    assert text_of([], "csv") == ",".join(CSV_COLUMNS) + "\r\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", " =", "  @"])
def test_a_cell_that_begins_like_a_formula_is_text(start: str) -> None:
    evil = f"{start}cmd|' /C calc'!A0\",\"=1+1"
    named = {"client_id": evil, "endpoint": evil, "currency": evil, "amount": evil}
    (row,) = cells(text_of([record(**named, metadata={"url": evil, "reason": evil, "payer": evil})], "csv"))
    for name in ("clientId", "endpoint", "currency", "amount", "url", "reason", "payer"):
        assert row[name] == f"'{evil}", name


def test_negative_numbers_are_text_too() -> None:
    (row,) = cells(text_of([record(amount="-0.5", metadata={"latencyMs": -5, "attempts": 5})], "csv"))
    assert (row["amount"], row["latencyMs"], row["attempts"]) == ("'-0.5", "'-5", "5")


@pytest.mark.parametrize("text", ['a"b', "a,b", "a\r\nb", "a\nb", "é", '"', '""', "a\x00b", "'", ";"])
def test_quotes_commas_and_line_ends_stay_in_their_cell(text: str) -> None:
    (row,) = cells(text_of([record(endpoint=f"x{text}")], "csv"))
    assert row["endpoint"] == f"x{text}"
    assert None not in row


def test_metadata_without_a_column_is_not_dropped_silently() -> None:
    with pytest.raises(ValueError, match="without a column: shoeSize"):
        text_of([record(metadata={"shoeSize": 42})], "csv")


# -- streaming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_record_is_asked_for_when_the_one_before_has_left(form: str) -> None:
    asked = 0

    def records() -> Iterator[book.Record]:
        nonlocal asked
        while True:
            asked += 1
            yield record()

    pieces = export(records(), FORMATS[form])
    for count in range(1, 5):
        next(pieces)
        assert asked <= count


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_memory_does_not_grow_with_the_log(form: str) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            for _ in export((record(timestamp_ms=NOW + n) for n in range(count)), FORMATS[form]):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    few, many = peak(300), peak(3_000)
    assert many < few + 100_000, "2,700 more records are 1 MB of text"


# -- both books -------------------------------------------------------------------------------------------------------


async def _pay(ledger: Any, name: str, **more: Any) -> None:
    applied = await ledger.apply(reserve(name, **more))
    await ledger.apply(capture(applied, begin_settle=True))
    await ledger.apply(end_settle(applied))


@pytest.mark.anyio
@pytest.mark.parametrize("form", sorted(FORMATS))
async def test_the_sellers_book_is_exported_alike_from_every_engine(form: str) -> None:
    ledger = MemoryLedger(assets=[USDC])
    await _pay(ledger, "a")

    async def collect(records: AsyncIterator[book.Record]) -> str:
        return "".join([text async for text in export_async(records, FORMATS[form])])

    known = [r async for r in ledger.records()]
    assert await collect(ledger.records()) == text_of(known, form)
    assert known[0].amount == "0.001"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROPAYWALL_HOME", str(tmp_path))
    return tmp_path


async def _sell(home: Path) -> None:
    ledger = await SqliteLedger.open(home / "ledger.db", assets=[USDC])
    await _pay(ledger, "a", agent="=HYPERLINK(1)")
    await ledger.apply(reserve("b"))
    await ledger.close()


@pytest.mark.anyio
async def test_neither_credential_nor_replay_key_is_in_an_export(home: Path) -> None:
    ledger = await SqliteLedger.open(home / "ledger.db", assets=[USDC])
    await _pay(ledger, "a", instruction=b"the signed authorization")
    for form in FORMATS.values():
        text = "".join([text async for text in export_async(ledger.records(), form)])
        assert "signed authorization" not in text
        assert key_of("a").hex() not in text
    await ledger.close()


def export_command(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> bytes:
    assert frame.run(arguments) == 0
    return capfdbinary.readouterr().out


def test_the_command_writes_the_book_in_each_format(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    import anyio

    anyio.run(_sell, home)
    found = json.loads(export_command(capfdbinary, "ledger", "export"))
    assert [(r["status"], r["amount"], r["clientId"]) for r in found] == [
        ("success", "0.001", "=HYPERLINK(1)"),
        ("pending", "0.001", "0x" + "a1" * 20),
    ]
    lines = export_command(capfdbinary, "ledger", "export", "--format", "jsonl", "--status", "pending").splitlines()
    assert [json.loads(line) for line in lines] == found[1:]
    table = export_command(capfdbinary, "ledger", "export", "--format", "csv").decode()
    assert [row["clientId"] for row in cells(table)] == ["'=HYPERLINK(1)", "0x" + "a1" * 20]
    assert b"\r\r\n" not in table.encode()
    later = ("--since", "2100-01-01")
    assert json.loads(export_command(capfdbinary, "ledger", "export", *later)) == []


def test_the_buyers_log_has_the_same_form_and_the_same_token(
    home: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with spending_store() as store:
        row = served(store, budget=Budget.parse("$1 a day"))
        signed(store, budget=Budget.parse("$1 a day"))
    found = json.loads(export_command(capfdbinary, "payments", "export"))
    assert [(list(r), r["status"]) for r in found] == [
        ([*FIXED, "metadata"], "success"),
        ([*FIXED, "metadata"], "pending"),
    ]
    assert found[0] == record_document(purchase_record(row))
    table = export_command(capfdbinary, "payments", "export", "--format", "csv", "--state", "served").decode()
    assert [line["paymentId"] for line in cells(table)] == [row.payment_id]
    assert b"c2VjcmV0" not in export_command(capfdbinary, "payments", "export"), "the credential"


def test_a_file_appears_only_when_it_is_complete(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    anyio.run(_sell, home)
    place = home / "log.csv"
    place.write_text("the one of yesterday")

    def broken(_: book.Record) -> str:
        raise RuntimeError("half way")

    good = FORMATS["csv"]
    with monkeypatch.context() as patch:
        patch.setitem(FORMATS, "csv", type(good)(good.media_type, good.head, broken))  # type: ignore[arg-type]
        assert frame.run(["ledger", "export", "--format", "csv", "--output", str(place)]) != 0
    assert place.read_text() == "the one of yesterday"
    assert sorted(p.name for p in home.glob("*log.csv*")) == ["log.csv"]
    assert frame.run(["ledger", "export", "--format", "csv", "--output", str(place)]) == 0
    assert len(cells(place.read_bytes().decode())) == 2
    if sys.platform != "win32":
        assert place.stat().st_mode & 0o077 == 0, "it says who bought what: the owner's only"
