"""Batch prediction beside the plain loop: the model asked batch by batch, without files, Ray or keys. N rows."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.benchmarks.shared import Report, in_words, machine, spread, table, timed
from pipeline.predictor import Predictor
from pipeline.serving.predict import batch_rows, predict
from pipeline.serving.readable import check_schema, samples_of


def measure(
    model: Path, source: Path, actors: list[int], repeats: int, address: str | None, report: Report
) -> dict[str, Any]:
    """Times the plain loop on one core, `predict` in this process, and on pools of Ray actors.

    Args:
        model: directory of a run.
        source: parquet file or folder.
        actors: sizes of the pools.
        repeats: of each; the loop and `predict` in this process take turns.
        address: a Ray cluster; None = one of its own for each call.
        report: receives lines of progress.

    Returns:
        rows, loop, here (seconds by repeat, as spreads), ratio (loop / here, of the medians), pools: for each size
        seconds in all and while it scored.
    """
    torch.set_num_threads(1)
    predictor = Predictor.load(model)
    batches = _in_memory(source, predictor)
    rows = sum(len(batch) for batch in batches)
    loops: list[float] = []
    here: list[float] = []
    with tempfile.TemporaryDirectory(prefix="somgrad-predict-") as scratch:
        for repeat in range(repeats):
            loops.append(timed(lambda: [predictor.predict(batch) for batch in batches])[0])
            target = Path(scratch) / f"here{repeat}"
            here.append(timed(lambda target=target: predict(model, source, target, actors=0))[0])  # type: ignore[misc]
            report(f"{rows} rows: plain loop {loops[-1]:.2f} s, jobs.predict in this process {here[-1]:.2f} s")
        pools = {}
        for size in actors:
            whole: list[float] = []
            scoring: list[float] = []
            for repeat in range(repeats):
                moments: list[tuple[float, int]] = []
                target = Path(scratch) / f"pool{size}-{repeat}"
                whole.append(
                    timed(
                        lambda target=target, moments=moments, size=size: predict(  # type: ignore[misc]
                            model, source, target, actors=size, address=address, piece_rows=max(1, rows // 16),
                            on_piece=lambda done, total: moments.append((time.perf_counter(), done)),
                        )
                    )[0]
                )  # fmt: skip
                (first_at, first), (last_at, last) = moments[1], moments[-1]
                scoring.append((last_at - first_at) * rows / max(1, last - first))
                report(f"{size} actors: {whole[-1]:.1f} s, of which about {scoring[-1]:.2f} s scoring")
            pools[str(size)] = {"whole": spread(whole), "scoring": spread(scoring)}
    loop, ours = spread(loops), spread(here)
    ratio = loop["median"] / ours["median"]
    about = {"model": str(predictor.about.get("model")), "nodes": predictor.state.num_nodes}
    return {**about, "rows": rows, "loop": loop, "here": ours, "ratio": ratio, "pools": pools, "machine": machine(1)}


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    rows = [
        ["plain loop over arrays in memory, one core", in_words(result["loop"]), ""],
        ["`jobs.predict --actors 0`: files in, files out", in_words(result["here"]), ""],
    ]
    for size, times in result["pools"].items():
        rows.append([f"`jobs.predict --actors {size}`", in_words(times["whole"], 1), in_words(times["scoring"])])
    return "\n\n".join([
        "## Batch prediction", f"`{command}`",
        f"{result['rows']:,} rows, {result['model']} with {result['nodes']} nodes, load {result['machine']['load']} on "
        f"{result['machine']['cpus']} CPUs. Seconds: median (min to max); of pools also without the start of Ray, from "
        "the first piece to the last, for all rows.",
        table(["", "seconds", "scoring"], rows).strip(),
        f"Speed of `jobs.predict` on one core over the plain loop: {result['ratio']:.2f}; target at least 0.8.",
    ])  # fmt: skip


def _in_memory(source: Path, predictor: Predictor) -> list[Any]:
    import pyarrow.parquet as pq

    batches = []
    for path in sorted(source.rglob("*.parquet")) if source.is_dir() else [source]:
        file = pq.ParquetFile(path)
        columns = check_schema(file.schema_arrow, predictor.spec, str(path))
        batches += [
            samples_of(b, predictor.spec)[0] for b in file.iter_batches(batch_rows(predictor.spec), columns=columns)
        ]
    return batches
