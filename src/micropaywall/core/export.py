"""The transaction log as text: a JSON array, JSON Lines, or CSV. The same for the seller's book and the buyer's payments.

Records go through one at a time, so that a log of any length needs no more memory than a line. JSON is ASCII: no code page
and no line separator of Unicode can spoil it. CSV is RFC 4180 (CRLF, quotes doubled), to be written as UTF-8.

What strangers chose (URLs, names of clients, reasons) ends up in somebody's spreadsheet. A cell that a spreadsheet would
read as a formula gets an apostrophe in front (OWASP, "CSV Injection").
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from micropaywall.core.book import Record

__all__ = ["CSV_COLUMNS", "FORMATS", "Format", "export", "export_async", "record_document", "rfc3339", "safe_cell"]

_FIELDS: Final = ("timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status")
_METADATA: Final = (
    "paymentId", "chargeId", "url", "host", "responseStatus", "responseBytes", "latencyMs", "rail", "network", "asset",
    "amountAtomic", "payer", "payee", "transaction", "state", "paymentState", "chargeState", "moneyMoved", "reason",
    "agent", "attempts",
)  # fmt: skip
CSV_COLUMNS: Final = _FIELDS + _METADATA
"""The fixed fields, then all metadata of either side: the logs of a seller and of a buyer fit into one sheet."""

_FORMULA_STARTS: Final = frozenset("=+-@\t\r\n＝＋－＠")
"""The wide forms are the narrow ones to spreadsheets of East Asian languages."""


def rfc3339(ms: int) -> str:
    """A time in Unix milliseconds for programs: ISO 8601 in UTC, ``2027-01-15T08:00:00.000Z``."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def record_document(record: Record) -> dict[str, object]:
    """``{"timestamp", "amount", "currency", "clientId", "endpoint", "paymentToken", "status", "metadata"}``.

    ``amount`` is an exact decimal string. ``paymentToken`` is a hash that belongs to the payment, never a credential.
    """
    return {
        "timestamp": rfc3339(record.timestamp_ms),
        "amount": record.amount,
        "currency": record.currency,
        "clientId": record.client_id,
        "endpoint": record.endpoint,
        "paymentToken": record.payment_token,
        "status": record.status,
        "metadata": dict(record.metadata),
    }


def safe_cell(value: object) -> str:
    """``value`` as the text of a spreadsheet's cell that is not run as a formula, whatever a stranger wrote into it."""
    if value is None:
        return ""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    # Importers that trim spaces would find the formula behind them.
    return f"'{text}" if text.lstrip(" ")[:1] in _FORMULA_STARTS else text


@dataclass(frozen=True, slots=True)
class Format:
    """How a log is written: ``head``, every record by ``line`` with ``between`` in the gaps, ``tail``."""

    media_type: str
    head: str
    line: Callable[[Record], str]
    between: str = ""
    tail: str = ""


def _json(record: Record) -> str:
    return json.dumps(record_document(record), allow_nan=False)


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()


def _csv(record: Record) -> str:
    document = record_document(record)
    del document["metadata"]
    if unknown := record.metadata.keys() - set(_METADATA):
        raise ValueError(f"metadata without a column: {', '.join(sorted(unknown))}")
    cells = document | dict(record.metadata)
    return _csv_line(safe_cell(cells.get(name)) for name in CSV_COLUMNS)


FORMATS: Final[Mapping[str, Format]] = {
    "json": Format("application/json", "[", lambda record: f"\n{_json(record)}", ",", "\n]\n"),
    "jsonl": Format("application/jsonl", "", lambda record: f"{_json(record)}\n"),
    "csv": Format("text/csv; charset=utf-8", _csv_line(CSV_COLUMNS), _csv),
}


def export(records: Iterable[Record], form: Format) -> Iterator[str]:
    """The log in pieces; together they are one document. Reads ``records`` as far as it is read itself."""
    yield form.head
    gap = ""
    for record in records:
        yield gap + form.line(record)
        gap = form.between
    yield form.tail


async def export_async(records: AsyncIterable[Record], form: Format) -> AsyncIterator[str]:
    """`export` of what a `ledger.port.Ledger` gives."""
    yield form.head
    gap = ""
    async for record in records:
        yield gap + form.line(record)
        gap = form.between
    yield form.tail
