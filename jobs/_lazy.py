"""A group of commands, each module imported only when its command is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperGroup


def lazy_group(modules: Mapping[str, tuple[str, str]], heading: str, epilog: str) -> typer.Typer:
    """An application whose commands are listed without being imported.

    Args:
        modules: module with a typer `app`, and what it does, by the name of the command; absent ones are not listed.
        heading: of the table in `--help`.
        epilog: below it.
    """

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return [name for name, (module, _) in modules.items() if importlib.util.find_spec(module)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in self.list_commands(ctx):
                return None
            command = typer.main.get_command(importlib.import_module(modules[cmd_name][0]).app)
            command.name = cmd_name
            return command

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            if rows := [(name, modules[name][1]) for name in self.list_commands(ctx)]:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    return typer.Typer(
        cls=Group,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        epilog=epilog,
    )
