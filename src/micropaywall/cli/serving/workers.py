"""Several server processes on one socket and one book.

The book is what they share: every worker reserves and settles in it by compare-and-set, so it does not matter which of them
a payment meets. A worker that dies is replaced; one that never came up stops them all, since the next would fail too.
"""

from __future__ import annotations

import multiprocessing
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Final

from micropaywall.cli.serving import process
from micropaywall.cli.serving.plan import Plan
from micropaywall.errors import ConfigurationError, MicropaywallError

__all__ = ["run_workers"]

_STARTED: Final = b"started"
_STOP_S: Final = 40.0
"""How long workers may take to stop before they are killed; more than a server's own grace."""
_RESTART_WAIT_S: Final = 0.5


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    parent_end: Connection
    started: bool = False


def run_workers(plan: Plan, count: int, listener: socket.socket, *, started: Callable[[], None]) -> None:
    """Run ``count`` workers until told to stop. ``started`` is called once all of them accept requests.

    Raises ConfigurationError when one of them cannot start.
    """
    stopping = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in process.SIGNALS}
    workers = [_spawn(plan, listener) for _ in range(count)]
    try:
        told = False
        while not stopping.is_set():
            _watch(workers, plan, listener, stopping)
            if not told and all(worker.started for worker in workers):
                told = True
                started()
    finally:
        _stop(workers)
        for number, handler in before.items():
            signal.signal(number, handler)


def _spawn(plan: Plan, listener: socket.socket) -> _Worker:
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    child = context.Process(target=_work, args=(plan, listener, child_end), name="micropaywall-server")
    child.start()
    child_end.close()
    return _Worker(child, parent_end)


def _watch(workers: list[_Worker], plan: Plan, listener: socket.socket, stopping: threading.Event) -> None:
    """Wait a moment for news: workers that came up, workers that died."""
    by_end = {worker.parent_end: worker for worker in workers}
    for end in wait(list(by_end), timeout=_RESTART_WAIT_S):
        worker = by_end[end]  # type: ignore[index]
        try:
            news = worker.parent_end.recv_bytes()
        except (EOFError, OSError):
            worker.process.join()
            if stopping.is_set():
                return
            if not worker.started:
                raise ConfigurationError(
                    f"a server process ended before it was ready (exit code {worker.process.exitcode})",
                    hint="Its message is above.",
                ) from None
            workers[workers.index(worker)] = _spawn(plan, listener)
            time.sleep(_RESTART_WAIT_S)
        else:
            worker.started = worker.started or news == _STARTED


def _stop(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.parent_end.close()  # a worker stops when its end of the pipe closes
    deadline = time.monotonic() + _STOP_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(plan: Plan, listener: socket.socket, end: Connection) -> None:
    """A worker: serves until the parent closes the pipe (or dies, which closes it too)."""
    stop = threading.Event()

    def listen_to_parent() -> None:
        try:
            end.recv_bytes()
        except (EOFError, OSError):
            pass
        stop.set()

    threading.Thread(target=listen_to_parent, daemon=True).start()
    try:
        loaded = plan.load()
        process.run(plan.site(loaded), loaded.settings, listener, started=lambda: end.send_bytes(_STARTED), stop=stop)
    except MicropaywallError as error:
        from micropaywall.cli.output import Output

        Output(as_json=False).problem(error.problem())
        raise SystemExit(1) from None
