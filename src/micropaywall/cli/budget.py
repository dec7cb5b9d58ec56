"""``micropaywall budget``: what may be spent, and what was."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import click

from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.output import Output, json_option
from micropaywall.cli.parts import spending_store
from micropaywall.cli.screen import Column
from micropaywall.client.payer import DEFAULT_BUDGET
from micropaywall.core.budget import Budget, Limit
from micropaywall.money import format_decimal

if TYPE_CHECKING:
    from micropaywall.core.policy import Realm
    from micropaywall.spending.store import SpendingStore

__all__ = ["budget", "set_", "show"]


@click.group(
    cls=LazyGroup,
    members={
        "show": Member(f"{__name__}:show", "The limits in force, and what was spent under each."),
        "set": Member(f"{__name__}:set_", "Replace the limits; stop all payments, or allow them again."),
    },
)
def budget() -> None:
    """Limits that hold for everything that this user's programs buy, whatever they ask for.

    They are kept in the data directory and checked before anything is signed, by all processes together.
    """


@click.command()
@json_option
def show(out: Output) -> None:
    """The limits in force, and what was spent under each: with play money and with real money apart."""
    with spending_store() as store:
        own, stopped = store.budget().limits, store.kill_switch()
        limits = own or DEFAULT_BUDGET.limits
        rows = [row for limit in limits for row in _spent(store, limit)]
    out.document({"stopped": stopped, "default": not own, "limits": rows})
    if stopped:
        out.check(False, "all payments are stopped", "micropaywall budget set --resume")
    if not own:
        out.say("No limit was set, so the default one holds, unless a program brings its own. To set one:")
        out.line("  micropaywall budget set '$0.01 each, $1 a day'")
        out.line()
    out.table(
        [
            Column("limit"),
            Column("money"),
            Column("for", keep="both"),
            Column("spent", right=True),
            Column("left", right=True),
        ],
        [(row["limit"], row["money"], row["subject"] or "-", row["spent"] or "-", row["left"] or "-") for row in rows],
    )


def _spent(store: SpendingStore, limit: Limit) -> list[dict[str, str]]:
    shown = {"limit": str(limit), "subject": limit.subject}
    if limit.window == "payment":
        return [shown | {"money": "any", "spent": "", "left": ""}]
    found: list[dict[str, str]] = []
    realms: tuple[tuple[Realm, str], ...] = (("live", "real"), ("test", "play"))
    for realm, money in realms:
        for subject, spent in store.spent(limit, realm=realm):
            left = max(limit.amount.value - spent, Decimal(0))
            found.append(
                {
                    "limit": str(limit),
                    "money": money,
                    "subject": subject,
                    "spent": format_decimal(spent),
                    "left": format_decimal(left),
                }
            )
    return found or [shown | {"money": "any", "spent": "0", "left": format_decimal(limit.amount.value)}]


@click.command("set")
@click.argument("limits", required=False)
@click.option("--none", is_flag=True, help="Take all limits away.")
@click.option("--stop", is_flag=True, help="Stop all payments of all programs of this user, now.")
@click.option("--resume", is_flag=True, help="Allow payments again.")
@json_option
def set_(out: Output, limits: str | None, none: bool, stop: bool, resume: bool) -> None:
    """Replace the limits with LIMITS, one text with commas between them.

    \b
    micropaywall budget set '$0.01 each, $1 a day'
    micropaywall budget set '$5 in total, $0.50/hour for each host'
    micropaywall budget set --stop

    A payment has to fit all limits that apply to it. Windows are rolling; a month has 30 days.
    """  # noqa: D301  (click's mark for lines that are not to be refilled is a real backspace)
    if sum((limits is not None, none, stop, resume)) != 1:
        raise click.UsageError("give LIMITS, or one of --none, --stop and --resume.")
    with spending_store() as store:
        if limits is not None:
            store.set_budget(Budget.parse(limits))
        elif none:
            store.set_budget(Budget(()))
        else:
            store.set_kill_switch(on=stop)
        now, stopped = store.budget(), store.kill_switch()
    out.document({"stopped": stopped, "limits": [str(limit) for limit in now.limits]})
    if stop or resume:
        out.check(True, "all payments are stopped" if stopped else "payments are allowed again")
    else:
        out.check(True, f"budget: {now}" if now.limits else "there is no limit any more")
