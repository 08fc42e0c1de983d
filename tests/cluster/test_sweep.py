"""Sweeps on Ray Tune: what they record, what they survive."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.sweeps.plan import SweepOptions
from pipeline.sweeps.sweep import sweep
from tests.training import REPOSITORY, last_json

SPACE = """
map.bmu_rate: {low: 0.01, high: 0.2, log: true}
map.capacity: [20, 40]
map.epochs: 1
map.pruning_epochs: 1
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


def options(data, space, **changes) -> SweepOptions:
    asked = {"fractions": [0.1, 1.0], "seeds": [0], "samples": 2, "space": str(space) if space else None} | changes
    return SweepOptions(data=[str(path) for path in data], model="sssom", **asked)


def metrics(rows) -> dict:
    return {row["trial"]: (row["status"], row["map_digest"], row["validation_accuracy"]) for row in rows}


def runs_of(uri, experiment):
    import mlflow

    client = mlflow.MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id], max_results=1000)


def test_a_sweep_keeps_going_where_a_trial_fails_and_records_a_child_for_each(
    ray_cluster, digits, space, tracking_uri, tmp_path
):
    broken = tmp_path / "broken"
    shutil.copytree(digits, broken, ignore=shutil.ignore_patterns(".cache"))
    part = next((broken / "train").glob("*.parquet"))
    part.write_bytes(bytes(len(part.read_bytes())))  # as large as before, so only reading it finds out
    said: list[str] = []
    result = sweep(
        options([digits, broken], space, fractions=[0.1]),
        tmp_path / "out", concurrent=2, tracking_uri=tracking_uri, experiment="x", say=said.append,
    )  # fmt: skip
    assert (result["trials"], result["finished"], result["failed"]) == (4, 2, 2)
    errors = [row["error"] for row in result["rows"] if row["data"] == "broken"]
    assert all("sha256" in error for error in errors) and sum("failed" in line for line in said) >= 2
    assert result["best"]["data"] == digits.name and result["best"]["chosen_by"] == "validation_accuracy"
    runs = runs_of(tracking_uri, "x")
    parents = [run for run in runs if run.data.tags["kind"] == "sweep"]
    children = {run.data.tags["trial"]: run for run in runs if run.data.tags["kind"] == "trial"}
    assert len(parents) == 1 and len(runs) == 5 and len(children) == 4
    assert {run.info.status for run in runs} == {"FINISHED", "FAILED"}
    for row in result["rows"]:
        run = children[row["trial"]]
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id == result["run_id"]
        assert run.info.run_id == row["run_id"] and run.data.tags["sweep"]
        assert not [name for name in run.data.params if name.startswith("tracking.")]
        if row["status"] == "finished":
            assert float(run.data.params["map.bmu_rate"]) == row["map.bmu_rate"]
            assert run.data.metrics["validation_accuracy"] == pytest.approx(row["validation_accuracy"])


def test_what_was_done_is_not_repeated_and_a_sweep_can_be_extended(ray_cluster, digits, space, tracking_uri, tmp_path):
    first = sweep(options([digits], space, samples=1), str(tmp_path / "out"), tracking_uri=tracking_uri, experiment="x")
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/trial.json")}
    more = sweep(
        options([digits], None, samples=2), tmp_path / "out", resume=True, tracking_uri=tracking_uri, experiment="x"
    )
    assert len(done) == 2 and more["trials"] == more["finished"] == 4
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    assert metrics(first["rows"]).items() <= metrics(more["rows"]).items()
    (parent,) = [run for run in runs_of(tracking_uri, "x") if run.data.tags["kind"] == "sweep"]
    assert parent.data.tags["samples"] == "2" and "samples" not in parent.data.params


@pytest.mark.parametrize("changes", [{"search": "optuna"}, {"scheduler": "asha", "samples": 3}])
def test_optuna_and_asha(ray_cluster, digits, space, tmp_path, changes):
    result = sweep(options([digits], space, fractions=[1.0], **changes), tmp_path / "out", tracking_uri="none")
    assert result["finished"] + result["stopped"] == result["trials"] == changes.get("samples", 2)
    assert result["best"]["validation_accuracy"] > 0.3


def test_a_sweep_that_waits_for_room_says_so(ray_cluster, digits, tmp_path):
    said = []
    room = {"cluster.cpus_per_worker": 64.0, "cluster.placement_s": 1.0}
    asked = SweepOptions(data=[str(digits)], model="sssom", settings=room)
    result = sweep(asked, tmp_path / "out", tracking_uri="none", time_budget_s=8.0, say=said.append)
    assert (result["waiting"], result["finished"]) == (1, 0)
    assert any(
        line.startswith("No trial has begun for 1 s: the cluster seems to have no room for one (64 CPU).")
        for line in said
    ), said


def test_trials_with_workers_of_their_own_give_the_same_maps(ray_cluster, digits, space, tmp_path):
    asked = options([digits], space, samples=1, fractions=[1.0])
    alone = sweep(asked, tmp_path / "alone", tracking_uri="none")
    groups = sweep(asked, tmp_path / "groups", workers=2, tracking_uri="none")
    assert metrics(alone["rows"]) == metrics(groups["rows"])


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, digits, space, tmp_path_factory):
    """Metrics of six trials that nobody disturbs."""
    done = sweep(
        options([digits], space, samples=3), tmp_path_factory.mktemp("undisturbed") / "out", tracking_uri="none"
    )
    return metrics(done["rows"])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_that_was_killed_ends_as_if_nothing_had_happened(
    ray_cluster, digits, space, tracking_uri, tmp_path, undisturbed, number
):
    command = [
        sys.executable, "-m", "jobs.sweep", "--data", digits, "--model", "sssom", "--out", tmp_path / "out",
        "--fractions", "0.1,1", "--seeds", "0", "--samples", "3", "--space", space, "--concurrent", "1",
        "--address", ray_cluster, "--tracking-uri", tracking_uri, "--experiment", "x", "--json",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ, stderr=subprocess.PIPE, text=True)
    done: set[Path] = set()
    while not done and process.poll() is None:
        found = (tmp_path / "out").glob("trials/*/trial.json")
        done = {path for path in found if '"finished"' in path.read_text()}
        time.sleep(0.02)
    process.send_signal(number)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), error
    if number == signal.SIGTERM:  # the table says what there is so far
        with open(tmp_path / "out" / "trials.csv", newline="") as table:
            said = Counter(row["status"] for row in csv.DictReader(table))
        assert said["finished"] >= len(done) and sum(said.values()) == 6
    before = {path: path.stat().st_mtime_ns for path in done}
    again = [
        *command[:3],
        "--resume",
        "--out",
        tmp_path / "out",
        "--address",
        ray_cluster,
        "--json",
    ]  # it knows the rest
    resumed = subprocess.run(again, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    result = last_json(resumed)
    assert before and all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert metrics(result["rows"]) == undisturbed
    runs = runs_of(tracking_uri, "x")
    assert sorted(run.info.status for run in runs) == ["FINISHED"] * 7
