"""Tables as streams of record batches: csv and arff by blocks, parquet by row groups.

Axes: N rows, D columns. Every reader gives the names and types of its columns and, on demand, batches of some of
them. A table of many files is read one file after the other.
"""

from __future__ import annotations

import codecs
import csv as text_csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from pipeline.errors import DataError, must, some
from pipeline.sources.arff import ArffRows, attributes

BLOCK_BYTES = 1 << 20  # Arrow reads up to 32 blocks ahead
NULLS = ["", "?", "NA", "N/A", "na", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None"]
_READ_AS = {"number": pa.float64(), "truth": pa.bool_()}
_TABLES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".data": "csv",
    ".arff": "arff",
    ".parquet": "parquet",
}


@dataclass
class TableFile:
    """One file of a table.

    Args:
        path: the file.
        columns: type of each column: "number", "truth" (true or false), "text", or else its name in the file, in the
            order of the file.
        form: "csv", "arff" or "parquet".
        delimiter, header: of a csv file.
        header_lines: of an arff file, up to and with @data.
        block_bytes: of a text file, so large that a row fits.
    """

    path: Path
    columns: dict[str, str]
    form: str
    delimiter: str = ","
    header: bool = True
    header_lines: int = 0
    block_bytes: int = BLOCK_BYTES
    metadata: dict[str, str] = field(default_factory=dict)

    def batches(
        self, columns: Sequence[str], numbers: Sequence[str] = (), rows: int = 16_384
    ) -> Iterator[pa.RecordBatch]:
        """Batches of some columns.

        Args:
            columns: names to read.
            numbers: those of them that are read as numbers or truth values; in text files all others are read as text.
            rows: at most so many rows per batch.

        Raises:
            DataError: the file is corrupt or truncated, or a text stands where a number must be.
        """
        try:
            if self.form == "parquet":
                # pre_buffer would keep all that was read, no buffer a row group; checksums are there in some files only
                look = {"pre_buffer": False, "buffer_size": BLOCK_BYTES, "page_checksum_verification": True}
                with pq.ParquetFile(self.path, **look) as file:
                    yield from file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)
                return
            for block in self._text_blocks(list(columns), set(numbers)):
                for start in range(0, block.num_rows, rows):
                    yield block.slice(start, rows)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _readable(error, self) from error

    def parsing(self) -> pc_csv.ParseOptions:
        """How Arrow is to cut a text file into cells: those of a csv may have line breaks in quotes."""
        arff = self.form == "arff"
        return pc_csv.ParseOptions(
            delimiter=self.delimiter, quote_char="'" if arff else '"', newlines_in_values=not arff
        )

    def held_by(self, column: str) -> str:
        """In words what a column holds that is no feature: its kind, of text the first value too."""
        kind = self.columns[column]
        if kind != "text":
            return kind
        cells = (cell for batch in self.batches([column]) for cell in batch[column].to_pylist() if cell is not None)
        odd = next((cell for cell in cells if not re.fullmatch(r"\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*", cell)), None)
        return kind if odd is None else f"text, such as {odd[:40]!r}"

    def _text_blocks(self, columns: list[str], numbers: set[str]) -> Iterator[pa.RecordBatch]:
        types = {name: _READ_AS[self.columns[name]] if name in numbers else pa.string() for name in columns}
        convert = pc_csv.ConvertOptions(
            column_types=types,
            include_columns=columns,
            null_values=NULLS,
            strings_can_be_null=True,
            true_values=["true", "True", "TRUE", "1"],
            false_values=["false", "False", "FALSE", "0"],
        )
        with _open_text(self) as stream:
            names = None if self.form == "csv" and self.header else list(self.columns)
            read = pc_csv.ReadOptions(block_size=self.block_bytes, column_names=names, use_threads=False)
            with pc_csv.open_csv(stream, read, self.parsing(), convert) as reader:
                yield from reader


def open_table(path: Path, delimiter: str | None = None, header: bool = True) -> TableFile:
    """Look at the beginning of a table file: its columns and their types.

    Args:
        path: .csv, .tsv, .txt, .data (each also .gz), .arff or .parquet.
        delimiter: of a csv file; None = that of , ; tab and | that makes the most cells of the first line.
        header: whether the first line of a csv file names the columns; otherwise they are x0, x1, ...

    Raises:
        DataError: unknown ending, empty or unreadable file, two columns of one name.
    """
    form = _TABLES.get(_ending(path))
    if form is None:
        raise DataError(f"A table must be a {', '.join(_TABLES)} file. Got {path.name}.")
    try:
        if form == "parquet":
            return _look_at_parquet(path)
        return _look_at_arff(path) if form == "arff" else _look_at_csv(path, delimiter, header)
    except (pa.ArrowException, OSError, UnicodeDecodeError, text_csv.Error) as error:
        raise _readable(error, TableFile(path, {}, form)) from error


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column of a parquet file may be a feature: numbers, truth values, or missing values alone.

    Args:
        kind: its type.
    """
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def table_files(root: Path) -> list[Path]:
    """The files of a table: the root itself, or the files of one form in it, by name."""
    if root.is_file():
        return [root]
    files = [path for path in sorted(root.iterdir()) if _is_table(path)]
    forms = {_TABLES[_ending(path)] for path in files}
    if len(forms) == 1:
        return files
    got = "files of " + " and ".join(sorted(forms)) if forms else "no table"
    remedy, below = "", [] if files else _below(root)
    if below:
        remedy = (
            f" Subfolders are not read ({some((path.relative_to(root).as_posix() for path in below), 3)}): give one "
            "of them as --root, or move their files into one folder, where train... and test... are splits."
        )
    raise DataError(f"--root must be a table or a folder with csv, arff or parquet files. Got {got} in {root}.{remedy}")


def tables_below(root: Path) -> Counter[str]:
    """How many files of its form lie in the subfolders of a table, which are not read with it, by ending."""
    form = _TABLES.get(_ending(table_files(root)[0]))
    return Counter(ending for path in _below(root) if _TABLES[ending := _ending(path)] == form)


def _below(root: Path) -> list[Path]:
    hidden = (".", "_")
    found = (path for path in root.glob("*/**/*") if _is_table(path))
    return sorted(path for path in found if not any(part.startswith(hidden) for part in path.relative_to(root).parts))


def _is_table(path: Path) -> bool:
    return _ending(path) in _TABLES and not path.name.startswith((".", "_")) and path.is_file()


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _look_at_parquet(path: Path) -> TableFile:
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    columns = {}
    for item in schema:
        kind = item.type.value_type if pa.types.is_dictionary(item.type) else item.type
        number = holds_numbers(kind) and not pa.types.is_dictionary(item.type)
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        columns[item.name] = "number" if number else "text" if text else str(item.type)
    _check_names(path, [item.name for item in schema])
    notes = {k.decode(errors="replace"): v.decode(errors="replace") for k, v in (schema.metadata or {}).items()}
    return TableFile(path, columns, "parquet", metadata=notes)


def _look_at_csv(path: Path, delimiter: str | None, header: bool) -> TableFile:
    if delimiter is not None and not (len(delimiter) == 1 and delimiter.isascii() and delimiter not in '"\r\n'):
        raise must("--delimiter", "one ASCII character, such as ';' or, for a tab, $'\\t'", delimiter)
    lines = _first_lines(path)
    first = "".join(lines)
    if not lines[0].strip():
        raise DataError(f"{path.name} is empty. It must hold at least one row.")
    if delimiter is None:
        delimiter = max(",;\t|", key=lambda mark: _num_cells(lines, mark))
    cells = _first_row(lines, delimiter)
    names = [c.strip() for c in cells] if header else [f"x{i}" for i in range(len(cells))]
    _check_names(path, names)
    table = TableFile(path, dict.fromkeys(names, "text"), "csv", delimiter, header)
    table.block_bytes = max(BLOCK_BYTES, 8 * len(first.encode()))
    with _open_text(table) as stream:
        read = pc_csv.ReadOptions(
            block_size=table.block_bytes, column_names=None if header else names, use_threads=False
        )
        convert = pc_csv.ConvertOptions(null_values=NULLS)
        with pc_csv.open_csv(stream, read, table.parsing(), convert) as reader:
            kinds = reader.schema.types
    if len(names) != len(kinds):
        raise DataError(
            f"{path.name}: the first row must have a cell for each of the {len(kinds)} columns. Got {len(names)} cells."
        )
    for name, kind in zip(names, kinds, strict=True):
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)
        table.columns[name] = "number" if number else "truth" if pa.types.is_boolean(kind) else "text"
    if header and [item.name for item in reader.schema] != names:
        table.columns = dict(zip([item.name for item in reader.schema], table.columns.values(), strict=True))
    return table


def _first_row(lines: list[str], delimiter: str) -> list[str]:
    return next(text_csv.reader(lines, delimiter=delimiter))


def _num_cells(lines: list[str], delimiter: str) -> int:
    try:
        return len(_first_row(lines, delimiter))
    except text_csv.Error:  # a whole line of thousands of columns, where another mark divides it, is too large a cell
        return 1


def _first_lines(path: Path) -> list[str]:
    """The first line of a csv file that has text, and those after it in which a quoted line break of its may go on."""
    with pa.input_stream(str(path), compression="detect") as stream:
        reader = io.BufferedReader(stream)
        found = [next((line for line in reader if line.strip(b"\r\n")), b"")]
        size, quotes = len(found[0]), found[0].count(b'"')
        while quotes % 2 and size < BLOCK_BYTES and (line := reader.readline()):
            found.append(line)
            size, quotes = size + len(line), quotes + line.count(b'"')
    if found[0].startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _not_utf8(path, "UTF-16", "UTF-16")
    first = found[0].decode("utf-8-sig", errors="replace")
    return [first, *(line.decode(errors="replace") for line in found[1:])]


def _look_at_arff(path: Path) -> TableFile:
    found, lines = attributes(path)
    _check_names(path, [name for name, _ in found])
    return TableFile(path, dict(found), "arff", header=False, header_lines=lines)


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path.name}: names of columns must differ. '{twice[0]}' stands there twice.")


def _open_text(table: TableFile) -> IO[bytes] | pa.NativeFile:
    if table.form == "csv":
        return pa.input_stream(str(table.path), compression="detect")
    return io.BufferedReader(ArffRows(table.path, table.header_lines))


def _not_utf8(path: Path, got: str, name: str) -> DataError:
    remedy = f"Save it as UTF-8, for instance by iconv -f {name} -t UTF-8."
    return DataError(f"{path.name} must be text in UTF-8. Got {got}. {remedy}")


def _readable(error: Exception, table: TableFile) -> DataError:
    """One line that names the file and, where Arrow gives it, the column."""
    text = " ".join(str(error).split())
    if "Empty CSV file" in text:
        return DataError(f"{table.path.name} is empty. It must hold at least one row.")
    if "codec can't decode" in text or "invalid UTF8" in text:
        return _not_utf8(table.path, "another encoding", "LATIN1")
    found = re.search(r"In CSV column #(\d+)(: Row #\d+)?.*?invalid value '(.*?)'", text)
    if found:
        names = list(table.columns)
        column = names[int(found[1])] if int(found[1]) < len(names) else f"#{found[1]}"
        remedy = "Clean it, or leave the column out with --exclude-columns."
        return DataError(f"{table.path.name}: column '{column}' must hold numbers. Got {found[3]!r}. {remedy}")
    return DataError(f"{table.path.name} cannot be read, it is corrupt or truncated: {text}")
