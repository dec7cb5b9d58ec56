"""Read the settings: flag before environment before file before default, and remember where each value came from.

A string in the file may name variables of the environment: ``${VAR}``, ``${VAR:-default}`` (also when VAR is empty), and
``$${`` for a literal ``${``. They are expanded after the file was parsed, so a value cannot change the file's meaning.
An environment variable ``MICROPAYWALL_SERVER_PORT`` sets ``server.port``; lists are separated by commas.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from micropaywall import home
from micropaywall.errors import ConfigurationError, RailError
from micropaywall.settings.check import check
from micropaywall.settings.keys import check_key, check_keys, choices, did_you_mean, is_list
from micropaywall.settings.model import RAIL_SETTINGS, Settings
from micropaywall.settings.origin import Loaded, Origin, place, value_at
from micropaywall.settings.secrets import shown

__all__ = ["load_settings"]

_PREFIX: Final = "MICROPAYWALL_"
_VARIABLE: Final = re.compile(
    r"(?P<literal>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\$\{)"
)
_COMPLAINT: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<key>.*)`)?", re.DOTALL)


def load_settings(
    file: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """All settings, checked.

    ``file`` is read when it is given (it must exist then), else the one that ``MICROPAYWALL_CONFIG`` names, else the user's
    own if there is one. ``flags`` are values of the command line by key, ``{"server.port": 8080}``; None values are skipped.
    Raises ConfigurationError (RailError for what is wrong with a rail), naming the origin and the key.
    """
    variables = os.environ if environ is None else environ
    reader = _Reader(variables)
    found = _which_file(file, variables)
    if found is not None:
        reader.take_file(found)
    reader.take_environment()
    for key, value in (flags or {}).items():
        if value is not None:
            reader.put(key, value, Origin("flag", "--" + key.rpartition(".")[2].replace("_", "-")))
    loaded = reader.finish(found)
    check(loaded)
    return loaded


def _which_file(file: Path | None, variables: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if named := variables.get("MICROPAYWALL_CONFIG"):
        return Path(named).expanduser()
    usual = home.config_file()
    return usual if usual.is_file() else None


class _Reader:
    """Values from all sources, the weakest first, each with its origin."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.expanded: set[str] = set()

    def take_file(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"{file}: cannot be read: {why}", received=str(file)) from error
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{file}: is not TOML: {error}", expected="TOML 1.0") from None
        self.values = self._expand(tree, "", Origin("file", str(file)))
        check_keys(self.values, self.origins)

    def take_environment(self) -> None:
        for name, value in sorted(self.variables.items()):
            section, _, rest = name.removeprefix(_PREFIX).lower().partition("_")
            if name.startswith(_PREFIX) and rest and (section in Settings.SECTIONS or section == "rails"):
                self.put(self._key_of(section, rest, name), value, Origin("environment", name))

    def _key_of(self, section: str, rest: str, name: str) -> str:
        if section != "rails":
            check_key(
                f"{section}.{rest}", Settings.SECTIONS[section], {f"{section}.{rest}": Origin("environment", name)}
            )
            return f"{section}.{rest}"
        for rail in sorted(RAIL_SETTINGS, key=len, reverse=True):
            prefix = rail.replace("-", "_") + "_"
            if rest.startswith(prefix):
                return f"rails.{rail}.{rest[len(prefix) :]}"
        raise RailError(f"{name}: there is no such rail", expected=sorted(RAIL_SETTINGS), received=rest)

    def put(self, key: str, value: object, origin: Origin) -> None:
        """Set ``section.name`` or ``rails.rail.name``, over what a weaker source said."""
        *tables, last = key.split(".")
        target = self.values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise ConfigurationError(f"{place(self.origins, table)}: is not a table", expected=f"[{table}]")
        if isinstance(value, str) and is_list(key):
            value = [part.strip() for part in value.split(",") if part.strip()]
        target[last] = value
        for inner in [known for known in self.origins if known.startswith((f"{key}.", f"{key}["))]:
            del self.origins[inner]
        self.origins[key] = origin
        self.expanded.discard(key)

    def _expand(self, value: Any, key: str, origin: Origin) -> Any:
        if isinstance(value, dict):
            return {
                name: self._expand(inner, f"{key}.{name}" if key else name, origin) for name, inner in value.items()
            }
        if isinstance(value, list):
            return [self._expand(inner, f"{key}[{index}]", origin) for index, inner in enumerate(value)]
        self.origins[key] = origin
        return self._expand_text(value, key, origin) if isinstance(value, str) else value

    def _expand_text(self, text: str, key: str, origin: Origin) -> str:
        def replace(match: re.Match[str]) -> str:
            if match["literal"]:
                return "${"
            if match["broken"]:
                raise ConfigurationError(
                    f"{origin.detail}: {key}: a variable is not closed or has no name",
                    expected="${VAR}, ${VAR:-default}, or $${ for a literal ${",
                )
            self.expanded.add(key)
            value = self.variables.get(match["name"])
            if not value and match["default"] is not None:
                return str(match["default"])
            if value is None:
                raise ConfigurationError(
                    f"{origin.detail}: {key}: the environment has no variable {match['name']}",
                    expected=f"a variable {match['name']}",
                    hint=f"Set it, or write ${{{match['name']}:-default}}.",
                )
            return value

        return _VARIABLE.sub(replace, text)

    def finish(self, file: Path | None) -> Loaded:
        """The checked types of everything that was taken."""
        self._check_rails()
        check_keys(self.values, self.origins)
        try:
            settings = msgspec.convert(self.values, Settings, strict=False)
        except msgspec.ValidationError as error:
            raise self._explain(str(error)) from None
        return Loaded(settings, file, dict(self.origins), frozenset(self.expanded))

    def _check_rails(self) -> None:
        rails = self.values.get("rails", {})
        for name, table in rails.items() if isinstance(rails, dict) else ():
            where = place(self.origins, f"rails.{name}")
            if name not in RAIL_SETTINGS:
                raise RailError(
                    f"{where}: there is no such rail",
                    expected=sorted(RAIL_SETTINGS),
                    received=name,
                    hint=did_you_mean(name, RAIL_SETTINGS),
                )
            if not isinstance(table, dict):
                raise RailError(
                    f"{where}: a rail is a table", expected=f"[rails.{name}]", received=type(table).__name__
                )

    def _explain(self, complaint: str) -> ConfigurationError:
        """What the conversion complained of, as an error that names origin, key, what was expected and what came."""
        match = _COMPLAINT.fullmatch(complaint)
        what, key = (match["what"], match["key"] or "") if match else (complaint, "")
        if key.startswith("rails[...]"):  # the conversion does not say which
            suffix = key.removeprefix("rails[...]")
            key = next((k for k in self.origins if k.startswith("rails.") and k.endswith(suffix)), "rails")
        allowed = choices(key)
        if allowed:
            what = "expected one of " + ", ".join(allowed)
        error = RailError if key.startswith("rails") else ConfigurationError
        return error(
            f"{place(self.origins, key)}: {_in_words(what)}",
            expected=_in_words(what.partition(", got ")[0]).removeprefix("expected "),
            received=shown(key, value_at(self.values, key)),
        )


_WORDS: Final = {
    "object": "a table",
    "array": "a list",
    "str": "text",
    "int": "a whole number",
    "bool": "true or false",
}


def _in_words(what: str) -> str:
    what = what.replace("Object missing required field ", "it lacks ")
    what = re.sub(r"`([^`]*)`", lambda m: " or ".join(_WORDS.get(t, t) for t in m[1].split(" | ")), what)
    return what[:1].lower() + what[1:]
