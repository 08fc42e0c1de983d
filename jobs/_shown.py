"""How results are shown: a table, lines below headings, CSV or JSON on stdout, and notes beside them on stderr."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.tracking.stores import bare


def say(line: str) -> None:
    """A line on stderr, at once."""
    print(line, file=sys.stderr, flush=True)


def command_line(job: str) -> str:
    """The running command as a shell takes it again, without logins, by whichever name it was called.

    Args:
        job: its name, as in `somgrad NAME` and `jobs.NAME`.
    """
    words = sys.argv[1:]
    words = words[1:] if words[:1] == [job] else words
    return f"python -m jobs.{job} {shlex.join(map(bare, words))}".strip()


def show(rows: list[dict[str, Any]], format: str, title: str | None = None) -> None:
    """Prints rows.

    Args:
        rows: with the columns they have.
        format: json or csv; else a table.
        title: of the table.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if format == "json":
        import json

        print(json.dumps(rows, default=str, indent=1))
    elif format == "csv":
        import csv

        writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    else:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        for name in columns:
            numbers = all(isinstance(row.get(name), int | float | None) for row in rows)
            table.add_column(name, justify="right" if numbers else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(_text(row.get(name)) for name in columns))
        console = Console()
        console.width = max(console.width, 20 * len(columns))  # a wide table is better than cut numbers
        with console.capture() as drawn:  # rich has an exit code of its own where nobody reads
            console.print(table)
        print(drawn.get(), end="")


def tell(about: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints names and values below their headings, a line each; headings without any are left out."""
    width = max(len(name) for values in about.values() for name in values)
    for heading, values in about.items():
        if values:
            print(heading)
        for name, value in values.items():
            print(f"  {name:<{width}}  {_text(value)}")


def note(sentence: str) -> None:
    """Says something beside the results, which a program may read; nothing if it is empty."""
    if sentence:
        sys.stdout.flush()
        say(sentence)


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
