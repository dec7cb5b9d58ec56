"""What an import brings along. How long it takes is measured by `make bench`; here is what it may load at all."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import micropaywall

SOURCE = Path(micropaywall.__file__).parent
FRAMEWORKS = {"starlette", "fastapi", "flask", "django", "uvicorn", "uvloop", "httptools", "werkzeug", "pydantic"}
CLIENTS = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
TOOLKITS = {"click", "sqlalchemy", "alembic", "keyring", "prometheus_client", "opentelemetry", "pytest", "hypothesis"}
SELLER = {f"micropaywall.{name}" for name in ("asgi", "wsgi", "seller", "ledger", "settlement", "contrib")}
BUYER = {f"micropaywall.{name}" for name in ("client", "spending", "wallets")}


def loaded_by(statement: str) -> set[str]:
    """Every module that a fresh interpreter has after ``statement`` and had not before."""
    code = f"import sys; before = set(sys.modules)\n{statement}\nimport json; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def within(modules: set[str], packages: set[str]) -> set[str]:
    return {
        module for module in modules for package in packages if module == package or module.startswith(f"{package}.")
    }


def module_names() -> list[str]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ["micropaywall", *file.relative_to(SOURCE).with_suffix("").parts]
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if name != "micropaywall.__main__"]


def test_importing_the_package_loads_next_to_nothing() -> None:
    modules = loaded_by("import micropaywall")
    assert (
        within(
            modules,
            FRAMEWORKS | CLIENTS | TOOLKITS | {"msgspec", "coincurve", "cryptography", "sqlite3", "asyncio", "ssl"},
        )
        == set()
    )
    assert within(modules, {"micropaywall"}) == {"micropaywall"}


def test_a_seller_loads_no_framework_no_client_and_no_buyer() -> None:
    modules = loaded_by("import micropaywall; micropaywall.Paywall; import micropaywall.asgi, micropaywall.wsgi")
    assert within(modules, FRAMEWORKS | CLIENTS | TOOLKITS | BUYER | {"micropaywall.cli"}) == set()
    assert "micropaywall.seller.paywall" in modules


@pytest.mark.parametrize(
    ("adapter", "allowed"),
    [
        ("httpx2", {"httpx2", "httpcore2"}),
        ("httpx", {"httpx", "httpcore"}),
        ("requests", {"requests", "urllib3"}),
    ],
)
def test_a_buyer_loads_its_own_client_and_no_seller(adapter: str, allowed: set[str]) -> None:
    modules = loaded_by(f"import micropaywall.client.{adapter}")
    assert (
        within(modules, FRAMEWORKS | (CLIENTS - allowed) | SELLER | {"micropaywall.cli", "sqlalchemy", "alembic"})
        == set()
    )


def test_money_and_errors_need_no_library_at_all() -> None:
    modules = loaded_by("import micropaywall.money, micropaywall.errors, micropaywall.observe, micropaywall.home")
    assert within(modules, FRAMEWORKS | CLIENTS | TOOLKITS | {"msgspec", "coincurve", "cryptography"}) == set()


def test_help_of_the_command_line_loads_no_command() -> None:
    modules = loaded_by(
        "from micropaywall.cli.frame import root\nroot.main(['--help'], standalone_mode=False) if False else None"
    )
    assert within(modules, FRAMEWORKS | CLIENTS | {"sqlite3", "msgspec", "coincurve", "micropaywall.seller"}) == set()


def test_every_module_can_be_imported_first_and_shows_nothing() -> None:
    """No circle that depends on the order, no output, no thread, no warning."""
    code = f"""
import importlib, sys, threading
for name in {module_names()!r}:
    for known in [known for known in sys.modules if known == "micropaywall" or known.startswith("micropaywall.")]:
        del sys.modules[known]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"{{name}}: {{type(error).__name__}}: {{error}}")
print([thread.name for thread in threading.enumerate() if thread is not threading.main_thread()])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_imports_are_absolute_and_starless() -> None:
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names))
    ]
    assert found == []


def test_every_package_that_the_sources_import_is_declared() -> None:
    """Nothing is used that merely happens to be installed with something else."""
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    known = {line.split(">")[0].split("[")[0].strip().lower() for line in declared}
    providers = {
        "_pysha3": "safe-pysha3",
        "Cryptodome": "pycryptodomex",
        "prometheus_client": "prometheus-client",
        "opentelemetry": "opentelemetry-api",
        "anyio": "starlette",  # what the framework itself runs on
        "asgiref": "django",
        "pytest": "",  # the plugin is loaded by pytest
    }
    undeclared = set()
    for file in SOURCE.rglob("*.py"):
        for name in _imports(ast.parse(file.read_text(encoding="utf-8"))):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "micropaywall":
                continue
            package = providers.get(top, top)
            if package and package not in known:
                undeclared.add(f"{file.relative_to(SOURCE)}: {name}")
    assert undeclared == set()


def test_the_layers_are_enforced(tmp_path: Path) -> None:
    """Each of these lines must break the contract that is there for it; `make imports` shows that nothing else does."""
    offences = {
        ("core/quote.py", "import random"): ("no clock, no chance", "micropaywall.core.quote -> random"),
        ("money.py", "import time"): ("no clock, no chance", "micropaywall.money -> time"),
        ("core/lives.py", "from micropaywall.ledger import port"): (
            "Upper layers import lower ones",
            "micropaywall.core.lives -> micropaywall.ledger.port",
        ),
        ("ids.py", "import msgspec"): ("msgspec stays in proto and settings", "micropaywall.ids -> msgspec"),
        ("rails/port.py", "import httpx"): ("brings no web framework", "micropaywall.rails.port -> httpx"),
        ("seller/paywall.py", "from micropaywall.wallets import keystore"): (
            "A seller does not load the buyer",
            "micropaywall.seller.paywall -> micropaywall.wallets.keystore",
        ),
        ("wallets/keystore.py", "from micropaywall.ledger import port"): (
            "A buyer does not load the seller",
            "micropaywall.wallets.keystore -> micropaywall.ledger.port",
        ),
        ("ledger/sqlite/rows.py", "from micropaywall.ledger import schema"): (
            "does not load the tables' definitions",
            "micropaywall.ledger.sqlite.rows -> micropaywall.ledger.schema",
        ),
    }
    shutil.copytree(SOURCE, tmp_path / "src" / "micropaywall", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE.parents[1] / "pyproject.toml", tmp_path)
    for file, line in offences:
        with (tmp_path / "src" / "micropaywall" / file).open("a", encoding="utf-8") as changed:
            changed.write(f"\n{line}\n")
    linter = Path(sysconfig.get_path("scripts")) / ("lint-imports.exe" if sys.platform == "win32" else "lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "NO_COLOR": "1"}
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    verdicts = re.split(r"(?<=KEPT|OKEN)", said.partition("Broken contracts")[0])
    for contract, edge in offences.values():
        assert any(contract in entry and entry.endswith("BROKEN") for entry in verdicts), contract
        assert edge in said
