"""A process of its own that works with a book: ``python -m tests.kit.ledger_process MODE PATH …``; tells what it did."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from micropaywall.core import book
from micropaywall.ledger.sqlite import SqliteLedger
from tests.kit.ledgers import capture, end_settle, reserve


def tell(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


async def race(path: Path, start: float, owner: str, names: list[str], times: int) -> None:
    """Present each payment ``times`` times at once, at a moment that all processes know."""
    ledger = await SqliteLedger.open(path)
    tell(ready=True)
    await asyncio.sleep(max(0.0, start - time.time()))
    commands = [reserve(name, owner=owner) for _ in range(times) for name in names]
    answers = await asyncio.gather(*(ledger.apply(command) for command in commands))
    tell(answers=Counter(type(answer).__name__ for answer in answers))
    await ledger.close()


async def sell(path: Path, prefix: str) -> None:
    """Buy without end, and tell each step once it is durable."""
    ledger = await SqliteLedger.open(path)
    tell(ready=True)

    async def buyer(number: int) -> None:
        for count in range(1_000_000):
            name = f"{prefix}-{number}-{count}"
            applied = await ledger.apply(reserve(name))
            if not isinstance(applied, book.Applied):
                raise TypeError(f"{name}: {applied}")
            tell(name=name, step="reserved")
            await ledger.apply(capture(applied, begin_settle=True))
            tell(name=name, step="captured")
            await ledger.apply(end_settle(applied))
            tell(name=name, step="settled")

    await asyncio.gather(*(buyer(number) for number in range(8)))


def main(mode: str, path: str, *rest: str) -> None:
    if mode == "race":
        start, owner, names, times = rest
        asyncio.run(race(Path(path), float(start), owner, names.split(","), int(times)))
    else:
        asyncio.run(sell(Path(path), *rest))


if __name__ == "__main__":
    main(*sys.argv[1:])
