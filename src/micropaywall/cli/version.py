"""The versions of what is installed."""

from __future__ import annotations

import platform
import sqlite3
from importlib import metadata

from micropaywall import __version__

__all__ = ["versions"]

_OPTIONAL = ("uvicorn", "starlette", "httpx2", "httpx", "requests", "fastapi", "flask", "django", "keyring")


def versions() -> dict[str, str]:
    """micropaywall, Python, SQLite, the system, and those extras that are there."""
    found = {
        "micropaywall": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    return found | {name: version for name in _OPTIONAL if (version := _version(name))}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
