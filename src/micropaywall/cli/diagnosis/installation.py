"""This installation: versions, data directory, settings, wallets, books, sandbox network, clock."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from micropaywall.cli import parts
from micropaywall.cli.diagnosis.finding import Finding, bad, good, note, warn
from micropaywall.cli.version import versions
from micropaywall.crypto.address import parse_address
from micropaywall.errors import ConfigurationError, MicropaywallError
from micropaywall.home import config_file, data_directory
from micropaywall.ledger import path_of
from micropaywall.limits import CLOCK_SKEW_S
from micropaywall.sandbox.token import SANDBOX_TOKEN
from micropaywall.settings import Settings, load_settings
from micropaywall.wallets.store import WalletStore

__all__ = ["examine"]

_PYTHON_MIN: Final = (3, 11)
_SQLITE_MIN: Final = (3, 37, 0)
"""STRICT tables."""
_HTTP_CLIENTS: Final = ("httpx2", "httpx", "requests")


def examine(file: Path | None = None) -> list[Finding]:
    """Everything that can be looked at without asking anybody."""
    findings = [*_versions(), *_home()]
    try:
        loaded = load_settings(file)
    except ConfigurationError as error:
        return [*findings, bad("settings", error.detail, error.hint)]
    where = (
        f"settings are read from {loaded.file}"
        if loaded.file
        else f"no configuration file ({config_file()} would be read)"
    )
    findings.append(good("settings", where))
    settings = loaded.settings
    return [*findings, *_wallets(settings), *_book(settings), *_spending(), *_network(settings)]


def _versions() -> Iterator[Finding]:
    found = versions()
    facts = {"versions": found}
    if sys.version_info < _PYTHON_MIN:
        yield bad("python", f"Python {found['python']} is too old", "Python 3.11 or later is needed.", **facts)
    elif sqlite3.sqlite_version_info < _SQLITE_MIN:
        yield bad("sqlite", f"SQLite {found['sqlite']} is too old", "Books need SQLite 3.37 or later.", **facts)
    else:
        yield good(
            "versions",
            f"micropaywall {found['micropaywall']}, Python {found['python']}, SQLite {found['sqlite']}, {found['system']}",
            **facts,
        )
    if importlib.util.find_spec("uvicorn") is None:
        yield note(
            "server", "`serve` and `demo` need uvicorn, which is not installed", "pip install 'micropaywall[server]'"
        )
    if not any(importlib.util.find_spec(name) for name in _HTTP_CLIENTS):
        yield note(
            "client",
            "`get` and `demo` need an HTTP client, and none is installed",
            "pip install 'micropaywall[httpx2]'",
        )


def _home() -> Iterator[Finding]:
    place = data_directory(create=False)
    if not place.exists():
        yield note("home", f"the data directory {place} does not exist yet; it is made when it is needed")
        return
    if not place.is_dir() or not os.access(place, os.W_OK):
        yield bad(
            "home", f"the data directory {place} cannot be written", "Set MICROPAYWALL_HOME to another directory."
        )
        return
    if os.name == "posix" and stat.S_IMODE(place.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        yield warn("home", f"others on this machine can look into the data directory {place}", f"chmod 700 {place}")
        return
    yield good("home", f"the data directory is {place}")


def _wallets(settings: Settings) -> Iterator[Finding]:
    store = WalletStore(data_directory(create=False))
    entries = store.entries()
    if not entries:
        yield note("wallet", "there is no wallet yet; the sandbox wallet is made when you first pay")
        return
    network = parts.sandbox_network(settings)
    try:
        for entry in entries:
            if entry.address is None:
                yield bad("wallet", f"wallet {entry.name}: the file {entry.path} is no keystore")
                continue
            value = network.balances([parse_address(entry.address)])[0]
            money = SANDBOX_TOKEN.asset.money(value)
            facts = {"wallet": entry.name, "address": entry.address, "sandboxBalance": str(money)}
            what = f"wallet {entry.name}{' (default)' if entry.default else ''}: {entry.address}"
            if value == 0:
                yield warn(
                    "wallet", f"{what} is empty on the sandbox", f"micropaywall wallet fund {entry.name}", **facts
                )
            else:
                yield good("wallet", f"{what} has {money} on the sandbox", **facts)
    except MicropaywallError as error:
        yield bad("network", f"the sandbox network cannot be asked: {error.detail}", error.hint)
    finally:
        network.close()
    if not any(entry.default for entry in entries):
        yield warn("wallet", f"the default wallet {store.default_name()!r} does not exist")


def _book(settings: Settings) -> Iterator[Finding]:
    try:
        file = path_of(settings.ledger.url)
    except ConfigurationError as error:
        yield bad("ledger", error.detail, error.hint)
        return
    if not file.exists():
        yield note("ledger", f"there is no seller's book yet ({file})")
        return
    from micropaywall.ledger.verify import verify

    try:
        report = verify(file)
    except MicropaywallError as error:
        yield bad("ledger", f"the book {file}: {error.detail}", error.hint, code=error.code)
        return
    for finding in report.findings:
        yield bad("ledger", f"the book {file}, {finding.check}: {finding.what}", "micropaywall ledger verify")
    if report.ok:
        facts = {"payments": report.payments, "deliveries": report.charges}
        yield good("ledger", f"the book adds up: {file}, {report.charges:,} deliveries", **facts)


def _spending() -> Iterator[Finding]:
    file = data_directory(create=False) / parts.SPENDING_FILE
    if not file.exists():
        yield note("spending", "nothing was bought yet")
        return
    try:
        with parts.spending_store() as store:
            open_payments, stopped, budget = store.open_payments(), store.kill_switch(), store.budget()
    except MicropaywallError as error:
        yield bad("spending", f"the buyer's journal {file}: {error.detail}", error.hint)
        return
    if stopped:
        yield warn("kill-switch", "all payments are stopped", "micropaywall budget set --resume")
    if open_payments:
        yield warn(
            "spending",
            f"{len(open_payments)} payment(s) were sent and have no outcome yet",
            "micropaywall payments list --state unknown",
        )
    yield good("spending", f"the buyer's journal can be read; budget: {budget if budget.limits else 'none set'}")


def _network(settings: Settings) -> Iterator[Finding]:
    network = parts.sandbox_network(settings)
    try:
        head = network.head()
    except MicropaywallError as error:
        yield bad("network", f"the sandbox network cannot be used: {error.detail}", error.hint)
        return
    finally:
        network.close()
    ahead = head.time_s - time.time()
    if ahead > CLOCK_SKEW_S:
        yield bad(
            "clock",
            f"the sandbox network's last block lies {ahead:.0f} s in the future: this machine's clock was set back",
            "Set the clock (NTP), or wait.",
        )
        return
    yield good("network", f"the sandbox network is at block {head.number}", block=head.number)
