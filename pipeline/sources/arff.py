"""Dense arff: its attributes, and its rows as csv with single quotes."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import IO

import pyarrow as pa

from pipeline.errors import DataError

_NUMBERS = ("numeric", "real", "integer")
_NAME = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s{]+"
_ATTRIBUTE = re.compile(rf"@attribute\s+({_NAME})(?:\s+|(?={{))(.+)", re.IGNORECASE)
_QUOTED = re.compile(  # or a comment
    rb"""[ \t]*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")[ \t]*|(?:^|(?<=[ \t]))%.*"""
)
_ESCAPED = re.compile(rb"\\(.)")


def attributes(path: Path) -> tuple[list[tuple[str, str]], int]:
    """Names and types of the columns, and the lines of the header, up to and with @data.

    Raises:
        DataError: an attribute without a type, or no @data.
    """
    found: list[tuple[str, str]] = []
    with io.TextIOWrapper(_lines(path), encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if re.fullmatch(r"@data\s*(%.*)?", text, re.IGNORECASE):
                return found, number
            if text.lower().startswith("@attribute"):
                match = _ATTRIBUTE.match(text)
                if match is None:
                    raise DataError(f"{path.name}: line {number} must be '@attribute name type'. Got {text!r}.")
                name = re.sub(r"\\(.)", r"\1", match[1].strip("'\""))
                kind = match[2].lower().split()[0]
                known = "number" if kind in _NUMBERS else "text" if kind[0] == "{" or kind == "string" else kind
                found.append((name, known))
    raise DataError(f"{path.name} must hold '@data' after its attributes. It does not: truncated?")


class ArffRows(io.RawIOBase):
    """The data lines as csv: comments and empty lines left out, quotes and what they escape as csv has them.

    Args:
        path: the file.
        header_lines: see `attributes`.
    """

    def __init__(self, path: Path, header_lines: int) -> None:
        self._path, self._number = path, header_lines
        self._lines = _lines(path)
        for _ in range(header_lines):
            self._lines.readline()
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Bytes of the next row that has any left.

        Raises:
            DataError: a row is sparse.
        """
        while not self._rest:
            line = self._lines.readline()
            if not line:
                return 0
            self._number += 1
            line = line.strip()
            if line.startswith(b"{"):
                raise DataError(f"{self._path.name}: line {self._number} is sparse. Only dense arff is read.")
            if any(mark in line for mark in (b"%", b"'", b'"')):
                line = _QUOTED.sub(_as_csv, line).strip()
            if line:
                self._rest = line + b"\n"
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Close the file too."""
        self._lines.close()
        super().close()


def _as_csv(found: re.Match[bytes]) -> bytes:
    text = found[1] if found[1] is not None else found[2]
    return b"" if text is None else b"'" + _ESCAPED.sub(rb"\1", text).replace(b"'", b"''") + b"'"


def _lines(path: Path) -> IO[bytes]:
    return io.BufferedReader(pa.input_stream(str(path), compression="detect"))
