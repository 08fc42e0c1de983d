"""Answers that went with the node that held them: a lost worker, not the end of a run."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import ray

from pipeline.config import ClusterConfig
from pipeline.errors import WorkerLost
from pipeline.training import group, members
from pipeline.training.checkpoint import Snapshot
from pipeline.training.group import WorkerGroup
from somcore.state import blank_state


def test_an_answer_lost_with_its_node_is_that_of_a_lost_worker(monkeypatch):
    """With real errors of Ray; a node that dies in that very moment cannot be made to order."""
    kept, lost, dead = object(), object(), object()
    errors = {
        lost: ray.exceptions.ObjectLostError("00" * 28, "", "call"),
        dead: ray.exceptions.RayActorError(),
    }

    def get(reference):
        if reference in errors:
            raise errors[reference]
        return "an answer"

    here = SimpleNamespace(wait=lambda refs, **_: (refs, []), get=get, exceptions=ray.exceptions)
    monkeypatch.setattr(members, "ray", here)
    assert members.answered([(1, kept), (2, lost), (3, dead)], 0.0) == {1: "an answer"}


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("its actor died", "Ray does not start 2 of 2 workers again (cluster.restarts=0); 1 must be there"),
        ("", "0 of 2 workers were there after 0 s; 1 must be"),
    ],
)
def test_waiting_is_named_only_where_it_could_have_helped(gone, said):
    lost = [SimpleNamespace(number=n, gone=gone, stranger="", answers=lambda wait_s: False) for n in range(2)]
    group = object.__new__(WorkerGroup)
    config = ClusterConfig(workers=2, restarts=0).model_copy(update={"start_s": 0})
    group._config, group._all, group._members = config, lost, []
    with pytest.raises(WorkerLost) as error:
        group._recover("workers 0, 1 were lost")
    assert str(error.value) == f"Workers 0, 1 were lost, and {said}. --resume goes on from the last checkpoint."


def test_where_ray_is_gone_the_map_that_the_driver_saw_is_the_latest():
    def gone():
        raise ConnectionError("the client is not connected")

    group = object.__new__(WorkerGroup)
    group._last = Snapshot(blank_state(4, 2, 2, "cpu"))
    control = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=gone))
    group._members = [SimpleNamespace(actor=SimpleNamespace(leave=control))]
    assert group.latest() is group._last


def test_a_group_whose_actors_cannot_be_made_gives_its_room_back(monkeypatch):
    def actor(config, placement, number, kind):
        if number == 1:
            raise ConnectionError("the cluster is gone")
        return f"actor {number}"

    undone = []
    util = SimpleNamespace(remove_placement_group=undone.append)
    monkeypatch.setattr(group, "ray", SimpleNamespace(kill=lambda one, no_restart: undone.append(one), util=util))
    room = SimpleNamespace(ours=True, group="the room")
    session = SimpleNamespace(driver="here", place=lambda config: room, actor=actor)
    with pytest.raises(ConnectionError, match="the cluster is gone"):
        WorkerGroup(ClusterConfig(workers=3), session, print)
    assert undone == ["actor 0", "the room"]


@pytest.mark.parametrize(("least", "here"), [(1, 1), (None, 0)])
def test_a_worker_that_is_gone_stops_a_start_only_where_too_few_are_left(least, here):
    there = SimpleNamespace(number=0, gone="", stranger="", answers=lambda wait_s: True)
    lost = SimpleNamespace(number=1, gone="its actor died", stranger="", answers=lambda wait_s: False)
    group = object.__new__(WorkerGroup)
    group._config, group._all = ClusterConfig(workers=2, min_workers=least, restarts=0), [there, lost]
    with nullcontext() if here else pytest.raises(WorkerLost, match="A worker could not start: its actor died"):
        assert group._present() == [there]
