"""What is installed: few packages, all pinned with hashes, no registry named, and one version number."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from tools import lock

import micropaywall
from micropaywall.settings.model import RAIL_SETTINGS

ROOT = lock.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==([^ ;\\]+)([^\\]*)\\$", re.MULTILINE)
PACKAGES_MAX = 15
"""Transitive packages of the library as a seller or a buyer, without web framework and HTTP client."""


def pins(name: str) -> list[tuple[str, str, str]]:
    return [
        (n, v, marker.strip(" ;")) for n, v, marker in _PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text())
    ]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9.-]", text, maxsplit=1)[0] for text in requirements}


def test_the_library_brings_at_most_fifteen_packages_on_any_platform() -> None:
    found = {name for name, _, _ in pins("runtime")}
    assert len(found) + 1 <= PACKAGES_MAX, sorted(found)
    assert names(PROJECT["project"]["dependencies"]) <= found


def test_what_is_installed_here_for_the_library_is_as_few() -> None:
    seen: set[str] = set()
    todo = sorted(names(PROJECT["project"]["dependencies"]))
    while todo:
        name = todo.pop()
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if name not in seen:
            seen.add(name)
            todo += names([line for line in wanted if "extra ==" not in line])
    assert len(seen) + 1 <= PACKAGES_MAX, sorted(seen)


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_everything_is_pinned_with_hashes_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert len(blocks) == len(pins(name))
    for block in blocks:
        assert block.count("--hash=sha256:") >= 1, block
    assert not re.search(r"https?:|--(?:extra-)?index-url|--find-links|@ file", text)


def test_the_development_lock_agrees_with_the_runtime_lock_and_has_every_extra() -> None:
    dev = {(name, version) for name, version, _ in pins("dev")}
    assert {(name, version) for name, version, _ in pins("runtime")} <= dev
    wanted = [line for extra in PROJECT["project"]["optional-dependencies"].values() for line in extra]
    wanted += [line for group in PROJECT["dependency-groups"].values() for line in group]
    assert names(wanted) <= {name for name, _ in dev}


def test_the_lock_was_made_from_the_dependencies_as_they_are() -> None:
    for name, version, _ in pins("runtime"):
        for line in PROJECT["project"]["dependencies"]:
            least = re.match(rf"{re.escape(name)}>=([0-9.]+)", line)
            if least:
                assert [int(n) for n in version.split(".")] >= [int(n) for n in least[1].split(".")], line


def test_the_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert micropaywall.__version__ == version
    assert f"## {version} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_both_commands_and_the_module_are_the_same_program() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert set(scripts) == {"micropaywall", "mpw"}
    assert len(set(scripts.values())) == 1
    module, _, name = scripts["mpw"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    printed = subprocess.run(
        [sys.executable, "-m", "micropaywall", "--version"], capture_output=True, text=True, check=True
    )
    assert printed.stdout == f"micropaywall {micropaywall.__version__}\n"


def test_the_pytest_plugin_is_declared_where_it_is() -> None:
    (target,) = PROJECT["project"]["entry-points"]["pytest11"].values()
    importlib.import_module(target)


def test_the_package_says_that_it_is_typed_and_under_which_licence() -> None:
    assert (Path(micropaywall.__file__).parent / "py.typed").is_file()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_every_extra_that_an_error_or_a_document_names_exists() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    used = set()
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")]:
        for listed in re.findall(r"micropaywall\[([a-z0-9,]+)\]", file.read_text(encoding="utf-8")):
            used |= {(file.name, extra) for extra in listed.split(",")}
    assert {(file, extra) for file, extra in used if extra not in extras} == set()


def test_rails_have_settings() -> None:
    assert "sandbox" in RAIL_SETTINGS
