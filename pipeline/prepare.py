"""Raw data to a prepared data set: one pass over the batches of a source, bounded memory, all or nothing.

Axes: N rows, D features, C classes. Shards are written into a temporary directory beside the output, hashed, and
moved into place in one rename; an interruption leaves earlier outputs as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import ManifestError, OutputError
from pipeline.manifest import CACHE, MANIFEST, Manifest, sha256_file, verify
from pipeline.sources.base import Source, SourceSpec
from pipeline.writer import DataSetWriter, PrepareOptions

__all__ = ["PrepareOptions", "prepare"]

_SOFTWARE = ("pyarrow", "numpy", "torch", "torchvision", "scikit-learn", "scipy", "pillow")
_MANY_FILES = 1000
_OWN = re.compile(rf"{re.escape(MANIFEST)}|(train|validation|test)/part-\d+\.parquet|{re.escape(CACHE)}/.+")


def prepare(
    source: Source,
    out: str | Path,
    options: PrepareOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write a prepared data set.

    Running it again with the same data and options finds the data set in place and leaves it.

    Args:
        source: from `pipeline.sources.open_source`.
        out: directory of the data set.
        options: see `PrepareOptions`.
        progress: called with the number of rows read so far.

    Returns:
        The manifest.

    Raises:
        UserError: invalid data; an output that is another data set, or not one of ours, or not writable.

    Example:
        >>> import tempfile; from pipeline.sources import open_source
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     prepare(open_source("digits"), f"{scratch}/digits").splits["train"].num_samples
        1438
    """
    options, out = options or PrepareOptions(), Path(out)
    identity = {
        "name": source.name,
        "options": source.options.changed(),
        "drop_invalid": options.drop_invalid,
        "missing": options.missing,
        "rows_per_shard": options.rows_per_shard,
    }
    raw_files = _raw_files(source.spec)
    existing = _existing(out, identity, raw_files, options.overwrite)
    if existing is not None:
        return existing
    with _new_directory(out) as scratch:
        writer = DataSetWriter(scratch, source.spec, options)
        read = 0
        for batch in source.batches():
            read += len(batch.labels)
            writer.add(batch)
            if progress:
                progress(read)
        manifest = writer.finish(identity, {"files": raw_files, "software": _software()})
        (scratch / MANIFEST).write_text(manifest.to_json())
    return manifest


def _existing(out: Path, identity: dict[str, Any], raw_files: list[dict[str, Any]], overwrite: bool) -> Manifest | None:
    """The data set in place if it is the same one; an error if something else is there."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise OutputError(f"--out must be a directory. Got {out}, which is a file. Choose another.")
    if not any(out.iterdir()):
        return None
    if not (out / MANIFEST).exists():
        raise OutputError(f"--out must be new, empty or a prepared data set. Got {out}. Choose another.")
    try:
        manifest = Manifest.load(out)
        same = manifest.source == identity and manifest.provenance.get("files") == raw_files
        if same:
            verify(out, manifest)
            return manifest
        found = manifest.source.get("name", "unknown")
    except ManifestError as error:
        if overwrite:
            _refuse_foreign(out)
            return None
        raise OutputError(f"--out holds a damaged data set: {error} Or pass --overwrite.") from error
    if overwrite:
        _refuse_foreign(out)
        return None
    raise OutputError(
        f"--out holds another data set (source '{found}', other data or options): {out}. "
        "Choose another directory, or pass --overwrite to replace it."
    )


def _refuse_foreign(out: Path) -> None:
    """A directory that is to be replaced must hold nothing but a data set: all of it will be deleted."""
    for folder, folders, files in os.walk(out):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*files, *links]):
            path = (Path(folder) / name).relative_to(out).as_posix()
            if not _OWN.fullmatch(path):
                raise OutputError(
                    f"--out must hold a prepared data set and nothing else to be replaced. Got {out}, which also holds "
                    f"'{path}'. Move that elsewhere, or choose another directory."
                )


@contextlib.contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its place at the end, or vanishes."""
    scratch = out.parent / f".{out.name}.{os.getpid()}.new"
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"--out must be a writable place. Got {out}: {error.strerror}.") from error
    try:
        yield scratch
        if out.exists():
            os.replace(out, old)
        os.replace(scratch, out)
    except BaseException:
        if old.exists() and not out.exists():
            os.replace(old, out)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _raw_files(spec: SourceSpec) -> list[dict[str, Any]]:
    """Name, bytes and sha256 of the raw files; of very many files, one hash over all of theirs."""
    files = [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256_file(p)} for p in spec.files]
    if len(files) <= _MANY_FILES:
        return files
    whole = hashlib.sha256("".join(str(file["sha256"]) for file in files).encode()).hexdigest()
    total = sum(int(str(file["bytes"])) for file in files)
    return [{"name": f"{len(files)} files", "bytes": total, "sha256": whole}]


def _software() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _SOFTWARE}}
