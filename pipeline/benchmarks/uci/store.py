"""Finished results on disk: JSON lines, appended as they come, one file per (kind, table, method, fraction).

A killed run loses nothing that was finished: lines are written whole, in one call, by one process; an incomplete
last line is cut off when the file is next opened.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.benchmarks.shared import keep_design

Row = dict[str, Any]


@dataclass(frozen=True, order=True)
class Cell:
    """Where a result belongs.

    Attributes:
        kind: of results, one of those of `units`.
        table: name of the table.
        method: name of the method.
        fraction: labelled rows in per cent; 0 without labels.
    """

    kind: str
    table: str
    method: str
    fraction: int

    @property
    def path(self) -> str:
        """File of the cell, relative to the store."""
        return f"{self.kind}/{self.table}-{self.method}-{self.fraction:03d}.jsonl"


class Store:
    """Rows of finished work by cell; each row has `set` and, but for clustering, `repetition` and `fold`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[Cell, dict[tuple[int, int, int], Row]] = defaultdict(dict)

    @classmethod
    def open(cls, folder: Path, design: Row) -> Store:
        """Open or create a store; refuses one that was made with another design (spaces, seed, limits)."""
        keep_design(folder, design)
        store = cls(folder)
        for file in sorted(folder.glob("*/*.jsonl")):
            store._read(file)
        return store

    def _read(self, file: Path) -> None:
        raw = file.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            os.truncate(file, whole)
        table, rest = file.stem.split("-", 1)
        method, fraction = rest.rsplit("-", 1)
        cell = Cell(file.parent.name, table, method, int(fraction))
        for line in raw[:whole].splitlines():
            row = json.loads(line)
            self._rows[cell][_key(row)] = row

    def append(self, cell: Cell, rows: Iterable[Row]) -> None:
        """Keep finished rows, on disk and in memory."""
        rows = list(rows)
        file = self.folder / cell.path
        file.parent.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()
        handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, lines)
        finally:
            os.close(handle)
        for row in rows:
            self._rows[cell][_key(row)] = row

    def has(self, cell: Cell, index: int, repetition: int = 0, fold: int = 0) -> bool:
        """Whether this piece of work is done."""
        return (index, repetition, fold) in self._rows.get(cell, {})

    def row(self, cell: Cell, index: int, repetition: int = 0, fold: int = 0) -> Row | None:
        """A finished row, or None."""
        return self._rows.get(cell, {}).get((index, repetition, fold))

    def rows(self, cell: Cell) -> list[Row]:
        """All finished rows of a cell, by set and fold."""
        return [row for _, row in sorted(self._rows.get(cell, {}).items())]

    def cells(self) -> Iterator[Cell]:
        """Cells with at least one row."""
        yield from sorted(cell for cell, rows in self._rows.items() if rows)


def _key(row: Row) -> tuple[int, int, int]:
    return row["set"], row.get("repetition", 0), row.get("fold", 0)
