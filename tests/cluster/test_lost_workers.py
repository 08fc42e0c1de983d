"""Workers die in the middle of a run; the map is the same as if they had not."""

import os
import signal
import time

import pytest

from pipeline.cluster.session import Session
from pipeline.config import ClusterConfig
from pipeline.training.group import WorkerGroup
from pipeline.training.trainer import train
from tests.training import small


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    return train(longer(digits), tmp_path_factory.mktemp("undisturbed") / "run")


def longer(digits):
    return small("sssom", digits, map__epochs=6, map__pruning_epochs=3, map__tile_size=32)


@pytest.mark.parametrize("victims", [[2], [0], [0, 1], [0, 1, 2]], ids=lambda v: "-".join(map(str, v)))
def test_killed_workers_change_nothing(group, said, digits, undisturbed, tmp_path, victims):
    group.resize(3)
    pids = group.pids()
    said.clear()
    killed_at = []

    def kill(epoch, expected, metrics):
        if epoch == 3:
            for victim in victims:
                os.kill(pids[victim], signal.SIGKILL)
            killed_at.append(time.monotonic())

    result = train(longer(digits), tmp_path / "run", group=group, on_epoch=kill)
    assert killed_at
    assert result["map_digest"] == undisturbed["map_digest"]
    assert result["rounds"] == undisturbed["rounds"]
    names = ", ".join(map(str, victims))
    verb = "Worker {} was lost. " if len(victims) == 1 else "Workers {} were lost. "
    assert said[0].startswith(verb.format(names) + "Going on after round ")
    survivors = {3 - len(victims)} if len(victims) < 3 else {1, 2, 3}  # of all, as many as Ray had started again
    assert said[0].endswith(tuple(f"with {number} of 3 workers." for number in survivors))


def test_a_worker_that_hangs_in_a_block_is_replaced(group, said, digits, undisturbed, tmp_path, monkeypatch):
    """SIGSTOP: the process lives but does nothing; its peers give up the collective after collective_s."""
    group.resize(3)
    pids = group.pids()
    said.clear()
    monkeypatch.setattr(group, "_collective_s", 5.0)

    def stop(epoch, expected, metrics):
        if epoch == 3:
            os.kill(pids[1], signal.SIGSTOP)

    result = train(longer(digits), tmp_path / "run", group=group, on_epoch=stop)
    assert result["map_digest"] == undisturbed["map_digest"]
    assert said[0].endswith("with 2 of 3 workers.")


def test_a_lost_worker_comes_back_and_takes_part(group, said, digits, tmp_path):
    group.resize(2)
    pids = group.pids()
    said.clear()
    settings = longer(digits) | {"map.epochs": 400}

    def kill_then_wait(epoch, expected, metrics):
        if epoch == 2:
            os.kill(pids[1], signal.SIGKILL)
        if any("restarted" in line for line in said):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="State saved"):
        train(settings, tmp_path / "run", group=group, on_epoch=kill_then_wait)
    assert said[0].startswith("Worker 1 was lost.")
    assert said[-1] == "Worker 1 was restarted. Going on with 2 of 2 workers."


def test_a_group_that_lost_a_worker_for_good_trains_again(ray_cluster, digits, undisturbed, tmp_path):
    config = ClusterConfig(workers=2, min_workers=1, restarts=0, cpus_per_worker=0.5, start_s=240.0)
    lines: list[str] = []
    group = WorkerGroup(config, Session(config), lines.append)
    try:
        while len(pids := group.pids()) < 2:  # one is enough to begin
            time.sleep(0.1)
        os.kill(pids[0], signal.SIGKILL)
        for folder in ("first", "second"):
            result = train(longer(digits), tmp_path / folder, group=group)
            assert result["map_digest"] == undisturbed["map_digest"]
        assert lines[-1].startswith("Starting with 1 of 2 workers; the others are gone (")
    finally:
        group.close()
