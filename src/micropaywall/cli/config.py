"""``micropaywall config``: the settings in force."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from micropaywall.cli.lazy import LazyGroup, Member
from micropaywall.cli.options import config_option
from micropaywall.cli.output import Output, json_option
from micropaywall.cli.screen import Column

__all__ = ["config", "show"]


@click.group(cls=LazyGroup, members={"show": Member(f"{__name__}:show", "Print every setting; secrets are hidden.")})
def config() -> None:
    """The settings: one TOML file, overridden by the environment and by flags."""


@click.command()
@config_option
@click.option("--origin", is_flag=True, help="Also print where each value came from.")
@json_option
def show(out: Output, config_file: Path | None, origin: bool) -> None:
    """Print every setting that is in force. Secrets are hidden.

    A setting is taken from a flag, else from MICROPAYWALL_SECTION_NAME in the environment, else from the file, else it has its
    default. The file is the one that --config or MICROPAYWALL_CONFIG names, else the user's own.
    """
    from micropaywall import home, settings

    loaded = settings.load_settings(config_file)
    found = settings.lines(loaded)
    file = str(loaded.file) if loaded.file else None
    if out.as_json:
        values: dict[str, Any] = {line.key: line.value for line in found}
        if origin:
            values = {line.key: {"value": line.value, "origin": line.origin} for line in found}
        out.document({"file": file, "home": str(home.data_directory(create=False)), "settings": values})
        return
    out.pairs(
        [
            ("file", file or f"none ({home.config_file()} would be read)"),
            ("data directory", str(home.data_directory(create=False))),
        ],
        indent="",
    )
    out.line()
    columns = [Column("setting"), Column("value", keep="both")]
    rows = [[line.key, _text(line.value)] for line in found]
    if origin:
        columns.append(Column("origin", keep="end"))
        rows = [[*row, line.origin] for row, line in zip(rows, found, strict=True)]
    out.table(columns, rows)


def _text(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
