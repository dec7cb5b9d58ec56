"""What `pip install micropaywall` puts on a machine: the wheel, built from this tree, installed apart from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import micropaywall

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    return built


def test_the_wheel_has_every_source_and_data_file_and_nothing_else(wheel: Path) -> None:
    source = ROOT / "src"
    expected = {
        file.relative_to(source).as_posix()
        for file in (source / "micropaywall").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {"micropaywall/py.typed", "micropaywall/ledger/sql/schema_sqlite.sql"} <= packed


def test_the_wheel_declares_commands_plugin_licence_and_few_dependencies(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "micropaywall = micropaywall.cli:main" in texts["entry_points.txt"]
    assert "mpw = micropaywall.cli:main" in texts["entry_points.txt"]
    assert "micropaywall = micropaywall.testing" in texts["entry_points.txt"]
    assert "Apache License" in texts["LICENSE"]
    always = [
        line for line in texts["METADATA"].splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert len(always) == 6, always


def test_the_installed_package_runs_without_the_tree(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "PYTHONPATH": str(site)
    }
    code = "import micropaywall, sys; print(micropaywall.__file__)"
    where = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    for arguments in (["--version"], ["--help"], ["config", "show", "--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "micropaywall", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), arguments
    assert micropaywall.__version__ in wheel.name
