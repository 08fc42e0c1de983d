"""Raw data to a prepared data set: one pass over the batches of a source, bounded memory, all or nothing.

Axes: N rows, D features, C classes. Shards are written into a temporary directory beside the output, hashed, and
moved into place in one rename; an interruption leaves earlier outputs as they were. What a killed process leaves is
removed by the next one with the same output:

    .NAME.TOKEN.lock    held while one process prepares NAME; whoever can take it knows that this process has ended
    .NAME.TOKEN.new     what it writes
    .NAME.TOKEN.old     the earlier data set, between the two renames
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ManifestError, OutputError, line_of
from pipeline.places import full_disk_named
from pipeline.prepared.manifest import CACHE, MANIFEST, Manifest, sha256_file, verify
from pipeline.prepared.writer import DataSetWriter, PrepareOptions
from pipeline.sources.base import Source, SourceSpec, Undecoded
from pipeline.sources.checks import Keys, check_batch, check_spec, place_of
from pipeline.sources.precision import Precision

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
        UserError: invalid data; a source that does not keep its word; an output that is another data set, or not one
            of ours, or not writable.

    Example:
        >>> import tempfile; from pipeline.sources import open_source
        >>> with tempfile.TemporaryDirectory() as scratch:
        ...     prepare(open_source("digits"), f"{scratch}/digits").splits["train"].num_samples
        1438
    """
    options, out = options or PrepareOptions(), Path(out)
    if out.is_symlink():
        try:
            out = out.resolve()  # to another disk perhaps: the link stays
        except (OSError, RuntimeError):  # in Python before 3.13 a RuntimeError
            raise OutputError(f"--out must not be a link to itself. Got {out}. Choose another.") from None
    identity = {
        "name": source.name,
        "options": source.options.changed(),
        "drop_invalid": options.drop_invalid,
        "missing": options.missing,
        "rows_per_shard": options.rows_per_shard,
    }
    check_spec(source.spec, source.name)
    raw_files = _raw_files(source.spec)
    _clear_left_overs(out)
    existing = _existing(out, identity, source.spec.details, raw_files, options.overwrite)
    if existing is not None:
        return existing
    with _new_directory(out) as scratch:
        writer = DataSetWriter(scratch, source.spec, options)
        read, keys = 0, Keys(of_a_column=source.options.key_column is not None)
        for number, batch in enumerate(source.batches()):
            if isinstance(batch, Undecoded):
                read += 1
                writer.leave_out(batch)
            else:
                check_batch(batch, source.spec, number)
                keys.add(batch, place_of(batch, number))
                read += len(batch.labels)
                with full_disk_named(out):
                    writer.add(batch)
            if progress:
                progress(read)
        provenance: dict[str, Any] = {"files": raw_files, "software": _software()}
        if keys.repeated is not None:
            provenance["repeated_key"] = keys.repeated
        if isinstance(fitted := getattr(source, "fitted", None), Counter):  # recordings made as long as the others
            provenance["fitted"] = dict(fitted)
        precision = getattr(source, "precision", None)  # of tables
        if isinstance(precision, Precision) and (coarse := precision.coarse()):
            provenance["coarse"] = coarse
        with full_disk_named(out):
            manifest = writer.finish(identity, provenance)
            (scratch / MANIFEST).write_text(manifest.to_json())
    return manifest


def _existing(
    out: Path, identity: dict[str, Any], details: dict[str, Any], raw_files: list[dict[str, Any]], overwrite: bool
) -> Manifest | None:
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
        wanted = json.loads(json.dumps([identity, details, raw_files]))  # as it is read back: tuples are lists
        if [manifest.source, manifest.details, manifest.provenance.get("files")] == wanted:
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
    try:
        lock, held = _new_lock(out)
    except OSError as error:
        raise _unwritable(out, error) from error
    scratch = lock.with_suffix(".new")
    with held:
        try:
            try:
                scratch.mkdir()
            except OSError as error:
                raise _unwritable(out, error) from error
            yield scratch
            if out.exists():
                os.replace(out, lock.with_suffix(".old"))
            os.replace(scratch, out)
        finally:
            _clear(out, lock)


def _unwritable(out: Path, error: OSError) -> OutputError:
    reason = line_of(error) if isinstance(error, FileExistsError) else f"{error.strerror}."
    return OutputError(f"--out must be a writable place. Got {out}: {reason}")


def _new_lock(out: Path) -> tuple[Path, IO[str]]:
    """A lock of this preparation alone, held until it is closed.

    A token is in its name, since the number of a process repeats: the first one of every container is 1.
    """
    if not out.parent.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = out.parent / f".{out.name}.{secrets.token_hex(8)}.lock"
        held = open(lock, "x")  # noqa: SIM115 - closed by who asked for it
        with contextlib.suppress(OSError):  # without locks on this file system nobody takes it for a left-over either
            fcntl.flock(held, fcntl.LOCK_EX)
        if lock.exists():
            return lock, held
        held.close()  # somebody took it for a left-over before it was held


def _clear_left_overs(out: Path) -> None:
    """Remove what killed preparations of `out` left; what a living one holds, or nobody can lock, stays."""
    own = re.compile(rf"\.{re.escape(out.name)}\.[0-9a-f]{{16}}\.lock")
    with contextlib.suppress(OSError):
        for lock in [path for path in out.parent.iterdir() if own.fullmatch(path.name)]:
            with contextlib.suppress(OSError), open(lock, "r+") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(out, lock)


def _clear(out: Path, lock: Path) -> None:
    """Remove what a preparation left; an earlier data set that it had moved away goes back to its place."""
    scratch, old = lock.with_suffix(".new"), lock.with_suffix(".old")
    if old.exists() and not out.exists():
        os.replace(old, out)
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    if not scratch.exists() and not old.exists():
        lock.unlink(missing_ok=True)


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
