"""Waiting times of the command line: help texts, and a Ray run before its first round."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.benchmarks.shared import Report, in_words, machine, spread, table, timed
from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.sources import open_source

_TIMEOUT_S = 300.0


def measure(jobs: list[str], workers: int, repeats: int, report: Report) -> dict[str, Any]:
    """Time every `--help`, and `jobs.train` on digits until its first round is saved.

    Args:
        jobs: modules to ask for help.
        workers: of the run.
        repeats: of each.
        report: receives lines of progress.
    """
    helps = {name: spread([_help(name) for _ in range(repeats)]) for name in jobs}
    report(f"slowest help: {max(value['median'] for value in helps.values()):.2f} s")
    starts: list[float] = []
    with tempfile.TemporaryDirectory(prefix="somgrad-overhead-") as scratch:
        prepare(open_source("digits"), Path(scratch) / "data")
        for repeat in range(repeats):
            starts.append(_first_round(Path(scratch) / "data", Path(scratch) / f"run{repeat}", workers))
            report(f"first round after {starts[-1]:.1f} s")
    return {"help_seconds": helps, "first_round_seconds": spread(starts), "workers": workers, "machine": machine(1)}


def _help(module: str) -> float:
    return timed(lambda: subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, check=True))[0]


def _first_round(data: Path, out: Path, workers: int) -> float:
    """Seconds from the start of the process until the checkpoint after its first round is there."""
    command = [sys.executable, "-m", "jobs.train", "--data", str(data), "--model", "sssom", "--out", str(out)]
    command += ["--workers", str(workers), "--epochs", "2", "--tracking-uri", "none"]
    command += ["--set", "train.checkpoint_rounds=1"]
    start = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not any(out.glob("checkpoints/*")) and process.poll() is None:
        time.sleep(0.02)
    taken = time.perf_counter() - start
    _, told = process.communicate(timeout=_TIMEOUT_S)
    if process.returncode:
        raise UserError(f"jobs.train failed: {' '.join(told.split())}")
    return taken


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    rows = [[f"`python -m {name} --help`", in_words(value), "2"] for name, value in result["help_seconds"].items()]
    named = f"`jobs.train --workers {result['workers']}` until its first round is done and saved"
    rows.append([named, in_words(result["first_round_seconds"]), "15"])
    return "\n\n".join([
        "## Waiting times", f"`{command}`",
        f"From the start of the process, load {result['machine']['load']} on {result['machine']['cpus']} CPUs. "
        "Seconds: median (min to max).",
        table(["command", "seconds", "target"], rows).strip(),
    ])  # fmt: skip
