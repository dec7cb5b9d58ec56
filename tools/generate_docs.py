"""Write the pages that say what the code says: ``docs/reference/*.md`` and the drawings in ``docs/concepts.md``.

python tools/generate_docs.py            write them
python tools/generate_docs.py --check    fail when one is not what the code makes
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import click
import msgspec.inspect as inspect

from micropaywall import errors
from micropaywall.cli.exits import MEANINGS
from micropaywall.cli.frame import root as command_line
from micropaywall.core import lives
from micropaywall.sandbox import faults
from micropaywall.settings.model import RAIL_SETTINGS, Section, Settings

ROOT: Final = Path(__file__).resolve().parents[1]
_BANNER: Final = "<!-- Written by tools/generate_docs.py from {source}; `make generate` writes it anew. -->\n\n"
_MARKS: Final = ("<!-- generated: {name} -->\n", "<!-- end of generated: {name} -->\n")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


# -- errors -----------------------------------------------------------------------------------------------------------

_BRANCH: Final = re.compile(r"^[│ ]*[├└]── (?P<name>\w+)(?:[ ]{2,}(?P<says>.+))?$", re.MULTILINE)


def errors_page() -> str:
    """``docs/reference/errors.md``: every code, by branch of the tree."""
    says = {match["name"]: match["says"] or "" for match in _BRANCH.finditer(errors.__doc__ or "")}
    known = {kind.__name__ for kind in errors.all_errors().values() if kind.__module__ == errors.__name__}
    if lacking := sorted(known - set(says) - {"MicropaywallError"}):
        raise SystemExit(f"micropaywall.errors: the tree in the docstring lacks {', '.join(lacking)}")
    if gone := sorted(set(says) - known):
        raise SystemExit(f"micropaywall.errors: the tree in the docstring has {', '.join(gone)}, which do not exist")
    text = _BANNER.format(source="src/micropaywall/errors.py") + (
        "# Errors\n\n"
        "A seller answers what it refuses with a body of type `application/problem+json` (RFC 9457), which also carries the "
        "members `code`, `side`, `retryable` and `moneyMoved`, and where they help `expected`, `received`, `hint` and "
        f"`retryAfter`. Its `type` is `{errors.PROBLEM_BASE}` and the code. In Python, each is a class of `micropaywall.errors`; "
        "`--json` prints the same members.\n\n"
        "*Side* is who has to change something. *Again* says whether the same request may be sent again as it is. *Money* says "
        "whether money moved; `unknown` means: send the same payment again, never sign a new one.\n"
    )
    for branch in errors.MicropaywallError.__subclasses__():
        text += f"\n## {branch.title}\n\n"
        rows = [
            [
                f'<a id="{kind.code}"></a>`{kind.code}`',
                str(kind.status or "–"),
                kind.title,
                says[kind.__name__] or "–",
                kind.side,
                "yes" if kind.retryable else "no",
                kind.money_moved,
                f"`{kind.__name__}`",
            ]
            for kind in _family(branch)
        ]
        text += table(["code", "status", "title", "when", "side", "again", "money", "class"], rows)
    return text


def _family(kind: type[errors.MicropaywallError]) -> Iterator[type[errors.MicropaywallError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child)


# -- configuration ----------------------------------------------------------------------------------------------------


def configuration_page() -> str:
    """``docs/reference/configuration.md``: every setting with type, default and meaning."""
    text = _BANNER.format(source="src/micropaywall/settings/model.py") + (
        "# Configuration\n\n"
        "One TOML file: the one that `--config` or `MICROPAYWALL_CONFIG` names, else `micropaywall.toml` in the user's "
        "configuration directory (`micropaywall config show` prints where that is). No file is needed: every setting has a "
        "default.\n\n"
        "- A flag of the command line wins over a variable of the environment, that over the file, that over the default. "
        "`micropaywall config show --origin` says where each value came from.\n"
        "- `MICROPAYWALL_` and the key in capitals sets a value from the environment: `MICROPAYWALL_SERVER_PORT=8080`, "
        "`MICROPAYWALL_RAILS_SANDBOX_FAULTS=slow,late`. Lists are separated by commas.\n"
        "- A string in the file may name a variable: `${VAR}`, or `${VAR:-default}`. `$${` is a literal `${`. Keep secrets in "
        "variables or files, not here.\n"
        "- A key that is not in this list is an error, and so is a rail that is unknown or cannot be opened.\n\n"
        "`MICROPAYWALL_HOME` is the data directory (wallets, books, the sandbox network) instead of the platform's own.\n\n"
        "```toml\n" + EXAMPLE + "```\n"
    )
    for name, kind in Settings.SECTIONS.items():
        text += _section(f"[{name}]", kind)
        for field in _fields(kind):
            element = _element(field.type)
            if element is not None:
                text += _section(f"[[{name}.{field.encode_name}]]", element)
    for name, kind in RAIL_SETTINGS.items():
        text += _section(f"[rails.{name}]", kind)
    return text


EXAMPLE: Final = """\
[seller]
pay_to = "${PAY_TO}"
public_url = "https://api.example.com"

[[seller.routes]]
method = "GET"
path = "/api/resource"
price = "$0.001"

[rails.sandbox]

[[buyer.budgets]]
limit = "$5"
window = "day"
"""


def _section(title: str, kind: type[Section]) -> str:
    rows = [
        [f"`{field.encode_name}`", _type(field.type), _default(field), _description(field.type)]
        for field in _fields(kind)
    ]
    return f"\n## `{title}`\n\n{kind.__doc__}\n\n" + table(["setting", "type", "default", "meaning"], rows)


def _fields(kind: type[Section]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(kind)
    return info.fields


def _element(kind: inspect.Type) -> type[Section] | None:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.VarTupleType) and isinstance(kind.item_type, inspect.StructType):
        return kind.item_type.cls if issubclass(kind.item_type.cls, Section) else None
    return None


def _description(kind: inspect.Type) -> str:
    description = (kind.extra_json_schema or {}).get("description") if isinstance(kind, inspect.Metadata) else None
    if not description:
        raise SystemExit(f"a setting has no description: {kind}")
    return str(description)


def _type(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            return _type(kind.type)
        case inspect.UnionType():
            return " or ".join(_type(part) for part in kind.types if not isinstance(part, inspect.NoneType))
        case inspect.LiteralType():
            return ", ".join(f"`{value or chr(34) * 2}`" for value in sorted(kind.values, key=str))
        case inspect.VarTupleType():
            return "tables" if isinstance(kind.item_type, inspect.StructType) else "list"
        case inspect.IntType():
            upper = "" if kind.le is None or kind.le > 2**31 else f" {kind.ge}–{kind.le}"
            return f"number{upper}"
        case inspect.BoolType():
            return "true, false"
        case inspect.StrType():
            return "text"
    raise TypeError(kind)


def _default(field: inspect.Field) -> str:
    if field.required:
        return "**needed**"
    if field.default in (None, "", ()):
        return "–"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return f"`{field.default}`"


# -- command line -----------------------------------------------------------------------------------------------------


def cli_page() -> str:
    """``docs/reference/cli.md``: every command with its arguments and options, and the exit codes."""
    text = _BANNER.format(source="src/micropaywall/cli/") + (
        "# Command line\n\n"
        "`micropaywall`, `mpw` and `python -m micropaywall` are the same program. Every command takes `--help`. With `--json`, "
        "standard output is one JSON document and an error is one on standard error, with the members of "
        "[errors](errors.md).\n\n"
        "## Exit codes\n\n"
    )
    text += table(["code", "meaning"], [[f"`{code.value}`", meaning] for code, meaning in MEANINGS.items()])
    context = click.Context(command_line, info_name="micropaywall")
    for name, command in _commands(command_line, context):
        text += _command(name, command)
    return text


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise SystemExit(f"the command {name} does not load")
        inner = click.Context(command, info_name=name, parent=context)
        yield inner, command
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _command(context: click.Context, command: click.Command) -> str:
    level = "##" if context.parent is not None and context.parent.parent is None else "###"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = f"\n{level} `{context.command_path}`\n\n```text\n{usage}\n```\n\n{_prose(command.help or '')}\n"
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and "--help" not in parameter.opts:
            rows.append([f"`{record[0]}`", record[1]])
    if rows:
        text += "\n" + table(["option", "meaning"], rows)
    return text


def _prose(text: str) -> str:
    """A command's help as Markdown: click's no-wrap mark opens a block of text as it stands."""
    paragraphs = []
    for paragraph in text.replace("\r", "").split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            paragraphs.append(" ".join(line.strip() for line in paragraph.splitlines()))
    return "\n\n".join(paragraphs).strip()


# -- sandbox faults ---------------------------------------------------------------------------------------------------


def faults_page() -> str:
    """``docs/reference/sandbox-faults.md``: trouble on request."""
    header = faults.HEADER.decode().title()
    rows = []
    for fault in faults.FaultName:
        argument = "–"
        if fault.argument is not None:
            argument = f"{fault.argument.unit}, default `{fault.argument.default}`"
            if fault.argument.most:
                argument += f", {fault.argument.least}–{fault.argument.most}"
        rows.append([f'<a id="{fault.text}"></a>`{fault.text}`', argument, fault.strikes.value, fault.meaning])
    return (
        _BANNER.format(source="src/micropaywall/sandbox/faults.py")
        + (
            "# Faults of the sandbox network\n\n"
            "The sandbox makes trouble on request, as networks do on their own. A fault is written `name` or `name=argument`.\n\n"
            "- In the configuration, `rails.sandbox.faults`, it meets every payment.\n"
            f"- In a request's `{header}` header, several separated by commas, it meets that request's payment. Only the sandbox "
            "honours the header.\n\n"
        )
        + table(["fault", "argument", "strikes a payment", "what happens"], rows)
    )


# -- the two lives ----------------------------------------------------------------------------------------------------


def lives_drawing() -> str:
    """The state tables of `core.lives`, drawn and written out."""
    return (
        "### The life of a payment (money)\n\n"
        + _diagram(lives.PAYMENT_LIFE, lives.PaymentState.HELD, "credential verified, replay key new")
        + "\n### The life of a charge (delivery)\n\n"
        + _diagram(lives.CHARGE_LIFE, lives.ChargeState.RESERVED, "drawn from a credit")
    )


def _diagram(life: Mapping[Any, Mapping[Any, Any]], first: Enum, beginning: str) -> str:
    drawn = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.value}: {beginning}"]
    rows = [["–", beginning, f"`{first.value}`"]]
    for state, steps in life.items():
        for event, after in steps.items():
            drawn.append(f"    {state.value} --> {after.value}: {_words(event.value)}")
            rows.append([f"`{state.value}`", _words(event.value), f"`{after.value}`"])
        if not steps:
            drawn.append(f"    {state.value} --> [*]")
    return "\n".join([*drawn, "```"]) + "\n\n" + table(["state", "event", "becomes"], rows)


def _words(name: str) -> str:
    return name.replace("_", " ")


# -- files ------------------------------------------------------------------------------------------------------------

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference/errors.md": errors_page,
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/cli.md": cli_page,
    "docs/reference/sandbox-faults.md": faults_page,
}
PARTS: Final[Mapping[tuple[str, str], Callable[[], str]]] = {("docs/concepts.md", "lives"): lives_drawing}
"""Generated parts of pages that people write, between two marks."""


def between_marks(text: str, name: str, content: str) -> str:
    """``text`` with ``content`` between the marks of ``name``; SystemExit when they are not there once each, in order."""
    opening, closing = (mark.format(name=name) for mark in _MARKS)
    before, found, rest = text.partition(opening)
    _, ended, after = rest.partition(closing)
    if not found or not ended or opening in after or closing in after:
        raise SystemExit(f"the marks {opening.strip()} and {closing.strip()} do not stand once each, in order")
    return f"{before}{opening}\n{content}\n{closing}{after}"


def render(root: Path) -> dict[str, str]:
    """Every generated page as it should be, by path."""
    made = {path: page() for path, page in PAGES.items()}
    for (path, name), part in PARTS.items():
        made[path] = between_marks(made.get(path) or (root / path).read_text(encoding="utf-8"), name, part())
    return made


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 1 when a page is stale."""
    parser = argparse.ArgumentParser(description="Write the generated pages of docs/.")
    parser.add_argument("--check", action="store_true", help="fail when a page is not what the code makes")
    check: bool = parser.parse_args(arguments).check
    stale = []
    for path, text in render(ROOT).items():
        file = ROOT / path
        if check:
            if not file.is_file() or file.read_text(encoding="utf-8") != text:
                stale.append(path)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
    for path in stale:
        print(f"{path} is stale: run `make generate`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
