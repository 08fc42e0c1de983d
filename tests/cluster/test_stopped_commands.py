"""A command that is stopped from outside: its state is saved or recoverable, and it leaves nobody behind."""

import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time

import psutil
import pytest

from pipeline.tracking.journal import Journal
from pipeline.training.checkpoint import read
from pipeline.training.trainer import train
from tests.cluster.faults import until
from tests.training import REPOSITORY, command, last_json, run_job, small


@pytest.fixture(scope="module")
def settings(digits):
    return small(
        "sssom", digits, map__epochs=40, map__tile_size=200, train__checkpoint_rounds=10, train__keep_checkpoints=2
    )


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    return train(settings, tmp_path_factory.mktemp("undisturbed") / "run")


def words(settings, out, *more):
    named = {"data.path": "--data", "train.model": "--model"}
    listed = ["--out", out, *more]
    for key, value in settings.items():
        if key != "cluster.workers":
            listed += [named[key], value] if key in named else ["--set", f"{key}={value}"]
    return listed


def epochs(out):
    journal = out / "tracking.jsonl"
    return journal.read_text().count('"nodes"') if journal.exists() else 0


def begun(arguments, out, wanted=3, **more):
    """A running command that has finished some epochs."""
    job = subprocess.Popen(command(*arguments), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, **more)
    end = time.monotonic() + 250
    while epochs(out) < wanted:
        assert job.poll() is None and time.monotonic() < end, job.stderr.read()
        time.sleep(0.02)
    return job


def test_a_killed_driver_is_resumed_from_its_last_checkpoint(settings, undisturbed, tmp_path):
    out = tmp_path / "run"
    job = begun(words(settings, out, "--workers", 0), out)
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=30)
    assert json.loads((out / "run.json").read_text())["status"] == "running"
    done = run_job(*words(settings, out, "--workers", 0, "--resume", "--json"))
    assert last_json(done)["map_digest"] == undisturbed["map_digest"]
    assert "Going on after round " in done.stderr


def test_a_driver_killed_twice_in_a_row_is_resumed_twice(ray_cluster, settings, undisturbed, tmp_path):
    """On two workers, then on three, then without Ray; Ray ends the workers of a driver that is gone."""
    out = tmp_path / "run"
    for workers, more in ((2, []), (3, ["--resume"])):
        cluster = ["--workers", workers, "--address", ray_cluster, "--set", "cluster.cpus_per_worker=0.4"]
        before = epochs(out)
        job = begun(words(settings, out, *cluster, *more), out, before + 3)
        os.kill(job.pid, signal.SIGKILL)
        job.communicate(timeout=30)
    result = train(settings, out, resume=True)
    assert result["map_digest"] == undisturbed["map_digest"] and result["rounds"] == undisturbed["rounds"]


def test_a_disk_that_is_full_for_a_while_costs_checkpoints_not_the_run(settings, undisturbed, tmp_path):
    """The kernel refuses to let any file of the command grow beyond a few bytes, then allows it again."""
    out = tmp_path / "run"
    longer = settings | {"map.epochs": 500, "train.checkpoint_rounds": 10}  # not at its end before there is room
    job = begun(words(longer, out, "--workers", 0), out)
    _, hard = resource.prlimit(job.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (100, hard))
    lines = [job.stderr.readline() for _ in range(2)]
    until(lambda: "could not be written" in "".join(lines) or lines.append(job.stderr.readline()))
    kept = sorted((out / "checkpoints").glob("round*"))
    assert kept and all(read(path) for path in kept), "those from before stay whole"
    resource.prlimit(job.pid, resource.RLIMIT_FSIZE, (hard, hard))
    _, said = job.communicate(timeout=120)
    assert job.returncode == 0, said
    assert any("The checkpoint after round" in line and "File too large" in line for line in lines)
    recorded = [line["step"] for line in Journal(out).lines() if "nodes" in line.get("values", {})]
    assert recorded == list(range(1, len(recorded) + 1)), "no record was lost"


def test_a_terminated_command_on_a_cluster_saves_its_state_and_frees_its_workers(
    ray_cluster, settings, undisturbed, tmp_path
):
    out = tmp_path / "run"
    several = ["--workers", 2, "--address", ray_cluster, "--set", "cluster.cpus_per_worker=0.5"]
    job = begun(words(settings, out, *several), out)
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("Interrupted. State saved after round ")
    assert "Traceback" not in said
    result = train(settings, out, resume=True)
    assert result["map_digest"] == undisturbed["map_digest"]
    assert json.loads((out / "run.json").read_text())["status"] == "finished"


def test_a_closed_terminal_ends_a_command_with_a_cluster_of_its_own_as_an_interruption_does(settings, tmp_path):
    """SIGHUP goes to the whole group, Ray's own processes too: the state comes from a worker that is still there."""
    out, folder = tmp_path / "run", tempfile.mkdtemp(prefix="sg", dir="/tmp")  # paths of sockets over 107 bytes fail
    longer = settings | {"map.epochs": 500}  # not at its end before it is told
    own = {"start_new_session": True, "env": os.environ | {"RAY_TMPDIR": folder}}
    job = begun(words(longer, out, "--workers", 1), out, **own)
    began = psutil.Process(job.pid).children(recursive=True)
    try:
        os.killpg(job.pid, signal.SIGHUP)
        _, said = job.communicate(timeout=120)
        assert job.returncode == 130, said
        assert said.strip().splitlines()[-1].startswith("Interrupted. State saved after round ")
        assert "Traceback" not in said
        assert len(began) >= 3 and not psutil.wait_procs(began, timeout=30)[1]
    finally:
        job.kill()  # Ray's processes end with it
        shutil.rmtree(folder, ignore_errors=True)


def test_workers_end_with_their_run(group, ray_cluster, settings, tmp_path):
    import ray

    resources = ray.available_resources().get("CPU", 0)
    train({**settings, "cluster.workers": 1, "cluster.cpus_per_worker": 0.5, "map.epochs": 1}, tmp_path / "run")
    until = time.monotonic() + 30
    while ray.available_resources().get("CPU", 0) < resources and time.monotonic() < until:
        time.sleep(0.1)
    assert ray.available_resources().get("CPU", 0) == resources
