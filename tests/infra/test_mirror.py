"""The mirror of /runs in object storage, with the real rclone: an interrupted run goes on elsewhere, same digest."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.infra.files import INFRA
from tests.training import small

SCRIPT = INFRA / "kuberay/base/mirror.sh"


@pytest.fixture
def place(tmp_path):
    """Environment of the script: a store that is a folder, as a pod would see it as a bucket."""
    if not shutil.which("rclone"):
        pytest.skip("rclone is absent (apt-get install rclone): the mirror to object storage is not tried")
    for name in ("store", "data", "runs"):
        (tmp_path / name).mkdir()
    return tmp_path, os.environ | {
        "SOMGRAD_STORE": f"store:{tmp_path}/store",
        "RCLONE_CONFIG_STORE_TYPE": "local",
        "SOMGRAD_DATA_DIR": f"{tmp_path}/data",
        "SOMGRAD_RUNS_DIR": f"{tmp_path}/runs",
        "SOMGRAD_MIRROR_READY": f"{tmp_path}/ready",
        "SOMGRAD_MIRROR_S": "1",
        "RCLONE_CONFIG": f"{tmp_path}/rclone.conf",
        "RCLONE_CACHE_DIR": f"{tmp_path}/rclone",
    }


def until(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "never came true"
        time.sleep(0.1)


def mirror(env, what="runs"):
    return subprocess.Popen(["sh", SCRIPT, what], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_an_interrupted_run_goes_on_from_the_store_with_the_same_digest(place):
    from pipeline.prepare import prepare
    from pipeline.sources import open_source
    from pipeline.training.trainer import train

    folder, env = place
    prepare(open_source("digits"), folder / "store/data/digits")
    fetched = mirror(env, "data")
    assert fetched.wait(timeout=60) == 0, fetched.stdout.read()
    settings = small("sssom", folder / "data/digits", train__checkpoint_rounds=1)
    whole = train(settings, folder / "whole")

    def interrupt(epoch, expected, metrics):
        raise KeyboardInterrupt

    beside = mirror(env)
    with pytest.raises(KeyboardInterrupt):
        train(settings, folder / "runs/one", on_epoch=interrupt)
    beside.send_signal(signal.SIGTERM)  # a pod ends: the last copy is made now
    assert beside.wait(timeout=60) == 0, beside.stdout.read()
    saved = {path.name for path in (folder / "runs/one/checkpoints").iterdir()}
    assert saved

    shutil.rmtree(folder / "runs")  # the volume is lost
    (folder / "runs").mkdir()
    (folder / "ready").unlink()
    beside = mirror(env)
    until((folder / "ready").exists)
    assert saved <= {path.name for path in (folder / "runs/one/checkpoints").iterdir()}
    said = []
    resumed = train(settings, folder / "runs/one", resume=True, say=said.append)
    beside.send_signal(signal.SIGTERM)
    assert beside.wait(timeout=60) == 0
    assert resumed["map_digest"] == whole["map_digest"]
    assert any("Going on after round" in line for line in said), f"began anew: {said}"
    assert (folder / "store/runs/one/map.safetensors").exists()


def test_data_comes_from_the_store_and_nothing_there_is_ever_deleted(place):
    folder, env = place
    (folder / "store/data/set").mkdir(parents=True)
    (folder / "store/data/set/manifest.json").write_text("{}")
    (folder / "store/runs").mkdir()
    (folder / "store/runs/old.json").write_text("kept")
    (folder / "runs/old.json").write_text("newer")
    done = mirror(env, "data")
    assert done.wait(timeout=60) == 0, done.stdout.read()
    assert (folder / "data/set/manifest.json").read_text() == "{}"
    beside = mirror(env)
    until((folder / "ready").exists)
    assert (folder / "runs/old.json").read_text() == "newer", "what is here is never overwritten"
    beside.send_signal(signal.SIGTERM)
    assert beside.wait(timeout=60) == 0
    assert (folder / "store/runs/old.json").read_text() == "newer"
    (folder / "runs/old.json").unlink()
    (folder / "ready").unlink()
    again = mirror(env)
    until((folder / "ready").exists)
    assert (folder / "runs/old.json").exists()
    again.send_signal(signal.SIGTERM)
    assert again.wait(timeout=60) == 0


def test_a_store_that_does_not_answer_is_no_empty_store(place):
    """A pod must not begin anew because its store could not be asked."""
    folder, env = place
    wrong = env | {"RCLONE_CONFIG_STORE_TYPE": "nosuch"}
    done = mirror(wrong)
    assert done.wait(timeout=60) not in (0, 130)
    assert not (folder / "ready").exists()
    assert mirror({k: v for k, v in env.items() if k != "SOMGRAD_STORE"}).wait(timeout=60) == 2
    told = mirror(env, "run")
    assert told.wait(timeout=60) == 2
    assert "must be told data or runs" in told.stdout.read()
