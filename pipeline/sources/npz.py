"""Arrays inside a .npz file, read row by row: an .npz larger than memory is no problem.

NumPy's own `load` reads a member whole; a member is a stream with a short header, so it can be cut instead.
"""

from __future__ import annotations

import contextlib
import errno
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import DataError, line_of, must
from pipeline.sources.base import SourceOptions, rows_for_test, split_name
from pipeline.sources.classes import ClassIndex
from somcore.config import UNLABELLED

_CORRUPT = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)  # the last: compressed or encrypted as is not known here
_OF_CONTENT = (None, errno.EINVAL)  # an OSError of bz2, or of a place before the beginning of the file; of no disk


class Npz:
    """A .npz file whose members are streamed.

    Args:
        path: the file.

    Raises:
        DataError: not a zip file, or corrupt.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _corrupt_told(f"{path.name} is not a readable .npz file", ValueError):
            with zipfile.ZipFile(path) as archive:
                self.names = {n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")}
            self._headers = {name: self._header(name) for name in self.names}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a member, which must exist."""
        if name not in self.names:
            present = ", ".join(sorted(self.names))
            raise DataError(f"{self.path.name} must hold an array '{name}'. It holds: {present}.")
        return self._headers[name][0]

    def dtype(self, name: str) -> np.dtype:
        """Type of a member."""
        self.shape(name)
        return self._headers[name][1]

    def array(self, name: str) -> np.ndarray:
        """A small member (labels, offsets), whole, in the byte order of this machine, which Arrow asks for."""
        count = int(np.prod(self.shape(name)))
        flat = next(self.chunks(name, iter([count])), np.empty(0, self.dtype(name)))
        return flat.reshape(self.shape(name)).astype(flat.dtype.newbyteorder("="), copy=False)

    def rows(self, name: str, count: int) -> Iterator[np.ndarray]:
        """A member in pieces of at most `count` rows."""
        shape = self.shape(name)
        width = int(np.prod(shape[1:]))
        sizes = [min(count, shape[0] - start) for start in range(0, shape[0], count)]
        for size, flat in zip(sizes, self.chunks(name, iter([s * width for s in sizes])), strict=True):
            yield flat.reshape(size, *shape[1:])

    def chunks(self, name: str, counts: Iterator[int]) -> Iterator[np.ndarray]:
        """Consecutive pieces of a member, of `counts` numbers each, in the order of the file."""
        dtype = self.dtype(name)
        told = _corrupt_told(f"{self.path.name}: the array '{name}' is corrupt")
        with told, zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
            _read_header(stream)
            for count in counts:
                raw = stream.read(count * dtype.itemsize)
                if len(raw) != count * dtype.itemsize:
                    raise DataError(f"{self.path.name}: the array '{name}' is truncated.")
                yield np.frombuffer(raw, dtype=dtype)

    def vector(self, name: str, length: int) -> np.ndarray:
        """A member with one value per sample."""
        if self.shape(name) != (length,):
            raise must(f"array '{name}'", f"of shape ({length},)", self.shape(name), where=self.path.name)
        return self.array(name)

    def labelled(self, count: int, options: SourceOptions) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
        """Names of the classes, (N,) labels from the array `labels`, (N,) splits from `split`, else a seeded choice."""
        labels = np.full(count, UNLABELLED, dtype=np.int64)
        index = ClassIndex(options.unlabelled_value, f"{self.path.name}: array 'labels'")
        if "labels" in self.names:
            codes = index.add(self.vector("labels", count))
            labels = index.finish()[codes]
        index.refuse_absent()
        if "split" not in self.names or options.test_fraction is not None:
            return index.names, labels, np.where(rows_for_test(labels, options), "test", "train").astype(object)
        where = f"{self.path.name}: array 'split'"
        values, inverse = np.unique(self.vector("split", count), return_inverse=True)
        return index.names, labels, np.array([split_name(v, where) for v in values.tolist()], dtype=object)[inverse]

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
            shape, fortran, dtype = _read_header(stream)
        where = f"{self.path.name}, array '{name}'"
        if dtype.hasobject:
            raise must("dtype", "numbers or text, not Python objects", str(dtype), where=where)
        if fortran and len(shape) > 1:
            raise must("memory order", "row-major (C)", "column-major (Fortran)", where=where)
        return shape, dtype


@contextlib.contextmanager
def _corrupt_told(what: str, *more: type[Exception]) -> Iterator[None]:
    """What a damaged file makes the readers of zip raise, these kinds too, as one line."""
    kinds: tuple[type[Exception], ...] = (*_CORRUPT, OSError, *more)
    try:
        yield
    except kinds as error:
        if isinstance(error, OSError) and error.errno not in _OF_CONTENT:
            raise
        raise DataError(f"{what} ({line_of(error)}).") from error


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"array format {version} is unknown")
