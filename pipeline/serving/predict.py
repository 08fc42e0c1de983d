"""Batch prediction on Ray Data: parquet in, parquet out, out of core, gone on with where it was stopped.

The input is cut into pieces of whole row groups. A pool of actors, each with the model loaded once, reads, scores and
writes piece by piece; a piece is written under another name and renamed, so an output file is whole or absent, and
what is there is not done again. Rows keep their order and their key. Rows that cannot be scored are set aside.

    OUTPUT/NAME-00000.parquet    key, node, class, confidence, activation, novelty
    OUTPUT/_errors.csv           file, row, key and reason of rows that could not be scored
    OUTPUT/_predict.json         which model and which input this is
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import ClusterConfig
from pipeline.errors import DataError, OutputError, UserError, line_of, must, nearest, some, theirs_to_mend
from pipeline.places import full_disk_named, write_atomically
from pipeline.predictor import BEYOND, TILE_ROWS, Predictor
from pipeline.prepared.samples import InputSpec
from pipeline.serving.pieces import PIECE_ROWS, Piece, cut_input
from pipeline.serving.readable import check_schema, refuse_another_kind, refuse_prepared_otherwise, samples_of
from pipeline.signals import unhurried
from pipeline.training.rundir import RunDirectory
from somcore.device import one_thread

IDENTITY, ERRORS, ASIDE = "_predict.json", "_errors.csv", "_errors"
BATCH_ROWS, BATCH_BYTES = 8192, 64 << 20  # at most
SCHEMA = pa.schema(
    [
        ("node", pa.int64()),
        ("class", pa.string()),
        ("confidence", pa.float64()),
        ("activation", pa.float64()),
        ("novelty", pa.float64()),
    ]
)


def predict(
    model: Path | str,
    source: Path | str,
    out: Path | str,
    *,
    key_column: str | None = None,
    actors: int = 1,
    address: str | None = None,
    piece_rows: int = PIECE_ROWS,
    on_piece: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Scores all rows of a parquet file or folder.

    Args:
        model: directory with a map file.
        source: parquet file, or folder of such.
        out: directory of the answers; where it holds some of the same model and input, only the others are made.
        key_column: copied to the answers; it must be there. None = `key` if it is there, else row numbers.
        actors: processes; 0 = in this process, without Ray.
        address: a Ray cluster; None = one of its own.
        piece_rows: rows of an output file, roughly.
        on_piece: told (rows done, rows in all).

    Returns:
        rows, scored, errors, beyond (rows that the map would not accept), files, kept_files, seconds,
        rows_per_second, out.

    Raises:
        UserError: model, input or output are not what they must be.
    """
    began, model, source, out = time.monotonic(), Path(model), Path(source), Path(out)
    if actors < 0:
        raise must("--actors", "an integer >= 0 (0: in this process)", actors)
    if out.resolve().is_relative_to(source.resolve()):
        raise must("--output", "a directory outside of --input", str(out), remedy="Its files would be input next time.")
    predictor = Predictor.load(model)
    key = "key" if key_column is None else key_column
    pieces, keyed = cut_input(source, predictor.spec, key, piece_rows)
    if key_column is not None and not keyed:
        raise _no_column(key_column, pieces[0].file)
    refuse_prepared_otherwise(source, predictor.spec)
    files = list(dict.fromkeys(piece.file for piece in pieces))
    refuse_another_kind(files, predictor.spec)
    content = hashlib.sha256(RunDirectory(model).map_path.read_bytes()).hexdigest()  # encoder, scaling and names too
    identity = {"model": content, "input": _describe(files), "--rows-per-file": piece_rows, "--key-column": key}
    _claim(out, identity)
    waiting = [piece for piece in pieces if not _answers(out, piece).exists()]
    total = sum(piece.rows for piece in pieces)
    done = total - sum(piece.rows for piece in waiting)
    on_piece(done, total)
    scorer = (str(model.absolute()), str(out.absolute()), key if keyed else None)
    with one_thread() if actors == 0 else nullcontext():  # as an actor has
        for rows in _here(scorer, waiting) if actors == 0 else _on_ray(scorer, waiting, actors, address):
            done += rows
            on_piece(done, total)
    bad, seconds = _gather_errors(out, pieces), time.monotonic() - began
    return {
        "rows": total,
        "scored": total - bad,
        "errors": bad,
        "beyond": sum(_beyond(_answers(out, piece)) for piece in pieces),
        "files": len(pieces),
        "kept_files": len(pieces) - len(waiting),
        "seconds": round(seconds, 3),
        "rows_per_second": round(sum(piece.rows for piece in waiting) / seconds, 1),
        "out": str(out),
    }


def batch_rows(spec: InputSpec) -> int:
    """Rows to be read and scored at once: whole tiles of the predictor; of large samples as many as are 64 MB."""
    rows = min(BATCH_ROWS, BATCH_BYTES // (math.prod(spec.shape) * np.dtype(spec.dtype).itemsize))
    return rows - rows % TILE_ROWS if rows > TILE_ROWS else max(1, rows)


class Scorer:
    """Scores pieces, with the model loaded once; an actor of Ray Data, or used as it is.

    Args:
        model: directory with a map file.
        out: directory of the answers.
        key_column: None = keys are row numbers.
    """

    def __init__(self, model: str, out: str, key_column: str | None) -> None:
        import torch

        torch.set_num_threads(1)
        self._predictor, self._out, self._key = Predictor.load(model, trusted=True), Path(out), key_column

    def __call__(self, content: dict[str, Any]) -> dict[str, Any]:
        """Scores one piece; returns the number of its rows."""
        piece = Piece(**content)
        target = _answers(self._out, piece)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
        errors: list[list[Any]] = []
        file, seen = pq.ParquetFile(piece.file), 0
        key_type = file.schema_arrow.field(self._key).type if self._key else pa.int64()
        schema = SCHEMA.insert(0, pa.field("key", key_type))
        try:
            with full_disk_named(target), pq.ParquetWriter(part, schema, compression="zstd") as writer:
                groups = list(range(piece.first, piece.last))
                wanted = check_schema(file.schema_arrow, self._predictor.spec, "")
                wanted += [self._key] if self._key else []
                size = batch_rows(self._predictor.spec)
                for batch in file.iter_batches(size, row_groups=groups, columns=wanted):
                    writer.write_table(self._score(batch, piece, seen, errors, schema))
                    seen += batch.num_rows
            self._set_aside(piece, errors)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return {"rows": seen}

    def _score(
        self, batch: pa.RecordBatch, piece: Piece, seen: int, errors: list[list[Any]], schema: pa.Schema
    ) -> pa.Table:
        values, reasons = samples_of(batch, self._predictor.spec)
        good = pa.array([reason is None for reason in reasons])
        first = piece.offset + seen
        keys = batch.column(self._key) if self._key else pa.array(range(first, first + len(reasons)))
        for place, reason in enumerate(reasons):
            if reason is not None:
                errors.append([piece.file, piece.start + seen + place, keys[place].as_py(), reason])
        answers = self._predictor.predict(values)
        columns = [keys.filter(good), *(pa.array(answers[f.name], f.type, from_pandas=True) for f in SCHEMA)]
        return pa.table(columns, schema=schema)

    def _set_aside(self, piece: Piece, errors: list[list[Any]]) -> None:
        path = _errors(self._out, piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(errors, default=str).encode())


class _Carrying(Scorer):
    """Carries what the user can mend past Ray Data, which makes text of the errors of its actors."""

    def __call__(self, content: dict[str, Any]) -> dict[str, Any]:
        try:
            return super().__call__(content) | {"error": ""}
        except Exception as error:
            if not theirs_to_mend(error):
                raise
            return {"rows": 0, "error": line_of(error)}


def _here(scorer: tuple[Any, ...], pieces: list[Piece]) -> Iterator[int]:
    score = Scorer(*scorer)
    for piece in pieces:
        yield score(asdict(piece))["rows"]


def _on_ray(scorer: tuple[Any, ...], pieces: list[Piece], actors: int, address: str | None) -> Iterator[int]:
    """The pieces as a Ray data set, mapped over a pool of actors."""
    if not pieces:
        return
    from pipeline.cluster.session import Session

    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # a pool of actors is reported as if it were an error
    session = Session(ClusterConfig(address=address))
    try:
        import ray

        for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
            logging.getLogger(name).setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        cpus = ray.cluster_resources().get("CPU", 1.0)
        size = min(actors, len(pieces))
        share = min(1.0, int(100 * max(0.02, cpus - 0.5) / size) / 100)  # what is left reads the list of pieces
        listed = ray.data.from_items([asdict(piece) for piece in pieces], override_num_blocks=len(pieces))
        scored = listed.map(  # Ray makes an instance of the class in each actor
            _Carrying,  # type: ignore[arg-type]
            fn_constructor_args=scorer,
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=share,
        )
        for row in scored.iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            yield row["rows"]
    finally:
        with unhurried():
            session.close()


def _no_column(name: str, file: str) -> DataError:
    """A column with keys that was asked for by name; row numbers would not be what was asked."""
    names = {column.lower(): column for column in pq.read_schema(file).names}
    near = nearest(name.lower(), names)
    listed = some(names.values(), 8)
    hint = f"Did you mean '{names[near[0]]}'?" if near else f"There are {listed}."
    return DataError(f"{file}: --key-column must be a column that is there. Got '{name}'. {hint}")


def _describe(files: list[str]) -> list[list[Any]]:
    """Size and time of each file: other content of the same size has another time."""
    stats = {file: os.stat(file) for file in files}
    return [[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()]


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Whose directory is it?"""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / IDENTITY).exists():
            there = json.loads((out / IDENTITY).read_text(encoding="utf-8"))
            other = [name for name in identity if there.get(name) != identity[name]]
            if other:
                what = " and of another ".join(other)
                raise OutputError(f"'{out}' holds the answers of another {what}. Give another --output.")
            return
        if any(out.iterdir()):
            raise OutputError(f"'{out}' must be empty, or hold answers to go on with. Give another --output.")
        write_atomically(out / IDENTITY, json.dumps(identity).encode())
    except (OSError, ValueError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"--output must be a directory that can be written. Got '{out}': {error}.") from None


def _answers(out: Path, piece: Piece) -> Path:
    return out / f"{piece.name}.parquet"


def _errors(out: Path, piece: Piece) -> Path:
    return out / ASIDE / f"{piece.name}.json"


def _beyond(file: Path) -> int:
    """Rows of a file of answers that the map would not accept."""
    return int((pq.ParquetFile(file).read(["novelty"])["novelty"].to_numpy() > BEYOND).sum())


def _gather_errors(out: Path, pieces: list[Piece]) -> int:
    """One file of all rows that were set aside; how many."""
    rows = [row for piece in pieces for row in json.loads(_errors(out, piece).read_text(encoding="utf-8"))]
    table = io.StringIO(newline="")
    csv.writer(table).writerows([["file", "row", "key", "reason"], *rows])
    write_atomically(out / ERRORS, table.getvalue().encode())
    return len(rows)
