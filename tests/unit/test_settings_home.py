"""The data directory: where it is on each platform, and who may read it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from micropaywall import home
from micropaywall.errors import ConfigurationError


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_micropaywall_home_wins_on_every_platform(platform: str) -> None:
    environ = {"MICROPAYWALL_HOME": "/srv/pay", "XDG_DATA_HOME": "/x", "LOCALAPPDATA": "/y"}
    assert home.locate(environ, platform, "/home/ann") == (PurePosixPath("/srv/pay"), PurePosixPath("/srv/pay"))


def test_micropaywall_home_wins_on_windows_too() -> None:
    data, config = home.locate({"MICROPAYWALL_HOME": r"D:\pay", "LOCALAPPDATA": r"C:\x"}, "win32", r"C:\Users\ann")
    assert data == config == PureWindowsPath(r"D:\pay")


def test_a_tilde_in_micropaywall_home_is_the_users_home() -> None:
    assert home.locate({"MICROPAYWALL_HOME": "~/pay"}, "linux", "/home/ann")[0] == PurePosixPath("/home/ann/pay")


@pytest.mark.parametrize(
    ("environ", "data", "config"),
    [
        ({}, "/home/ann/.local/share/micropaywall", "/home/ann/.config/micropaywall"),
        ({"XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}, "/d/micropaywall", "/c/micropaywall"),
        ({"XDG_DATA_HOME": "relative"}, "/home/ann/.local/share/micropaywall", "/home/ann/.config/micropaywall"),
    ],
)
def test_linux_follows_xdg_and_ignores_relative_values(environ: dict[str, str], data: str, config: str) -> None:
    assert home.locate(environ, "linux", "/home/ann") == (PurePosixPath(data), PurePosixPath(config))


def test_macos_uses_application_support() -> None:
    expected = PurePosixPath("/Users/ann/Library/Application Support/micropaywall")
    assert home.locate({}, "darwin", "/Users/ann") == (expected, expected)


@pytest.mark.parametrize("environ", [{}, {"LOCALAPPDATA": r"C:\Users\ann\AppData\Local"}])
def test_windows_uses_local_application_data(environ: dict[str, str]) -> None:
    expected = PureWindowsPath(r"C:\Users\ann\AppData\Local\micropaywall")
    assert home.locate(environ, "win32", r"C:\Users\ann") == (expected, expected)


def test_the_data_directory_is_made_for_its_owner_only(micropaywall_home: Path) -> None:
    assert not micropaywall_home.exists()
    assert home.data_directory(create=False) == micropaywall_home
    assert not micropaywall_home.exists()
    assert home.data_directory() == micropaywall_home
    assert home.data_directory() == micropaywall_home, "a second call finds it"
    if sys.platform != "win32":
        assert stat.S_IMODE(micropaywall_home.stat().st_mode) == 0o700


def test_a_data_directory_that_cannot_be_made_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("MICROPAYWALL_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match="data directory") as caught:
        home.data_directory()
    assert caught.value.hint is not None
    assert "MICROPAYWALL_HOME" in caught.value.hint


def test_the_configuration_file_is_in_the_configuration_directory(micropaywall_home: Path) -> None:
    assert home.config_file() == micropaywall_home / "micropaywall.toml"
