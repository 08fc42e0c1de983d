"""Randomly timed kills of workers and drivers of real commands: does every run end with the undisturbed digest?

A run is `python -m jobs.train` on its own Ray cluster. Whom a kill meets (one worker, all workers, the driver) and when
(an epoch, and a part of a second beyond it) is drawn. A killed driver is begun again with `--resume`.
"""

from __future__ import annotations

import dataclasses
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pipeline.benchmarks.shared import Report, machine, scratch, table
from pipeline.config import ClusterConfig
from pipeline.errors import GroupTimeout
from pipeline.prepare import prepare
from pipeline.sources import open_source

INTERVAL = 10  # rounds between two checkpoints
FAULTS = ("one worker", "one worker", "all workers", "driver")
_MAPS = {"map.epochs": 300, "map.batch_size": 360, "map.tile_size": 60, "map.pruning_epochs": 4}
_DEEP = {
    "map.epochs": 80, "map.batch_size": 360, "map.tile_size": 60, "encoder.width": 4, "encoder.dim": 8,
    "deep.refresh_rounds": 20, "deep.refresh_rows": 400, "deep.final_passes": 1,
    "deep.on_collapse": "go_on",  # asked for are bits, of an encoder too small for more
}  # fmt: skip
_PATIENCE_S = 600.0  # for one thing to happen
_JITTER_S = 0.3


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it.

    Attributes:
        fault: whom it met.
        epoch: the last one recorded before it.
        after_round: the run went on after this round.
        repeated: rounds that were certainly done before and had to be done again, as far as the record shows.
        recovery_s: from the kill until the workers that were left, or the new driver, were computing again.
    """

    fault: str
    epoch: int
    after_round: int
    repeated: int
    recovery_s: float


class Command:
    """One training as a user runs it, with what it says and records."""

    def __init__(self, settings: dict[str, Any], out: Path, workers: int, address: str | None) -> None:
        self.out = out
        self._words = [sys.executable, "-m", "jobs.train", "--json", "--out", str(out), "--workers", str(workers)]
        self._words += ["--data", settings["data.path"], "--model", settings["train.model"], "--tracking-uri", "none"]
        self._words += ["--address", address] if address else []
        named = ("data.path", "train.model")
        self._words += [w for k, v in settings.items() if k not in named for w in ("--set", f"{k}={v}")]
        self.said: list[tuple[float, str]] = []
        self.result = ""
        self.start()

    def start(self, resume: bool = False) -> None:
        """Begins it, or goes on with it."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [*self._words, *(["--resume"] if resume else [])], stdout=pipe, stderr=pipe, text=True
        )
        process = self._process
        self._threads = [threading.Thread(target=listen, args=(process,)) for listen in (self._hear, self._collect)]
        for thread in self._threads:
            thread.start()

    def _hear(self, process: subprocess.Popen[str]) -> None:
        for line in process.stderr or ():
            self.said.append((time.monotonic(), line.strip()))

    def _collect(self, process: subprocess.Popen[str]) -> None:
        self.result = (process.stdout.read() if process.stdout else "") or self.result

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def record(self) -> list[dict[str, Any]]:
        """Values of all metrics lines so far."""
        path = self.out / "tracking.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        read = [json.loads(line) for line in lines if line.endswith("}")]
        return [line for line in read if line["kind"] == "metrics"]

    @property
    def epoch(self) -> int:
        """The last epoch recorded."""
        return max((line["step"] for line in self.record()), default=0)

    @property
    def sittings(self) -> int:
        """How often rounds were begun."""
        return sum("startup_seconds" in line["values"] for line in self.record())

    def kill(self) -> None:
        """SIGKILL to the driver."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> dict[str, Any]:
        """Its result, when it has ended."""
        self._process.wait(_PATIENCE_S)
        for thread in self._threads:
            thread.join()
        if self._process.returncode:
            raise GroupTimeout(f"jobs.train ended with {self._process.returncode}: {self.said[-1][1]}")
        return dict(json.loads(self.result.splitlines()[-1]))


def measure(
    models: list[str], kills: int, per_run: int, workers: int, seed: int, folder: Path | None, report: Report
) -> dict[str, Any]:
    """Kill until `kills` have met their target, for each model.

    Args:
        models: "sssom", "deep", or another one.
        kills: per model.
        per_run: kills that one run has to survive.
        workers: of each run.
        seed: of who and when.
        folder: where runs lie meanwhile; None = the system's temporary directory.
        report: receives a line per kill.
    """
    with scratch("soak", folder) as place, cluster(workers) as address:
        prepare(open_source("digits"), place / "data")
        results = {}
        for model in models:
            settings = {
                "data.path": str(place / "data"), "train.model": model, "train.labelled_fraction": 0.3,
                "train.checkpoint_rounds": INTERVAL, "train.evaluate_epochs": 0,
                **(_DEEP if model == "deep" else _MAPS),
            }  # fmt: skip
            undisturbed = Command(settings, place / f"{model}-undisturbed", 0, None).wait()
            report(f"{model}: {undisturbed['rounds']} rounds, digest {undisturbed['map_digest'][:12]}")
            done: list[Kill] = []
            digests: list[str] = []
            rng = random.Random(f"{seed}/{model}")
            while len(done) < kills:
                out = place / f"{model}-{len(digests)}"
                asked = settings | {"cluster.cpus_per_worker": 0.1, "cluster.start_s": _PATIENCE_S}
                run = Command(asked, out, workers, address)
                wanted = min(per_run, kills - len(done))
                done += disturb(run, rng, wanted, undisturbed, report)
                digests.append(run.wait()["map_digest"])
                same = digests[-1] == undisturbed["map_digest"]
                report(f"{model}: run {len(digests)} ended, digest {'equal' if same else 'ANOTHER'}")
            results[model] = {
                "rounds": undisturbed["rounds"], "runs": len(digests), "kills": [dataclasses.asdict(k) for k in done],
                "equal": sum(digest == undisturbed["map_digest"] for digest in digests),
            }  # fmt: skip
    return {"models": results, "workers": workers, "seed": seed, "interval": INTERVAL, "machine": machine(1)}


def disturb(run: Command, rng: random.Random, wanted: int, undisturbed: dict[str, Any], report: Report) -> list[Kill]:
    """Kills at random epochs, one after the other; those for which the run was too quick are left out."""
    rounds_per_epoch = undisturbed["rounds"] / undisturbed["epochs"]
    done = []
    for epoch in sorted(rng.randint(2, int(0.9 * undisturbed["epochs"])) for _ in range(wanted)):
        fault, pause = rng.choice(FAULTS), rng.uniform(0, _JITTER_S)
        happened(lambda: run.ended or (run.sittings and run.epoch >= epoch))  # noqa: B023 - used at once
        time.sleep(pause)
        before, start, sittings = run.epoch, time.monotonic(), run.sittings
        if run.ended:
            break
        heard = len(run.said)
        if fault == "driver":
            run.kill()
            run.start(resume=True)
            happened(lambda: run.ended or run.sittings > sittings)  # noqa: B023
        else:
            pids = worker_pids()
            for pid in pids if fault == "all workers" else rng.sample(pids, 1):
                psutil.Process(pid).send_signal(signal.SIGKILL)
            happened(lambda: run.ended or going_on(run.said[heard:]))  # noqa: B023
        if not (found := going_on(run.said[heard:])):
            break  # it had done its last round already
        when, after = found
        when = time.monotonic() if fault == "driver" else when
        kill = Kill(fault, before, after, max(0, int(before * rounds_per_epoch) - after), round(when - start, 2))
        done.append(kill)
        report(f"{fault} killed in epoch {before + 1}; going on after round {after}, {kill.recovery_s:.1f} s later")
    return done


def going_on(said: list[tuple[float, str]]) -> tuple[float, int] | None:
    """When a run said that it goes on, and after which round."""
    for when, line in said:
        if match := re.search(r"Going on after round (\d+)", line):
            return when, int(match[1])
    return None


def worker_pids() -> list[int]:
    """Processes of the workers on the cluster that this process has started."""
    children = psutil.Process().children(recursive=True)
    names = {}
    for child in children:
        try:
            names[child.pid] = "".join(child.cmdline()[:1])
        except psutil.Error:
            continue
    return sorted(pid for pid, name in names.items() if name.startswith("ray::Worker"))


def happened(condition: Callable[[], Any]) -> None:
    """Waits until something is true."""
    until = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise GroupTimeout(f"A run stood still for {_PATIENCE_S:g} s.")
        time.sleep(0.02)


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """A Ray cluster of this process; its address."""
    from pipeline.cluster.session import Session

    session = Session(ClusterConfig(workers=workers))
    try:
        yield session.address
    finally:
        session.close()


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    rows = []
    for model, found in result["models"].items():
        kills = found["kills"]
        for fault in dict.fromkeys(FAULTS):
            chosen = [kill for kill in kills if kill["fault"] == fault]
            if chosen:
                seconds = [kill["recovery_s"] for kill in chosen]
                repeated = max(kill["repeated"] for kill in chosen)
                rows.append([model, fault, str(len(chosen)), f"{statistics.median(seconds):.1f}",
                             f"{max(seconds):.1f}", str(repeated)])  # fmt: skip
    ends = "; ".join(f"{m}: {f['equal']} of {f['runs']} runs ({f['rounds']} rounds each, {len(f['kills'])} kills)"
                     for m, f in result["models"].items())  # fmt: skip
    return "\n\n".join([
        f"## Soak: kills at random times, {', '.join(result['models'])}", f"`{command}`",
        f"Runs of `jobs.train` on {result['workers']} Ray workers, a checkpoint every {result['interval']} rounds, "
        f"load {result['machine']['load']} on {result['machine']['cpus']} CPUs. "
        f"Ended with the undisturbed digest: {ends}. "
        "Recovery: from the kill until a new group of survivors has formed, or until the resumed driver's workers "
        "compute. Repeated: rounds that the record shows done before a kill and that were done again.",
        table(["model", "killed", "times", "recovery, median s", "longest s", "repeated, most rounds"], rows).strip(),
    ])  # fmt: skip
