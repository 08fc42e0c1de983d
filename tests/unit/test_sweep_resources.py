"""What a trial of a sweep asks of the cluster: its share of the CPUs that are there, or what the user names."""

import pytest

from pipeline.errors import UserError
from pipeline.sweeps.plan import SweepOptions
from pipeline.sweeps.resources import Room, trial_resources
from pipeline.sweeps.sweep import sweep

CPUS, GPUS = "cluster.cpus_per_worker", "cluster.gpus_per_worker"


@pytest.mark.parametrize(
    ("settings", "workers", "concurrent", "nodes", "bundles", "trials", "each"),
    [
        ({}, 0, None, [4.0], [{"CPU": 1.0}], 4, 1.0),
        ({}, 0, 8, [2.0], [{"CPU": 0.25}], 8, 0.25),
        ({}, 2, None, [4.0], [{"CPU": 0.01}, {"CPU": 0.99}, {"CPU": 0.99}], 2, 0.99),
        # less than one trial would have: one at a time
        ({}, 0, None, [0.5], [{"CPU": 0.5}], 1, 0.5),
        ({}, 4, None, [2.0], [{"CPU": 0.01}, *[{"CPU": 0.49}] * 4], 1, 0.49),
        ({CPUS: 4}, 0, None, [2.0], [{"CPU": 4.0}], 1, 4.0),
        # nodes of one CPU: no worker lies across two
        ({}, 3, None, [1.0, 1.0], [{"CPU": 0.01}, *[{"CPU": 0.49}] * 3], 1, 0.49),
        ({}, 0, 3, [1.0, 1.0], [{"CPU": 0.5}], 3, 0.5),
        ({}, 2, None, [2.0, 0.5], [{"CPU": 0.01}, {"CPU": 0.99}, {"CPU": 0.99}], 1, 0.99),
        ({}, 2, None, [2.0, 0.005], [{"CPU": 0.01}, {"CPU": 0.99}, {"CPU": 0.99}], 1, 0.99),
        ({}, 1, None, [1.0] * 200, [{"CPU": 0.01}, {"CPU": 0.99}], 200, 0.99),
        # a cluster that grows on demand may have no CPU at first; what is asked for makes it grow
        ({CPUS: 1.0}, 0, 16, [], [{"CPU": 1.0}], 16, 1.0),
        ({CPUS: 2}, 2, None, [8.0], [{"CPU": 0.01}, {"CPU": 2.0}, {"CPU": 2.0}], 2, 2.0),
        ({GPUS: 0.5}, 0, 2, [8.0], [{"CPU": 1.0, "GPU": 0.5}], 2, 1.0),
        ({CPUS: 4, GPUS: 1}, 1, None, [8.0], [{"CPU": 0.01}, {"CPU": 4.0, "GPU": 1}], 2, 4.0),
    ],
)
def test_a_trial_asks_for_its_share_or_for_what_the_user_names(
    settings, workers, concurrent, nodes, bundles, trials, each
):
    assert trial_resources(settings, workers, concurrent, nodes) == (bundles, trials, each)


@pytest.mark.parametrize(("workers", "concurrent", "cpus"), [(2, 5, 0.05), (0, 500, 2.0)])
def test_too_many_trials_for_the_cluster_are_refused(workers, concurrent, cpus):
    with pytest.raises(UserError, match=f"room for {concurrent} trials. It has {cpus:g} CPUs; ask for fewer"):
        trial_resources({}, workers, concurrent, [cpus])


@pytest.mark.parametrize("field", ["--address", "RAY_ADDRESS"])
def test_a_sweep_is_not_driven_through_ray_client(monkeypatch, tmp_path, field):
    named = "ray://head:10001"
    monkeypatch.setenv("RAY_ADDRESS", named)
    with pytest.raises(UserError, match=f"^{field} must be HOST:PORT or auto for a sweep. Got '{named}'"):
        sweep(SweepOptions(data=["nowhere"]), tmp_path / "out", address=named if field == "--address" else None)
    assert not (tmp_path / "out").exists()


def test_that_no_trial_has_room_is_said_once(monkeypatch):
    said, clock = [], [0.0]
    monkeypatch.setattr("pipeline.sweeps.resources.time.monotonic", lambda: clock[0])
    room = Room([{"CPU": 0.01}, {"CPU": 8.0, "GPU": 1}, {"CPU": 8.0, "GPU": 1}], 60.0, said.append)
    for clock[0], count in ((59.0, 0), (61.0, 1), (120.0, 0)):
        room.running(count)
    assert said == []
    for clock[0] in (121.0, 122.0, 300.0):
        room.running(0)
    assert len(said) == 1
    told = "No trial has begun for 60 s: the cluster seems to have no room for one (8 CPU and 1 GPU per worker, W = 2)."
    assert said[0].startswith(told)
