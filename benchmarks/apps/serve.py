"""Serve an ASGI app with uvicorn (uvloop, httptools), one worker, pinned to one core.

    python serve.py PORT CORE FILE[:ATTRIBUTE]

Needs uvicorn only, so that the official SDK's environment runs the same program. Prints ``ready`` when it listens.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import uvicorn


class Announced(uvicorn.Server):
    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        print("ready", flush=True)


def main() -> None:
    port, core, target = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    file, _, attribute = target.partition(":")
    spec = importlib.util.spec_from_file_location("benchmarked_app", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarked_app"] = module
    spec.loader.exec_module(module)
    config = uvicorn.Config(
        getattr(module, attribute or "app"),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        backlog=4096,
    )
    Announced(config).run()


if __name__ == "__main__":
    main()
