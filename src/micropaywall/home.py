r"""Where micropaywall keeps its files: one data directory per user, and one for the configuration.

``MICROPAYWALL_HOME`` wins and holds both. Otherwise the platform's own places are used:

    platform    data                                               configuration
    Linux       $XDG_DATA_HOME/micropaywall                        $XDG_CONFIG_HOME/micropaywall
                (~/.local/share/micropaywall)                      (~/.config/micropaywall)
    macOS       ~/Library/Application Support/micropaywall         the same
    Windows     %LOCALAPPDATA%\micropaywall                         the same

Source: XDG Base Directory Specification 0.8 (relative values are ignored); Apple File System Programming Guide; Windows
known folder FOLDERID_LocalAppData (a wallet does not roam).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Final

from micropaywall.errors import ConfigurationError

__all__ = ["CONFIG_FILE", "config_file", "data_directory", "locate", "prepare"]

CONFIG_FILE: Final = "micropaywall.toml"
_NAME: Final = "micropaywall"


def locate(environ: Mapping[str, str], platform: str, user_home: str) -> tuple[PurePath, PurePath]:
    """Data and configuration directory for an environment, a ``sys.platform`` and a user's home. Touches nothing."""
    pure = PureWindowsPath if platform == "win32" else PurePosixPath
    if chosen := environ.get("MICROPAYWALL_HOME", ""):
        if chosen.startswith("~"):
            chosen = user_home + chosen[1:]
        return pure(chosen), pure(chosen)
    if platform == "win32":
        place = pure(environ.get("LOCALAPPDATA") or user_home + r"\AppData\Local") / _NAME
        return place, place
    if platform == "darwin":
        place = pure(user_home) / "Library" / "Application Support" / _NAME
        return place, place

    def xdg(variable: str, default: str) -> PurePath:
        value = environ.get(variable, "")
        return (pure(value) if value.startswith("/") else pure(user_home, default)) / _NAME

    return xdg("XDG_DATA_HOME", ".local/share"), xdg("XDG_CONFIG_HOME", ".config")


def data_directory(*, create: bool = True) -> Path:
    """The user's data directory, absolute; made (for its owner only) unless ``create`` is false.

    Raises ConfigurationError when it cannot be made or is no directory.
    """
    place = Path(locate(os.environ, sys.platform, str(Path.home()))[0]).absolute()
    return prepare(place) if create else place


def config_file() -> Path:
    """Where the configuration file is looked for when none is named; it need not exist."""
    return Path(locate(os.environ, sys.platform, str(Path.home()))[1]).absolute() / CONFIG_FILE


def prepare(place: Path) -> Path:
    """Make ``place`` with mode 0700 and return it; what exists keeps its mode. Raises ConfigurationError.

    On Windows the directory inherits the user profile's access list, which admits the user and administrators only.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data directory cannot be used: {error.strerror or error}",
            expected="a directory that this user may write",
            received=str(place),
            hint="Set MICROPAYWALL_HOME to another directory.",
        ) from error
    return place
