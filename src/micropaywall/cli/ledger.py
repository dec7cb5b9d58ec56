"""``micropaywall ledger``: the seller's book."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from micropaywall.cli.books import existing_book, find_payment, short_id
from micropaywall.cli.exporting import export_options, writing
from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option, local_time, short_time
from micropaywall.cli.screen import Column
from micropaywall.cli.times import MOMENT
from micropaywall.core.export import FORMATS, export_async, record_document, rfc3339
from micropaywall.ids import payment_id

if TYPE_CHECKING:
    from micropaywall.core.book import ChargeRow, PaymentRow, Record, RefundRow
    from micropaywall.ledger.port import Ledger

__all__ = ["export", "ledger", "list_", "show"]

_CARE: Final = "micropaywall.cli.book_care"


@click.group(
    cls=LazyGroup,
    members={
        "list": Member(f"{__name__}:list_", "The latest deliveries, one line each."),
        "show": Member(f"{__name__}:show", "One payment: its money, its deliveries, its refunds."),
        "balance": Member(f"{_CARE}:balance", "What every account comes to."),
        "verify": Member(f"{_CARE}:verify", "Prove that the book adds up and was not changed."),
        "export": Member(f"{__name__}:export", "The transaction log as JSON, JSON Lines or CSV."),
        "backup": Member(f"{_CARE}:backup", "Copy the book while servers go on."),
        "restore": Member(f"{_CARE}:restore", "Put a copy back in its place."),
        "prune": Member(f"{_CARE}:prune", "Erase stored responses whose time is over."),
    },
)
def ledger() -> None:
    """The seller's book: what was paid, what was delivered, and the proof that it adds up."""


@click.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many of the newest.")
@click.option(
    "--since", type=MOMENT, default=0, metavar="TIME", help="Only from then on: 2027-01-15, or 24h for a day ago."
)
@click.option("--status", type=click.Choice(["success", "failure", "pending"]), help="Only those.")
@config_option
@json_option
def list_(out: Output, limit: int, since: int, status: str | None, config_file: Path | None) -> None:
    """The latest deliveries, one line each, the newest last."""
    records = asyncio.run(_records(config_file, limit, since, status))
    out.document([record_document(record) for record in records])
    if not records:
        out.say("The book has no delivery yet." if not (since or status) else "No delivery is like that.")
        return
    out.table(
        [
            Column("time", rigid=True),
            Column("amount", right=True, rigid=True),
            Column("status", rigid=True),
            Column("endpoint", least=16),
            Column("payer", keep="both", least=11, spare=True),
            Column("payment", rigid=True),
        ],
        [
            (
                short_time(record.timestamp_ms),
                f"{record.amount} {record.currency}",
                record.status,
                record.endpoint,
                _text(record.metadata, "payer"),
                short_id(_text(record.metadata, "paymentId")),
            )
            for record in records
        ],
    )


def _text(metadata: Mapping[str, object], name: str) -> str:
    return str(metadata.get(name) or "-")


async def _records(config_file: Path | None, limit: int, since: int, status: str | None) -> list[Record]:
    newest: deque[Record] = deque(maxlen=limit)
    async with existing_book(config_file) as book:
        async for record in _chosen(book, since, status):
            newest.append(record)
    return list(newest)


async def _chosen(book: Ledger, since: int, status: str | None) -> AsyncIterator[Record]:
    async for record in book.records(since_ms=since):
        if status is None or record.status == status:
            yield record


@click.command("export")
@export_options
@click.option(
    "--since", type=MOMENT, default=0, metavar="TIME", help="Only from then on: 2027-01-15, or 24h for a day ago."
)
@click.option("--status", type=click.Choice(["success", "failure", "pending"]), help="Only those.")
@config_option
@json_option
def export(
    out: Output, form: str, output: Path | None, since: int, status: str | None, config_file: Path | None
) -> None:
    """The transaction log, oldest first: one record for every delivery and every attempt at one."""
    asyncio.run(_export(config_file, form, output, since, status))
    if output is not None:
        out.remark(f"written to {output}")


async def _export(config_file: Path | None, form: str, output: Path | None, since: int, status: str | None) -> None:
    async with existing_book(config_file) as book:
        with writing(output) as write:
            async for text in export_async(_chosen(book, since, status), FORMATS[form]):
                write(text)


@click.command()
@click.argument("payment")
@config_option
@json_option
def show(out: Output, payment: str, config_file: Path | None) -> None:
    """One PAYMENT (its id, or the beginning of it): where its money is, what was delivered for it, what went back."""
    row, charges, refunds, symbol = asyncio.run(_payment(config_file, payment))
    out.document(_document(row, charges, refunds))
    out.line(payment_id(row.key), "bold")
    items = [
        ("state", row.state.value + (f" ({row.reason})" if row.reason else "")),
        ("amount", _amount(row.amount, symbol)),
        ("payer", row.payer),
        ("paid to", row.payee),
        ("network", f"{row.network} ({row.rail}, {row.dialect})"),
        ("known since", local_time(row.created_ms)),
        ("settled", local_time(row.settled_ms) if row.settled_ms else f"not yet ({row.mode})"),
    ]
    if row.transaction:
        items.append(("transaction", row.transaction + (f", block {row.block}" if row.block is not None else "")))
    if row.refunded:
        items.append(("given back", _amount(row.refunded, symbol)))
    out.pairs(items)
    for charge in charges:
        out.line()
        out.line(f"  delivery {local_time(charge.created_ms)}: {charge.state.value}", "bold")
        out.pairs(_charge_items(charge, symbol), indent="    ")
    for refund in refunds:
        out.line()
        out.line(f"  refund {local_time(refund.created_ms)}: {refund.state}", "bold")
        items = [("amount", _amount(refund.amount, symbol)), ("reason", refund.reason or "-")]
        if refund.transaction:
            items.append(("transaction", refund.transaction))
        out.pairs(items, indent="    ")


def _charge_items(charge: ChargeRow, symbol: tuple[str, int]) -> list[tuple[str, str]]:
    items = [("endpoint", charge.endpoint), ("url", charge.url), ("amount", _amount(charge.amount, symbol))]
    if charge.response_status is not None:
        size = f", {charge.response_bytes:,} bytes" if charge.response_bytes is not None else ""
        time = f", made in {charge.latency_ms} ms" if charge.latency_ms is not None else ""
        items.append(("response", f"{charge.response_status}{size}{time}"))
    return items


def _amount(atomic: int, symbol: tuple[str, int]) -> str:
    from decimal import Decimal

    from micropaywall.money import format_decimal

    name, decimals = symbol
    return f"{format_decimal(Decimal(atomic).scaleb(-decimals))} {name}"


async def _payment(
    config_file: Path | None, name: str
) -> tuple[PaymentRow, list[ChargeRow], list[RefundRow], tuple[str, int]]:
    async with existing_book(config_file) as book:
        row = await find_payment(book, name)
        charges, refunds = await book.charges(row.id), await book.refunds(row.id)
    return row, charges, refunds, _symbol(row)


def _symbol(row: PaymentRow) -> tuple[str, int]:
    """How amounts of the payment's asset are written: by the rails that are known, else in atomic units."""
    from micropaywall.sandbox.token import SANDBOX_TOKEN

    known = {asset.id: asset for asset in (SANDBOX_TOKEN.asset,)}
    asset = known.get(row.asset)
    return (asset.symbol, asset.decimals) if asset else (f"atomic units of {row.asset}", 0)


def _document(row: PaymentRow, charges: list[ChargeRow], refunds: list[RefundRow]) -> dict[str, object]:
    return {
        "paymentId": payment_id(row.key),
        "state": row.state.value,
        "reason": row.reason,
        "amountAtomic": str(row.amount),
        "refundedAtomic": str(row.refunded),
        "asset": row.asset,
        "network": row.network,
        "rail": row.rail,
        "dialect": row.dialect,
        "settle": row.mode,
        "payer": row.payer,
        "payTo": row.payee,
        "transaction": row.transaction,
        "block": row.block,
        "createdAt": rfc3339(row.created_ms),
        "settledAt": rfc3339(row.settled_ms) if row.settled_ms else None,
        "validBefore": rfc3339(row.valid_before_ms),
        "charges": [
            {
                "chargeId": charge.id.hex(),
                "state": charge.state.value,
                "amountAtomic": str(charge.amount),
                "endpoint": charge.endpoint,
                "url": charge.url,
                "responseStatus": charge.response_status,
                "responseBytes": charge.response_bytes,
                "latencyMs": charge.latency_ms,
                "createdAt": rfc3339(charge.created_ms),
            }
            for charge in charges
        ],
        "refunds": [
            {
                "refundId": refund.id.hex(),
                "state": refund.state,
                "amountAtomic": str(refund.amount),
                "reason": refund.reason,
                "transaction": refund.transaction,
                "createdAt": rfc3339(refund.created_ms),
            }
            for refund in refunds
        ],
    }
