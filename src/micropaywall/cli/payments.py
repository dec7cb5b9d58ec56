"""``micropaywall payments``: what this user's programs bought."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from micropaywall.cli.books import short_id
from micropaywall.cli.exporting import export_options, writing
from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.output import Output, json_option, local_time, short_time
from micropaywall.cli.parts import spending_store
from micropaywall.cli.purchases import purchase_document, purchase_record
from micropaywall.cli.screen import Column
from micropaywall.cli.times import MOMENT
from micropaywall.core.export import FORMATS, export
from micropaywall.core.purchase import OPEN, PurchaseState
from micropaywall.errors import PaymentNotFound

if TYPE_CHECKING:
    from micropaywall.core.purchase import PurchaseRow
    from micropaywall.spending.store import SpendingStore

__all__ = ["export_", "list_", "payments", "show"]

_PREFIX: Final = re.compile(r"pay_[0-9a-f]{8,40}", re.ASCII)
_SIGNED_STATES: Final = [
    state.value for state in PurchaseState if state not in (PurchaseState.RESERVED, PurchaseState.RELEASED)
]


@click.group(
    cls=LazyGroup,
    members={
        "list": Member(f"{__name__}:list_", "The latest payments, one line each."),
        "show": Member(f"{__name__}:show", "One payment, with everything that is known of it."),
        "export": Member(f"{__name__}:export_", "The log as JSON, JSON Lines or CSV."),
    },
)
def payments() -> None:
    """The buyer's own log: what was signed, sent, served and refused, by all programs of this user."""


def _chosen(store: SpendingStore, since: int, states: tuple[str, ...]) -> Iterator[PurchaseRow]:
    return store.payments(since_ms=since, states=[PurchaseState(state) for state in states])


@click.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many of the newest.")
@click.option(
    "--since", type=MOMENT, default=0, metavar="TIME", help="Only from then on: 2027-01-15, or 24h for a day ago."
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_SIGNED_STATES),
    help="Only those; may be given several times.",
)
@json_option
def list_(out: Output, limit: int, since: int, states: tuple[str, ...]) -> None:
    """The latest payments, one line each, the newest last."""
    with spending_store() as store:
        rows = list(deque(_chosen(store, since, states), maxlen=limit))
    out.document([purchase_document(row) for row in rows])
    if not rows:
        out.say("Nothing was bought yet." if not (since or states) else "No payment is like that.")
        return
    out.table(
        [
            Column("time", rigid=True),
            Column("amount", right=True, rigid=True),
            Column("state", rigid=True),
            Column("endpoint", keep="both", least=16),
            Column("payment", rigid=True),
        ],
        [
            (short_time(row.created_ms), str(row.price), row.state.value, row.endpoint, short_id(row.payment_id or "-"))
            for row in rows
        ],
    )
    waiting = [row for row in rows if row.state in OPEN]
    if waiting:
        out.remark()
        out.remark(f"{len(waiting)} without an outcome yet: the same request sends the same payment again.", "yellow")


@click.command()
@click.argument("payment")
@json_option
def show(out: Output, payment: str) -> None:
    """One PAYMENT (its id, or the beginning of it), with everything that is known of it."""
    if not _PREFIX.fullmatch(payment):
        raise PaymentNotFound("that is no payment id", expected="pay_ and at least 8 hex digits", received=payment[:80])
    with spending_store() as store:
        found = [row for row in store.payments() if (row.payment_id or "").startswith(payment)]
    if len(found) != 1:
        raise PaymentNotFound(
            "several payments begin like that" if found else "no such payment was made by this user",
            received=payment,
            hint="micropaywall payments list",
        )
    row = found[0]
    out.document(purchase_document(row))
    out.line(str(row.payment_id), "bold")
    moved = {"yes": "yes", "no": "no", "unknown": "not known"}[row.money_moved]
    items = [
        ("state", row.state.value + (f" ({row.reason})" if row.reason else "")),
        ("money moved", moved),
        ("amount", str(row.price)),
        ("endpoint", row.endpoint),
        ("to", f"{row.payee} on {row.network}"),
        ("from", f"{row.payer} (program: {row.agent})"),
        ("signed", local_time(row.signed_ms) if row.signed_ms else "-"),
        ("sent", f"{row.attempts} time{'' if row.attempts == 1 else 's'}, by {row.dialect}"),
        ("valid until", local_time(row.valid_before_ms)),
    ]
    if row.response_status is not None:
        items.append(("response", str(row.response_status)))
    if row.transaction:
        items.append(("transaction", row.transaction))
    out.pairs(items)


@click.command("export")
@export_options
@click.option(
    "--since", type=MOMENT, default=0, metavar="TIME", help="Only from then on: 2027-01-15, or 24h for a day ago."
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_SIGNED_STATES),
    help="Only those; may be given several times.",
)
@json_option
def export_(out: Output, form: str, output: Path | None, since: int, states: tuple[str, ...]) -> None:
    """The log, oldest first, in the same form as a seller's: equal paymentTokens are the same payment."""
    with spending_store() as store, writing(output) as write:
        for text in export(map(purchase_record, _chosen(store, since, states)), FORMATS[form]):
            write(text)
    if output is not None:
        out.remark(f"written to {output}")
