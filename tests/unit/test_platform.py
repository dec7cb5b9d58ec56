"""Library and command line run on Linux, macOS and Windows: nothing at import that only one of them has."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import micropaywall

SOURCE = Path(micropaywall.__file__).parent
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty", "crypt", "spwd", "nis"}
SERVER_EXTRAS = {"uvloop", "httptools"}
POSIX_NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "setsid", "setuid", "killpg", "uname", "chown", "fchmod", "getpgid",
           "sched_setaffinity", "sched_getaffinity", "nice", "getloadavg", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGALRM", "SIGQUIT", "alarm", "setitimer", "pause"},
    "socket": {"AF_UNIX", "SO_REUSEPORT", "fromfd"},
    "time": {"tzset", "clock_gettime"},
    "asyncio": {"open_unix_connection", "start_unix_server"},
}  # fmt: skip


def module_level(tree: ast.Module) -> list[ast.stmt]:
    """Statements that an import carries out: those outside functions, and outside ``if TYPE_CHECKING`` and platform checks."""
    found: list[ast.stmt] = []
    todo = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If):
            if not any(word in ast.unparse(node.test) for word in ("TYPE_CHECKING", "sys.platform", "os.name")):
                todo += node.body
            todo += node.orelse
        elif isinstance(node, ast.Try):
            todo += [*node.orelse, *node.finalbody]
            caught = " ".join(ast.unparse(h.type) for h in node.handlers if h.type)
            if not any(error in caught for error in ("ImportError", "ModuleNotFoundError")):
                todo += node.body
        elif isinstance(node, (ast.With, ast.For, ast.While, ast.ClassDef)):
            todo += node.body
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(node)
    return found


def posix_imports(text: str) -> set[str]:
    found = set()
    for node in module_level(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found & (POSIX_ONLY | SERVER_EXTRAS)


def unguarded_names(text: str) -> set[str]:
    """Attributes that exist on POSIX only, used where neither the platform is asked nor their absence expected."""
    tree = ast.parse(text)
    guarded: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp)):
            condition = ast.unparse(node.test)
            if any(word in condition for word in ("sys.platform", "os.name", "hasattr", "WINDOWS")):
                guarded |= set(ast.walk(node))
        elif isinstance(node, ast.Try) and any(
            "AttributeError" in ast.unparse(handler.type) for handler in node.handlers if handler.type
        ):
            guarded |= set(ast.walk(node))
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node not in guarded
        and isinstance(node.value, ast.Name)
        and node.attr in POSIX_NAMES.get(node.value.id, ())
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import fcntl", {"fcntl"}),
        ("from resource import getrusage", {"resource"}),
        ("if True:\n    import pwd", {"pwd"}),
        ("class A:\n    import grp", {"grp"}),
        ("try:\n    import termios\nexcept ValueError:\n    pass", {"termios"}),
        ("try:\n    import termios\nexcept ImportError:\n    pass", set()),
        ("import sys\nif sys.platform != 'win32':\n    import fcntl", set()),
        ("def f():\n    import uvloop", set()),
        ("import uvloop", {"uvloop"}),
    ],
)
def test_the_walk_finds_what_an_import_would_run(text: str, found: set[str]) -> None:
    assert posix_imports(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os\nos.fork()", {"os.fork"}),
        ("import os\nif hasattr(os, 'fork'):\n    os.fork()", set()),
        ("import os, sys\nx = os.getuid() if sys.platform != 'win32' else 0", set()),
        ("import os\ntry:\n    os.getuid()\nexcept AttributeError:\n    pass", set()),
        ("import signal\nsignal.SIGKILL", {"signal.SIGKILL"}),
    ],
)
def test_the_walk_finds_names_that_windows_lacks(text: str, found: set[str]) -> None:
    assert unguarded_names(text) == found


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_module_needs_posix_to_be_imported_or_used(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert posix_imports(text) == set()
    assert unguarded_names(text) == set()


def test_every_module_imports_where_posix_modules_and_server_extras_are_missing() -> None:
    """As on Windows with `pip install micropaywall` and the adapters' libraries."""
    names = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["micropaywall", *path.relative_to(SOURCE).with_suffix("").parts]
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {POSIX_ONLY | SERVER_EXTRAS!r}:
            importing = sys._getframe()
            while importing:
                if importing.f_globals.get("__name__", "").startswith("micropaywall"):
                    raise ModuleNotFoundError(f"no module named {{name!r}} on this platform", name=name)
                if importing.f_globals.get("__name__", "").partition(".")[0] not in ("importlib", "_frozen_importlib", "__main__"):
                    return None
                importing = importing.f_back
        return None

for name in {POSIX_ONLY | SERVER_EXTRAS!r}:
    if name != "posix":
        sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
import importlib
for name in {names!r}:
    importlib.import_module(name)
print("all imported")
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "all imported\n", done.stderr


def test_text_files_are_opened_with_an_encoding() -> None:
    """Windows would use the code page of the machine."""
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            words = {keyword.arg for keyword in node.keywords}
            modes = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
            binary = any(isinstance(mode, str) and "b" in mode and len(mode) <= 4 for mode in modes)
            if (
                called in ("read_text", "write_text")
                and "encoding" not in words
                and len(node.args) < (called == "write_text") + 1
            ):
                found.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
            if called == "open" and isinstance(node.func, ast.Name) and not binary and "encoding" not in words:
                found.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert found == []


def test_keccak_is_the_same_with_the_library_of_other_platforms() -> None:
    code = """
import sys
from micropaywall.crypto.keccak import keccak256 as native
del sys.modules["micropaywall.crypto.keccak"]
sys.modules["_pysha3"] = None
from micropaywall.crypto.keccak import keccak256 as other
assert "Cryptodome.Hash.keccak" in sys.modules and native is not other
assert native(b"").hex() == other(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
for size in (1, 31, 32, 64, 135, 136, 137, 1000):
    assert native(bytes(range(256))[:size] * 3) == other(bytes(range(256))[:size] * 3)
print("the same")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "the same\n", done.stderr
