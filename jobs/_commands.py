"""`python -m jobs._commands > docs/commands.md`: every option of every command, from the commands themselves."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any

import typer

from jobs.benchmark import BENCHMARKS
from jobs.cli import JOBS

HEAD = """# Commands

Every command, as `python -m jobs.NAME` or `somgrad NAME`. This page is made of the commands themselves
(`python -m jobs._commands > docs/commands.md`); a test keeps it equal to them. All take `--json` (the last line of
stdout is one JSON object), `--debug` (the traceback of an error) and `--help`. Exit codes: 0 done, 2 something you can
fix (one line on stderr), 1 a fault of ours or of a machine, 130 interrupted, 141 nobody reads what
it writes any more (`| head`).
"""
_SHARED = ("--json", "--debug", "--help")


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name in JOBS:
        module = f"jobs.{name}"
        if importlib.util.find_spec(module) and name != "benchmark":
            parts.append("\n".join(_section(f"## {name}", module)))
    parts.append("## benchmark\n\n`python -m jobs.benchmark NAME`: the measurements behind `docs/results`.")
    for name, (module, _) in BENCHMARKS.items():
        if importlib.util.find_spec(module):
            parts.append("\n".join(_section(f"### benchmark {name}", module)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(title: str, module: str) -> Iterator[str]:
    command: Any = typer.main.get_command(importlib.import_module(module).app)
    yield f"{title}\n\n{inspect.cleandoc(command.help or '')}\n"
    if command.epilog:
        yield f"{command.epilog.strip().replace('Example: ', 'Example: `', 1)}`\n"
    yield "| option | meaning | default |\n|---|---|---|"
    for parameter in command.params:
        name = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
        if parameter.opts[0] in _SHARED:
            continue
        if parameter.param_type_name == "argument":
            name = f"`{parameter.metavar or parameter.name.upper()}`"
        said, _, default = f" {parameter.help or ''}".partition(" [default: ")
        said = said.strip() or "–"
        yield f"| {name} | {said.replace('|', chr(92) + '|')} | {_default(parameter, default.rstrip(']'))} |"


def _default(parameter: Any, said: str) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if said or value is None or value is False or callable(value):
        return said or "–"
    return f"`{value}`"


if __name__ == "__main__":
    print(page(), end="")
