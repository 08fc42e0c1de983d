"""Columns of tables as options name them, and their values as text.

Axes: n rows of a batch.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError, UserError, must

_TRUE = {"true", "1", "1.0", "yes", "t", "y"}
_FALSE = {"false", "0", "0.0", "no", "f", "n", "", "nan", "none", "?"}
_FILTER = re.compile(r"""[^,=]*=\s*(?:"[^"]*"|'[^']*')\s*(?=,|$)|[^,]+""")


def filters(text: str | None) -> dict[str, str]:
    """Column to wanted value, from "rep=0,fold=1"; a value with a comma in it stands in quotes."""
    filters = {}
    for part in _FILTER.findall(text or ""):
        column, sign, value = part.partition("=")
        if not sign or not column.strip():
            raise UserError(f"--where must be column=value[,column=value]. Got {part!r}.")
        if column.strip() in filters:
            raise UserError(f"--where must name each column once. Got '{column.strip()}' twice in {text!r}.")
        filters[column.strip()] = unquoted(value)
    return filters


def as_filter(column: str, value: str) -> str:
    """What `filters` reads a column and its value from.

    Example:
        >>> as_filter("fold", "1"), as_filter("site", "Bonn, west")
        ('fold=1', 'site="Bonn, west"')
    """
    if "," not in value:
        return f"{column}={value}"
    quote = "'" if '"' in value else '"'
    return f"{column}={quote}{value}{quote}"


def named(columns: Collection[str], name: str) -> str:
    """The column that an option means: of that name, else the one that is written with blanks around it."""
    return name if name in columns else next((c for c in columns if c.strip() == name.strip()), name)


def matching(columns: Collection[str], patterns: str | None, option: str) -> set[str]:
    """The columns that names or patterns separated by commas match; `option` gave them, each must match one."""
    found: set[str] = set()
    for pattern in _parts(patterns or ""):
        names = {c for c in columns if pattern in (c, c.strip()) or fnmatch.fnmatchcase(c.strip(), pattern)}
        if not names:
            with_comma = next((c.strip() for c in columns if "," in c and pattern in _parts(c)), None)
            remedy = f" A comma parts names: write '{as_pattern(with_comma)}'." if with_comma else ""
            raise UserError(
                f"{option} must match columns of the table. '{pattern}' matches none of: "
                f"{', '.join(list(columns)[:20])}.{remedy}"
            )
        found |= names
    return found


def as_pattern(name: str) -> str:
    """A name as `matching` takes it, in one line: ? stands for a comma and for what cannot be printed.

    Example:
        >>> as_pattern("length"), as_pattern("length [mm], outer")
        ('length', 'length ?mm]? outer')
    """
    name = name.strip()
    if name.isprintable() and "," not in name:
        return name
    return "".join(sign if sign.isprintable() and sign not in ",[*" else "?" for sign in name)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def passing(batch: pa.RecordBatch, where: dict[str, str]) -> np.ndarray:
    """(n,) bool: whether a row has the wanted value, as text, in each of the columns, at least one."""
    return np.logical_and.reduce([_one_of(batch[c], {v}) for c, v in where.items()])


def truths(column: pa.Array, option: str, place: str) -> np.ndarray:
    """(n,) bool: whether the value of a row is true; a missing one is not.

    Raises:
        UserError: a value is neither true nor false.
    """
    texts = distinct(column)
    odd = next((text for text in texts if text.lower() not in _TRUE | _FALSE), None)
    if odd is not None:
        raise must(option, "a column of truth values (true or false, 1 or 0, yes or no)", odd, where=place)
    return _one_of(column, {text for text in texts if text.lower() in _TRUE})


def distinct(column: pa.Array) -> list[str]:
    """The values of a column, each once, as text."""
    return [as_text(value) for value in pc.unique(plain(column)).to_pylist()]


def refuse_missing_keys(column: pa.Array, name: str, place: str) -> None:
    """Raise where a row of the column `name` has no key."""
    if column.null_count:
        raise DataError(f"{place}: key column '{name}' must have no missing value.")


def plain(column: pa.Array) -> pa.Array:
    """Without a dictionary."""
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def as_text(value: object) -> str:
    """A value as options write it: without blanks and quotes around it, and 1.0 as 1."""
    text = unquoted(str(value))
    return text.removesuffix(".0") if isinstance(value, float) else text


def unquoted(text: str) -> str:
    """Without blanks and quotes around it."""
    return text.strip().strip("'\"")


def _one_of(column: pa.Array, wanted: set[str]) -> np.ndarray:
    """(n,) bool: whether the value of a row, as text, is one of the wanted ones; True is true."""
    encoded = pc.dictionary_encode(plain(column))
    wanted = {_cased(text) for text in wanted}
    hits = [_cased(as_text(v)) in wanted for v in encoded.dictionary.to_pylist()]
    places = pc.fill_null(encoded.indices, len(hits)).to_numpy(zero_copy_only=False)
    return np.array([*hits, False])[places]


def _cased(text: str) -> str:
    return text.lower() if text.lower() in ("true", "false") else text
