"""What a real MLflow server costs: a sweep and a training with it and without, a thousand children in one parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.benchmarks.shared import Report, in_words, machine, spread, table, timed
from pipeline.errors import MachineError
from pipeline.prepare import prepare
from pipeline.sources import open_source
from pipeline.tracking.journal import Journal
from pipeline.tracking.results import tracked_runs
from pipeline.tracking.sender import Sender
from pipeline.tracking.tracker import Tracker
from pipeline.training.trainer import train

_START_S = 180.0
_EPOCHS = 10
_TIMEOUT_S = 3600.0


def measure(epochs: int, repeats: int, trials: int, children: int, report: Report) -> dict[str, Any]:
    """Trains on digits with tracking and without, alone and in sweeps, in turns; then sends children and looks at them.

    Args:
        epochs: of a training; choose them so that it takes about ten seconds.
        repeats: of each.
        trials: of the sweeps that are timed.
        children: trials of the sweep that is only sent.
        report: receives lines of progress.

    Returns:
        plain, tracked (seconds of a whole training, as spreads), cost (tracked / plain − 1, of the medians), sweep
        (the same of whole sweeps, with trials and trial_seconds), children, child_seconds (of sending one),
        pull_seconds (all of them as a table), page_seconds (the newest hundred).
    """
    with tempfile.TemporaryDirectory(prefix="somgrad-tracking-") as name, server(Path(name)) as uri:
        scratch = Path(name)
        prepare(open_source("digits"), scratch / "data")
        settings = {"data.path": str(scratch / "data"), "train.model": "sssom", "cluster.workers": 0}
        settings |= {"map.epochs": epochs, "train.labelled_fraction": 0.1, "tracking.report": False}  # as of a trial
        plain: list[float] = []
        tracked: list[float] = []
        for repeat in range(-1, repeats):  # the first pair warms up: imports, caches, the schema of the store
            without, by = (_trained(settings, scratch / f"{u != 'none'}{repeat}", u) for u in ("none", uri))
            if repeat >= 0:
                plain.append(without)
                tracked.append(by)
                report(f"{epochs} epochs: {without:.2f} s without tracking, {by:.2f} s with")
        sweeps = _sweeps(scratch, uri, epochs, repeats, trials, report)
        sent, parent = _children(scratch, uri, children)
        report(f"{children} children sent in {sent:.1f} s")
        pull, pulled = timed(lambda: tracked_runs("children", uri, "thousand"))
        page, _ = timed(lambda: _page(uri, parent))
        assert len(pulled) == children
        return {
            **_compared(plain, tracked),
            "sweep": sweeps,
            "children": children,
            "child_seconds": sent / children,
            "pull_seconds": pull,
            "page_seconds": page,
            "machine": machine(1),
        }


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    sweep = result["sweep"]
    rows = [
        [f"a sweep of {sweep['trials']} trials without tracking, seconds", in_words(sweep["plain"]), ""],
        ["the same, sent to the server", in_words(sweep["tracked"]), ""],
        [
            f"how much longer the sweep takes (trials of {sweep['trial_seconds']:.1f} s)",
            f"{100 * sweep['cost']:.1f} %",
            "5 %",
        ],
        ["a training without tracking, seconds", in_words(result["plain"]), ""],
        ["the same, sent to the server", in_words(result["tracked"]), ""],
        ["what that costs a run of its own, with its end waiting for the server", f"{100 * result['cost']:.1f} %", ""],
        [
            f"sending one of {result['children']} trials of a sweep ({_EPOCHS} epochs each), seconds",
            f"{result['child_seconds']:.3f}",
            "",
        ],
        ["all of them as a table (`jobs.results --sweep`), seconds", f"{result['pull_seconds']:.2f}", ""],
        ["the newest hundred, as the page shows them, seconds", f"{result['page_seconds']:.2f}", ""],
    ]
    return "\n\n".join([
        "## Tracking", f"`{command}`",
        f"`mlflow server` on SQLite, on the same machine; load {result['machine']['load']} on "
        f"{result['machine']['cpus']} CPUs. Median (min to max). A run by itself sends what it records; a trial of "
        "a sweep writes it to its folder, and the sweep's own process sends it.",
        table(["", "measured", "target at most"], rows).strip(),
    ])  # fmt: skip


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A real MLflow server on SQLite; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}", "--workers", "1"]
    words += ["--default-artifact-root", (folder / "artifacts").as_uri(), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # of MLflow's own jobs, as in infra/mlflow
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words], stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        until = time.monotonic() + _START_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                break
            if process.poll() is not None or time.monotonic() > until:
                log_text = (folder / "server.log").read_text()[-300:]
                raise MachineError(f"The MLflow server did not start: {' '.join(log_text.split())}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def _trained(settings: Mapping[str, Any], out: Path, uri: str) -> float:
    asked = {**settings, "tracking.uri": uri, "tracking.experiment": "cost"}
    return timed(lambda: train(asked, out))[0]


def _sweeps(scratch: Path, uri: str, epochs: int, repeats: int, trials: int, report: Report) -> dict[str, Any]:
    """Whole sweeps, one trial per processor at a time, with the server and without, in turns."""
    found: dict[str, list[float]] = {"none": [], uri: []}
    each: list[float] = []
    seeds = ",".join(map(str, range(trials)))
    for repeat in range(repeats):
        for store, seconds in found.items():
            out = scratch / "sweeps" / f"{store != 'none'}{repeat}"
            words = ["jobs.sweep", "--data", str(scratch / "data"), "--model", "sssom", "--fractions", "0.1", "--json"]
            words += ["--seeds", seeds, "--epochs", str(epochs), "--tracking-uri", store, "--out", str(out)]
            words += ["--experiment", "cost"]
            done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=_TIMEOUT_S)
            if done.returncode:
                raise MachineError(f"jobs.sweep ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
            result = json.loads(done.stdout.splitlines()[-1])
            seconds.append(result["seconds"])
            each += [row["seconds"] for row in result["rows"]]
        report(f"{trials} trials: {found['none'][-1]:.1f} s without tracking, {found[uri][-1]:.1f} s with")
    return {"trials": trials, "trial_seconds": statistics.median(each), **_compared(found["none"], found[uri])}


def _compared(plain: list[float], tracked: list[float]) -> dict[str, Any]:
    """Seconds without tracking and with it, as spreads, and the share that it adds to the median."""
    one, two = spread(plain), spread(tracked)
    return {"plain": one, "tracked": two, "cost": two["median"] / one["median"] - 1}


def _children(scratch: Path, uri: str, count: int) -> tuple[float, str]:
    """Sends the journals of a sweep's trials, as a sweep does; seconds, and the id of the parent."""
    folder = scratch / "parent"
    folder.mkdir()
    parent = Tracker(folder, uri, "children")
    parent.start("sweep-thousand", {"train.model": "sssom"}, {"sweep": "thousand", "kind": "sweep"})
    while parent.run_id is None:
        time.sleep(0.05)
    peer: Sender | None = None
    began = time.perf_counter()
    for number in range(count):
        place = scratch / "children" / str(number)
        place.mkdir(parents=True)
        journal = Journal(place)
        params = {f"map.option{n}": n * number for n in range(45)} | {"train.labelled_fraction": 0.1}
        journal.write("start", name=f"trial {number}", params=params, tags={"model": "sssom"})
        for epoch in range(_EPOCHS):
            journal.write("metrics", values={f"metric{n}": 0.1 * epoch for n in range(12)}, step=epoch)
        journal.write("end", status="FINISHED", tags={})
        tags = {"mlflow.parentRunId": parent.run_id, "sweep": "thousand", "kind": "trial", "trial": str(number)}
        sender = Sender(place, journal, uri, "children", tags)
        if peer is not None:
            sender.share(peer)
        sender.send()
        peer = sender
    seconds = time.perf_counter() - began
    parent.finish("FINISHED")
    return seconds, str(parent.run_id)


def _page(uri: str, parent: str) -> int:
    from pipeline.tracking.results import children_of

    return len(children_of(parent, "children", uri, 100))
