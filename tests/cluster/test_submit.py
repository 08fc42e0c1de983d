"""Jobs on a real cluster: two nodes by `ray start`, token authentication, the command as users type it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.environment import COMMIT, environment
from pipeline.training.trainer import train
from tests.cluster.nodes import Nodes, free_port
from tests.training import REPOSITORY, run_job, small

pytestmark = pytest.mark.timeout(1200)
# One CPU a worker, one CPU a node: two workers fit on two nodes only.
TRAIN = ["train", "--data", "data", "--model", "sssom", "--workers", "2", "--set", "cluster.cpus_per_worker=1"]


@pytest.fixture(scope="module")
def nodes():
    cluster = Nodes()
    try:
        cluster.start_head()
        cluster.start_node()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def shared(digits, tmp_path_factory):
    """The folder that all nodes see."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(digits, folder / "data")
    return folder


def begin(nodes, *words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.submit", "--address", nodes.dashboard, *map(str, words)],
        cwd=REPOSITORY, env={**nodes.environment, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def submit(nodes, *words, **environment):
    """Exit code, stdout, stderr."""
    process = begin(nodes, *words, **environment)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def settings(data, **changes):
    known = {"data.path": "--data", "train.model": "--model", "cluster.workers": "--workers"}
    values = small("sssom", data, **changes)
    return values, [w for k, v in values.items() if k not in known for w in ("--set", f"{k}={v}")]


def test_a_training_on_two_nodes_is_the_training_here(nodes, shared, tmp_path):
    values, listed = settings(shared / "data")
    command = [*TRAIN, *listed, "--out", "run", "--json"]
    code, out, err = submit(nodes, "--json", "--workdir", shared, "--", *command)
    assert code == 0, out + err
    here = train(values, tmp_path / "here")
    there = json.loads(out.splitlines()[-1])
    assert there["status"] == "SUCCEEDED" and there["exit_code"] == 0
    assert there["result"]["map_digest"] == here["map_digest"]
    assert there["result"]["workers"] == 2
    assert (shared / "run" / "map.safetensors").exists()
    begun = json.loads((shared / "run" / "tracking.jsonl").read_text().splitlines()[0])["tags"]
    ours = environment()
    assert begun.get(COMMIT) == ours.get(COMMIT) and begun.get("git_changed") == ours.get("git_changed")
    assert "files" in err and there["job"] in err

    # the same again: the job refuses, and its code and its line come back
    code, out, err = submit(nodes, "--workdir", shared, "--", *command)
    assert code == 2
    assert "already holds a run" in out and "failed with exit code 2" in err
    # submitted to go on, it has nothing left to do
    code, out, err = submit(nodes, "--json", "--resume", "--workdir", shared, "--", *command)
    assert code == 0, out + err
    assert json.loads(out.splitlines()[-1])["result"]["map_digest"] == here["map_digest"]


def test_stop_save_go_on_detach_and_die(nodes, shared):
    _, listed = settings(shared / "data", map__epochs=4000, train__checkpoint_rounds=50)
    command = ["--workdir", shared, "--", *TRAIN, *listed, "--out", "long"]
    code, _, err = submit(nodes, "--name", "long-1", "--no-wait", *command)
    assert code == 0, err
    epochs(shared / "long", 3, nodes, "long-1")
    code, _, err = submit(nodes, *command)
    assert code == 2 and err.strip().endswith("Got 'it runs as long-1'. See --logs long-1.")
    code, out, err = submit(nodes, "--json", "--stop", "long-1")
    assert code == 0 and json.loads(out.splitlines()[-1])["status"] == "STOPPED", err
    saved = json.loads((shared / "long" / "run.json").read_text())
    assert saved["status"] in ("killed", "interrupted"), saved["status"]

    follower = begin(nodes, "--name", "long-2", "--resume", *command)
    epochs(shared / "long", 3, nodes, "long-2")
    follower.send_signal(signal.SIGINT)
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "Going on after round" in out
    assert err.strip().endswith("Interrupted. Job long-2 goes on. See --logs long-2, --stop long-2.")
    code, out, _ = submit(nodes, "--json", "--status", "long-2")
    assert code == 0 and json.loads(out.splitlines()[-1])["status"] == "RUNNING"

    follower = begin(nodes, "--logs", "long-2")
    driver = [p for p in psutil.process_iter(["cmdline"]) if is_driver(p.info["cmdline"], "long")]
    assert len(driver) == 1
    driver[0].kill()
    out, err = follower.communicate(timeout=120)
    assert follower.returncode == 1, err
    assert "failed with exit code" in err
    code, out, _ = submit(nodes, "--list", "--json")
    listed = {row["job"]: row["status"] for row in json.loads(out.splitlines()[-1])["jobs"]}
    assert (listed["long-1"], listed["long-2"]) == ("STOPPED", "FAILED")


def epochs(run, count, nodes, job):
    """Waits until a run has recorded so many more epochs."""
    journal, until = run / "tracking.jsonl", time.monotonic() + 400
    read = lambda: journal.read_text().count('"nodes"') if journal.exists() else 0  # noqa: E731
    before = read()
    while read() < before + count:
        assert time.monotonic() < until, submit(nodes, "--stop", job) + submit(nodes, "--logs", job)
        time.sleep(0.1)


def is_driver(words, out):
    return bool(words) and "jobs.train" in words and words[-1] == "--resume" and out in words


def test_who_may_not_or_cannot_is_told_in_one_line(nodes, digits, tmp_path):
    free = os.environ | {"RAY_AUTH_MODE": "disabled"}
    elsewhere = type("Nowhere", (), {"dashboard": f"http://127.0.0.1:{free_port()}", "environment": free})
    asked = {
        "wants a token": begin(nodes, "--list", RAY_AUTH_MODE="disabled"),
        "does not accept this token": begin(nodes, "--list", RAY_AUTH_TOKEN="0" * 48),
        "RAY_AUTH_TOKEN_PATH must be a file": begin(nodes, "--list", RAY_AUTH_TOKEN_PATH=tmp_path / "none"),
        "Nothing answers at": begin(elsewhere, "--list"),
        "There is no job 'nobody'": begin(nodes, "--status", "nobody"),
    }
    for text, process in asked.items():
        out, err = process.communicate(timeout=120)
        assert process.returncode == 2, err
        assert out == "" and len(err.strip().splitlines()) == 1 and text in err, err
    words = ["--data", digits, "--model", "sssom", "--tracking-uri", "none", "--out", tmp_path / "run", "--address"]
    secrets = {
        "wants a token": {"RAY_AUTH_MODE": "disabled"},
        "not accept this token": {"RAY_AUTH_TOKEN": "0" * 48},
        "RAY_AUTH_TOKEN_PATH must be a file": {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")},
    }
    for text, secret in secrets.items():
        done = run_job(*words, nodes.address, "--workers", 1, **(nodes.environment | secret))
        assert done.returncode == 2 and text in done.stderr.splitlines()[-1], done.stderr  # Ray's own lines before it
        assert "~/.ray/auth_token" in done.stderr and not (tmp_path / "run").exists()
