"""The unpacked copy of a split: in one flat file all rows, then all labels, then a checksum (both int64).

It lies in $SOMGRAD_CACHE, else in DIR/.cache, else (DIR cannot be written, or is on another filesystem, from which each
shard is fetched once) below the system's temporary directory.
Its name is made of the hashes of the shards, so a changed data set never meets an old copy. It is written under
another name, checked against the hashes of the manifest on the way, and renamed: a copy is whole or absent. Several
workers may ask for it at once: a lock lets one build while the others wait.

A copy that is found is taken for one that was made so. The checksum (crc32), which each process compares for up to
CHECKED_BYTES when it opens the copy, shows damage, not forgery: a larger one would be read once more, by all workers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ManifestError, line_of
from pipeline.places import Place, full_disk_named, locked, private_folder
from pipeline.prepared.manifest import CACHE, Manifest, ShardFile, verify_content

CHECKED_BYTES = 128 << 20
_CHUNK = 1 << 20


def cached_split(place: Place, manifest: Manifest, split: str) -> Path:
    """Path of the unpacked copy, made if it is not there.

    Args:
        place: of the data set.
        manifest: of the data set.
        split: one with rows.

    Raises:
        ManifestError: a shard is not what the manifest says.
    """
    part = manifest.splits[split]
    names = "".join(file.sha256 for file in part.files)
    key = hashlib.sha256(f"{manifest.dtype} {manifest.shape} {names}".encode()).hexdigest()[:40]
    size = part.num_samples * (manifest.num_features * np.dtype(manifest.dtype).itemsize + 8) + 8
    for folder in _folders(place):
        path = folder / f"{key}.rows"
        try:
            if folder == _for_all():
                private_folder(folder)
            if _whole(path, size):
                return path
            folder.mkdir(parents=folder.parent != place.local, exist_ok=True)  # what is gone stays gone
            # without locks it may be built twice, which costs time only
            with full_disk_named(folder), locked(folder / f"{key}.lock") as alone:
                if not _whole(path, size):
                    if alone:
                        _sweep(path)
                    _unpack(place, manifest, split, path)
            return path
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
    raise ManifestError(f"A cache directory must be writable. None is for {place}. Set SOMGRAD_CACHE to one.")


def _folders(place: Place) -> list[Path]:
    chosen = os.environ.get("SOMGRAD_CACHE")
    if chosen:
        return [Path(chosen)]
    beside = [] if place.local is None else [place.local / CACHE]
    return [*beside, _for_all()]


def _for_all() -> Path:
    return Path(tempfile.gettempdir()) / f"somgrad-cache-{os.getuid()}"


def _whole(path: Path, size: int) -> bool:
    """Whether a copy is there as it was made; one that is not is made again."""
    try:
        with open(path, "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            return size > CHECKED_BYTES or _sum_of(file, size - 8) == int.from_bytes(file.read(8), "little")
    except FileNotFoundError:
        return False


def _sum_of(file: IO[bytes], size: int) -> int:
    """Checksum of the next so many bytes."""
    found, left = 0, size
    while left and (chunk := file.read(min(left, _CHUNK))):
        found, left = zlib.crc32(chunk, found), left - len(chunk)
    return found


class _Summed:
    """A file that is written, with the checksum of what is in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.sum = file, 0

    def write(self, content: Any) -> None:
        self._file.write(content)
        self.sum = zlib.crc32(content, self.sum)


def _sweep(target: Path) -> None:
    """Remove what killed processes had unpacked so far."""
    for left in target.parent.glob(f"{target.stem}.*.new"):
        left.unlink(missing_ok=True)


def _unpack(place: Place, manifest: Manifest, split: str, target: Path) -> None:
    labels: list[np.ndarray] = []
    handle, name = tempfile.mkstemp(prefix=f"{target.stem}.", suffix=".new", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as opened:
            out = _Summed(opened)
            for number, file in enumerate(manifest.splits[split].files):
                with place.fetched(file.path, target.parent) as path:
                    verify_content(path, file)
                    labels.append(_unpack_shard(path, manifest, number, file, out))
            out.write(np.concatenate(labels).astype(np.int64).tobytes())
            opened.write(out.sum.to_bytes(8, "little"))
            os.fchmod(opened.fileno(), 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unpack_shard(path: Path, manifest: Manifest, number: int, file: ShardFile, out: _Summed) -> np.ndarray:
    place = f"Shard {number} ({file.path})"
    labels = [np.empty(0, dtype=np.int64)]
    try:
        with pq.ParquetFile(path, pre_buffer=False) as parquet:
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=["features", "label"], use_threads=False)
                features = table["features"].combine_chunks()
                array = features.chunk(0) if isinstance(features, pa.ChunkedArray) else features
                values = array.to_numpy_ndarray()
                if values.shape[1:] != manifest.shape or values.dtype != np.dtype(manifest.dtype):
                    raise ManifestError(
                        f"{place}: features must be {manifest.shape} {manifest.dtype}. Got {values.shape[1:]} "
                        f"{values.dtype}. Prepare the data set again."
                    )
                out.write(np.ascontiguousarray(values).data)
                labels.append(table["label"].to_numpy())
    except (pa.ArrowException, KeyError) as error:
        text = line_of(error)
        raise ManifestError(f"{place} cannot be read, it is corrupt: {text}. Prepare the data set again.") from error
    found = np.concatenate(labels)
    if len(found) != file.rows:
        raise ManifestError(f"{place} must have {file.rows} rows. Got {len(found)}. Prepare the data set again.")
    bad = np.flatnonzero((found < -1) | (found >= manifest.num_classes))
    if len(bad):
        allowed = f"-1 or in 0..{manifest.num_classes - 1}" if manifest.num_classes else "-1"
        raise ManifestError(f"{place}: label in row {bad[0]} must be {allowed}. Got {found[bad[0]]}. Prepare again.")
    return found
