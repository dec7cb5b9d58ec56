"""Command groups whose members are imported when they are called, with help texts that need no import."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

__all__ = ["LazyGroup", "Member"]


@dataclass(frozen=True, slots=True)
class Member:
    """A command of a group: where it is (``module:attribute``), one line of help, and the heading it is listed under."""

    target: str
    summary: str
    heading: str = "Commands"


class LazyGroup(click.Group):
    """A group that knows its members by name; they are listed in the order given, under their headings."""

    def __init__(self, *arguments: Any, members: Mapping[str, Member] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.members = dict(members or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help text."""
        return list(self.members)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called ``cmd_name``, imported now; None when there is none."""
        member = self.members.get(cmd_name)
        if member is None:
            return None
        module, _, name = member.target.partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{member.target} is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a hint for a slip of the fingers."""
        if args and args[0] not in self.members and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], list(self.members), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The members under their headings, without importing one."""
        headings = dict.fromkeys(member.heading for member in self.members.values())
        width = max(map(len, self.members), default=0)
        for heading in headings:
            rows: Sequence[tuple[str, str]] = [
                (f"{name:<{width}}", member.summary)
                for name, member in self.members.items()
                if member.heading == heading
            ]
            with formatter.section(heading):
                formatter.write_dl(rows)
