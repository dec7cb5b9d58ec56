"""``micropaywall worker``: settlement and recovery of a book, apart from the server."""

from __future__ import annotations

import asyncio
import signal
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option

if TYPE_CHECKING:
    from micropaywall.cli.seller_parts import Backroom
    from micropaywall.settings import Loaded
    from micropaywall.settlement.worker import SettlementWorker

__all__ = ["worker"]


@click.command()
@click.option("--once", is_flag=True, help="Do what is due now and end (for a timer); else run until Ctrl-C.")
@config_option
@json_option
def worker(out: Output, once: bool, config_file: Path | None) -> None:
    """Settle what is due, ask for what has no verdict, pay refunds, confirm, recover after a crash.

    A server does all of this by itself. A worker of its own is for WSGI under many short-lived processes, and for books whose
    server is down. Any number may run on one book.
    """
    from micropaywall.observe import logs
    from micropaywall.settings import load_settings

    loaded = load_settings(config_file)
    logs.set_up(loaded.settings.log.level, loaded.settings.log.format)
    asyncio.run(_run(out, loaded, once))


async def _run(out: Output, loaded: Loaded, once: bool) -> None:
    from micropaywall.cli.seller_parts import backroom
    from micropaywall.observe.logs import LogObserver
    from micropaywall.settlement.worker import SettlementWorker

    async with backroom(loaded) as room:
        running = SettlementWorker(
            room.ledger, room.settlements, clock=room.clock, owner=room.owner, observer=LogObserver()
        )
        if once:
            await _once(out, running)
            return
        _announce(out, room)
        _stop_on_signal(running)
        await running.run()
    out.remark("stopped", "dim")


async def _once(out: Output, running: SettlementWorker) -> None:
    total = await running.tick()
    while True:
        more = await running.tick()
        if not more.leased:
            break
        for name, count in asdict(more).items():
            setattr(total, name, getattr(total, name) + count)
    counts = asdict(total)
    out.document(counts)
    done = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name != "leased")
    out.check(True, done or "nothing was due")


def _announce(out: Output, room: Backroom) -> None:
    out.document({"owner": room.owner, "rails": [rail.seller.name for rail in room.rails]})
    out.check(True, f"working on {', '.join(rail.seller.name for rail in room.rails)}; Ctrl-C stops it")


def _stop_on_signal(running: SettlementWorker) -> None:
    """Ctrl-C and SIGTERM end the loop after the calls that are under way."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def told(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(running.stop)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), told)
