"""Which cluster a run is on."""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

import pytest
import ray

from pipeline.cluster.session import Session
from pipeline.config import ClusterConfig
from pipeline.errors import GroupTimeout, UserError

SCRIPT = """
import os, signal
from pipeline.config import ClusterConfig
from pipeline.cluster.session import Session
from pipeline.signals import unhurried
session = Session(ClusterConfig(address={address!r}))
print(session.address)
with unhurried():
    session.close()
    os.kill(os.getpid(), signal.SIGTERM)  # Ray leaves the system's way of it behind
"""


@pytest.fixture
def machine(ray_cluster):
    """The environment of a machine where somebody began the session's cluster by `ray start`."""
    folder = Path(tempfile.mkdtemp(prefix="sg", dir="/tmp"))  # paths of sockets over 107 bytes fail
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(ray_cluster)
    yield os.environ | {"RAY_TMPDIR": str(folder)}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("address", [None, "auto"])
def test_a_run_joins_the_cluster_of_this_machine_only_if_told_to(address, machine, ray_cluster):
    command = [sys.executable, "-c", SCRIPT.format(address=address)]
    done = subprocess.run(command, env=machine, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.splitlines()[-1] == ray_cluster) == (address == "auto")


def test_no_garbage_holds_objects_of_ray_when_the_connection_ends(ray_cluster, monkeypatch):
    """Ray ends the process, with code 1, if another thread's collector finds such a reference in that moment."""
    session = Session(ClusterConfig(address=ray_cluster))
    session._ours, seen = True, []
    holder = type("Holder", (), {})()
    holder.cycle, holder.held, reference = holder, ray.put(0), weakref.ref(holder)
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append(reference()))
    gc.disable()
    try:
        del holder
        session.close()
    finally:
        gc.enable()
    assert seen == [None]


def test_a_connected_process_does_not_train_elsewhere_than_told(ray_cluster):
    Session(ClusterConfig(address=ray_cluster)).close()
    sentence = f"cluster.address must be that of the cluster this process is connected to, {ray_cluster}. Got '198.*"
    with pytest.raises(UserError, match=sentence):
        Session(ClusterConfig(address="198.51.100.1:1"))


@pytest.mark.parametrize(
    ("bundles", "asked", "taken", "cpus"),
    [
        ([0.1], {}, False, 1.0),  # room for the trial alone
        ([0.5], {}, True, 0.4),
        ([0.5], {"workers": 2, "cpus_per_worker": 0.3}, False, 0.3),
        ([0.1, 0.5], {}, True, 0.5),
        ([0.1, 1.0], {"workers": 2}, True, 0.5),
        ([0.1, 0.3, 0.3], {"workers": 2, "cpus_per_worker": 0.3}, True, 0.3),  # as a sweep lays them out
        ([0.1, 0.5], {"cpus_per_worker": 0.6}, False, 0.6),
    ],
)
def test_a_placement_group_around_a_training_is_used_where_it_has_room(ray_cluster, bundles, asked, taken, cpus):
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    config = ClusterConfig(**({"workers": 1} | asked))

    @ray.remote(num_cpus=0.1)
    def placed():
        around, placement = ray.util.get_current_placement_group(), Session(config).place(config)
        if placement.ours:
            ray.util.remove_placement_group(placement.group)
        return placement.group == around, placement.ours, placement.cpus

    group = ray.util.placement_group([{"CPU": cpu} for cpu in bundles])
    strategy = PlacementGroupSchedulingStrategy(group, 0)
    try:
        assert ray.get(placed.options(scheduling_strategy=strategy).remote(), timeout=120) == (taken, not taken, cpus)
    finally:
        ray.util.remove_placement_group(group)


def test_a_task_that_holds_the_cpus_it_waits_for_is_told_so(ray_cluster):
    """A driver holds none, and is told of others only."""
    config = ClusterConfig(workers=4, cpus_per_worker=1, placement_s=1)

    @ray.remote
    def placed():
        Session(config).place(config)

    remedy = (
        r"Wait, or .* more\. The task or actor that trains here holds 2 CPUs itself: give it fewer .*workers=0\)\.$"
    )
    with pytest.raises(GroupTimeout, match=r"(?m)" + remedy):
        ray.get(placed.options(num_cpus=2).remote(), timeout=120)
    busy = ray.util.placement_group([{"CPU": 1}])
    try:
        assert busy.wait(60)
        with pytest.raises(GroupTimeout, match=r"Wait, or give cluster.placement_s more\.$"):
            Session(config).place(config)
    finally:
        ray.util.remove_placement_group(busy)
