"""A sweep that is killed again and again, and resumed, beside one that nobody disturbs: are they equal?"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.benchmarks.shared import Report, machine, table
from pipeline.errors import MachineError, UserError
from pipeline.prepare import prepare
from pipeline.sources import open_source
from pipeline.sweeps.folder import SWEEP

_TIMEOUT_S = 3600.0
_SPACE = """
map.bmu_rate: {low: 0.01, high: 0.2, log: true}
map.capacity: [20, 40]
map.pruning_epochs: 2
"""


def measure(kills: int, samples: int, epochs: int, seed: int, address: str | None, report: Report) -> dict[str, Any]:
    """Kills the driver of a sweep at random moments after its first finished trial, resumes it, and compares.

    Args:
        kills: how often.
        samples: sets of hyper-parameters, at two fractions each.
        epochs: of each trial.
        seed: of the moments and signals.
        address: a Ray cluster for all sittings; None = each starts its own, and a kill takes it along.
        report: receives lines of progress.

    Returns:
        trials, kills (trials that had ended at each, and the signal), repeated (finished trials that were done
        again), lost, equal, runs (of MLflow, by status), seconds.

    Raises:
        UserError: the trials are too few or too short, so that a kill came after the last of them.
        MachineError: a finished trial was lost or done again.
    """
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="somgrad-kills-") as name:
        scratch = Path(name)
        prepare(open_source("digits"), scratch / "data")
        (scratch / "space.yaml").write_text(_SPACE)
        began = time.monotonic()
        command = _command(scratch, samples, epochs, address)
        ends: list[dict[str, Any]] = []
        finished: dict[str, int] = {}
        for number in range(kills):
            before = dict(finished)
            sign = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            wanted = len(before) + draw.randint(0, max(1, (2 * samples - len(before)) // (kills - number + 1)))
            code = _killed(command, scratch / "out", sign, max(1, wanted), draw.random())
            finished = _finished(scratch / "out")
            ends.append({"signal": sign.name, "exit_code": code, "finished": len(finished)})
            changed = [key for key, when in before.items() if finished.get(key) != when]
            report(f"kill {number + 1}: {sign.name}, exit {code}, {len(finished)} of {2 * samples} trials finished")
            if changed:
                raise MachineError(f"Finished trials were done again or lost: {', '.join(changed[:5])}.")
            if len(finished) == 2 * samples:
                raise UserError(
                    f"--samples and --epochs must leave trials for {kills} kills. Got {samples} and {epochs}: all "
                    f"trials had ended by kill {number + 1}. Ask for more of them."
                )
        disturbed = _run([*command, "--resume"] if (scratch / "out" / SWEEP).exists() else command)
        seconds = time.monotonic() - began
        after = _finished(scratch / "out")
        repeated = sum(after.get(key) != when for key, when in finished.items())
        report("the same sweep, undisturbed")
        quiet = _command(scratch, samples, epochs, address, out="quiet", uri="none")
        undisturbed = _run(quiet)
        return {
            "trials": disturbed["trials"],
            "kills": ends,
            "repeated": repeated,
            "lost": len(set(finished) - set(after)),
            "equal": _outcome(disturbed) == _outcome(undisturbed),
            "runs": dict(Counter(_statuses(f"sqlite:///{scratch / 'mlflow.db'}"))),
            "seconds": round(seconds, 1),
            "machine": machine(1),
        }


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    rows = [
        [str(number + 1), kill["signal"], str(kill["exit_code"]), str(kill["finished"])]
        for number, kill in enumerate(result["kills"])
    ]
    verdict = "equal" if result["equal"] else "NOT EQUAL"
    runs = ", ".join(f"{count} {status}" for status, count in sorted(result["runs"].items()))
    return "\n\n".join([
        "## A sweep that is killed", f"`{command}`",
        f"{result['trials']} trials on digits. The driver was ended {len(result['kills'])} times at random moments; "
        f"each time the sweep was gone on with by `--resume`. Set of finished trials, map digests and scores at the "
        f"end, beside an undisturbed sweep: {verdict}. Finished trials done again: {result['repeated']}; lost: "
        f"{result['lost']}. Runs in MLflow: {runs}.",
        table(["kill", "signal", "exit code", "trials finished by then"], rows).strip(),
    ])  # fmt: skip


def _command(
    scratch: Path, samples: int, epochs: int, address: str | None, out: str = "out", uri: str | None = None
) -> list[str]:
    store = uri or f"sqlite:///{scratch / 'mlflow.db'}"
    words = [sys.executable, "-m", "jobs.sweep", "--data", scratch / "data", "--model", "sssom", "--out", scratch / out]
    words += ["--fractions", "0.1,1", "--seeds", "0", "--samples", samples, "--space", scratch / "space.yaml"]
    words += ["--epochs", epochs, "--tracking-uri", store, "--experiment", "kills", "--json"]
    return [*map(str, words), *(["--address", address] if address else [])]


def _killed(command: list[str], out: Path, sign: signal.Signals, wanted: int, pause_s: float) -> int:
    """Starts a sitting and ends its driver when so many trials are finished, and a moment later."""
    resume = ["--resume"] if (out / SWEEP).exists() else []
    process = subprocess.Popen(
        [*command, *resume], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, preexec_fn=_hear_interrupts
    )
    until = time.monotonic() + _TIMEOUT_S
    while len(_finished(out)) < wanted and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(pause_s)
    process.send_signal(sign)
    return process.wait(_TIMEOUT_S)


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _finished(out: Path) -> dict[str, int]:
    """When each finished trial was written."""
    found = {}
    for path in out.glob("trials/*/trial.json"):
        if json.loads(path.read_text())["status"] == "finished":
            found[path.parent.name] = os.stat(path).st_mtime_ns
    return found


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise MachineError(f"jobs.sweep ended with {done.returncode}: {' '.join(done.stderr.split())[-300:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _outcome(result: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    names = ("status", "map_digest", "accuracy", "validation_accuracy", "nodes")
    return {row["trial"]: tuple(row[name] for name in names) for row in result["rows"]}


def _statuses(uri: str) -> list[str]:
    from pipeline.tracking.results import run_statuses

    return run_statuses("kills", uri)
