"""Faults at every phase: the run goes on, one line says what happened, the bits are those of the undisturbed run."""

import os
import signal
import threading
import time

import pytest

from pipeline.cluster.session import Session
from pipeline.config import ClusterConfig, RunConfig
from pipeline.environment import code
from pipeline.errors import UserError
from pipeline.prepared.shards import Dataset
from pipeline.training.checkpoint import CheckpointStore
from pipeline.training.group import WorkerGroup
from pipeline.training.plan import make_plan
from pipeline.training.trainer import train
from pipeline.training.worker import Worker
from tests.cluster import faults
from tests.cluster.test_deep_worker_counts import deep
from tests.training import small


@pytest.fixture(scope="module")
def orders(tmp_path_factory):
    return tmp_path_factory.mktemp("orders")


@pytest.fixture(scope="module")
def lines():
    return []


@pytest.fixture(scope="module")
def three(ray_cluster, orders, lines):
    """Three workers that obey orders."""
    config = ClusterConfig(workers=3, cpus_per_worker=0.5, start_s=240.0)
    group = WorkerGroup(config, Session(config), lines.append, faults.kind(orders))
    yield group
    group.close()


def maps(digits):
    return small("sssom", digits, map__epochs=4, map__pruning_epochs=2, map__tile_size=32, train__evaluate_epochs=0)


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return {name: train(settings(digits), folder / name) for name, settings in (("map", maps), ("deep", deep))}


def once(orders, phase, fault="SIGKILL"):
    """Gives the order after the first epoch."""
    for spent in orders.iterdir():
        spent.unlink()
    return lambda epoch, expected, metrics: faults.order(orders, phase, fault) if epoch == 1 else None


@pytest.mark.parametrize(
    ("name", "settings", "phase"),
    [("map", maps, phase) for phase in faults.PHASES] + [("deep", deep, p) for p in ("encode", "reduce", "advance")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_worker_killed_in_a_phase_changes_nothing(
    three, orders, lines, digits, undisturbed, tmp_path, name, settings, phase
):
    lines.clear()
    three.pids()  # all are back from the test before

    result = train(settings(digits), tmp_path / "run", group=three, on_epoch=once(orders, phase))
    assert faults.struck(orders, phase)
    assert result["map_digest"] == undisturbed[name]["map_digest"]
    assert len([line for line in lines if "lost" in line]) == 1
    assert lines[0].split(" was lost. Going on after round ")[1].endswith(" with 2 of 3 workers.")


def test_a_worker_that_hangs_among_others_is_ended(three, orders, lines, digits, undisturbed, tmp_path, monkeypatch):
    three.pids()
    monkeypatch.setattr(three, "_collective_s", 3.0)
    lines.clear()
    result = train(maps(digits), tmp_path / "run", group=three, on_epoch=once(orders, "reduce", "SIGSTOP"))
    assert result["map_digest"] == undisturbed["map"]["map_digest"]
    assert lines[0].split(" was ended, having hung. Going on after")[1].endswith(" with 2 of 3 workers.")


def test_a_worker_that_hangs_alone_is_ended_too(three, orders, lines, digits, undisturbed, tmp_path, monkeypatch):
    three.resize(1)
    monkeypatch.setattr(three, "_collective_s", 3.0)
    lines.clear()
    result = train(maps(digits), tmp_path / "run", group=three, on_epoch=once(orders, "encode", "SIGSTOP"))
    assert result["map_digest"] == undisturbed["map"]["map_digest"]
    assert lines[0].startswith("Worker 0 was ended, having hung. Going on after")


def test_a_worker_that_is_slow_is_kept_and_given_time(three, orders, lines, digits, undisturbed, tmp_path, monkeypatch):
    """It stands still for longer than a collective may take, but answers when it is asked."""
    three.resize(2)
    pids = three.pids()
    monkeypatch.setattr(three, "_collective_s", 1.0)
    lines.clear()

    def wake():
        faults.until(lambda: faults.struck(orders, "advance"))
        time.sleep(3.0)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    threading.Thread(target=wake).start()
    result = train(maps(digits), tmp_path / "run", group=three, on_epoch=once(orders, "advance", "SIGSTOP"))
    assert result["map_digest"] == undisturbed["map"]["map_digest"]
    assert "workers are slow but alive" in lines[0].lower() and "now have 2 s for a collective" in lines[0]
    assert lines[0].endswith("with 2 of 2 workers.")


def test_a_worker_killed_while_the_driver_saves(three, lines, digits, undisturbed, tmp_path, monkeypatch):
    three.resize(2)
    pids, save = three.pids(), CheckpointStore.save
    lines.clear()

    def and_kill(store, snapshot):
        if pids and snapshot.state.round >= 4:
            os.kill(pids.pop(), signal.SIGKILL)
        return save(store, snapshot)

    monkeypatch.setattr(CheckpointStore, "save", and_kill)
    result = train(maps(digits) | {"train.checkpoint_rounds": 4}, tmp_path / "run", group=three)
    assert result["map_digest"] == undisturbed["map"]["map_digest"]
    assert lines[0].startswith("Worker 1 was lost. Going on after")


def test_a_full_object_store_is_no_obstacle(three, digits, undisturbed, tmp_path):
    """Nine tenths of it are taken by somebody else's objects, which cannot be dropped while they are held."""
    import numpy as np
    import ray

    size = ray.cluster_resources()["object_store_memory"]
    held = [ray.put(np.zeros(int(size // 10), dtype=np.uint8)) for _ in range(9)]
    three.resize(2)
    result = train(deep(digits), tmp_path / "run", group=three)
    assert len(held) == 9 and result["map_digest"] == undisturbed["deep"]["map_digest"]


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("elsewhere", "Every worker must run the code of this.* Got that of elsewhere"),
        (None, "were changed since this"),
    ],
)
def test_a_worker_with_other_code_is_not_taken(ray_cluster, digits, folder, told):
    config = ClusterConfig(workers=1, cpus_per_worker=0.5, start_s=240.0, address=ray_cluster)
    answer = ("0" * 64, folder or code()[1])
    group = WorkerGroup(
        config, Session(config), pytest.fail, type("Stranger", (Worker,), {"ready": lambda self: answer})
    )
    try:
        with pytest.raises(UserError, match=told):
            group.start(make_plan(RunConfig.build(maps(digits)), Dataset.open(digits)), None)
    finally:
        group.close()
