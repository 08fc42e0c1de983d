"""Whole nodes come and go: the number of workers lies between a minimum and a maximum, the map does not notice."""

import re

import pytest

from pipeline.config import ClusterConfig
from pipeline.errors import UserError, WorkerLost
from pipeline.training.local import open_group
from pipeline.training.trainer import train
from tests.cluster.faults import Node, second_node, until
from tests.training import small


@pytest.fixture(scope="module")
def settings(digits):
    return small("sssom", digits, map__epochs=8, map__pruning_epochs=3, map__tile_size=32, train__evaluate_epochs=0)


@pytest.fixture(scope="module")
def undisturbed(settings, tmp_path_factory):
    return train(settings, tmp_path_factory.mktemp("undisturbed") / "run")


def wide(**options):
    """Workers of two CPUs each: beside the shared group, the first node has room for one, the second for another."""
    return ClusterConfig(cpus_per_worker=2, start_s=240.0, **options)


def test_workers_join_with_a_node_and_go_with_it(ray_cluster, group, settings, undisturbed, tmp_path):
    lines: list[str] = []
    nodes: list[Node] = []

    def come_and_go(epoch, expected, metrics):
        if epoch == 2:
            nodes.append(Node(ray_cluster, cpus=2))
            until(lambda: joins[0] or any(m.answers() for m in workers._all[1:]))
        if epoch == 5:
            nodes[0].kill()

    joins = [False]
    with open_group(wide(workers=3, min_workers=1), lines.append) as workers:
        result = train(settings, tmp_path / "run", say=lines.append, group=workers, on_epoch=come_and_go)
    assert result["map_digest"] == undisturbed["map_digest"]
    assert [re.sub(r"\d+", "n", line) for line in lines] == [
        "Starting with n of n workers; the others join later.",
        "Worker n was added. Going on with n of n workers.",
        "Worker n was lost. Going on after round n with n of n workers.",
    ]


def test_below_the_minimum_the_run_ends_saved_and_is_resumed(ray_cluster, group, settings, undisturbed, tmp_path):
    with second_node(ray_cluster, cpus=2) as node, open_group(wide(workers=2, min_workers=2), print) as workers:

        def lose(epoch, expected, metrics):
            if epoch == 3:
                workers._config = workers._config.model_copy(update={"start_s": 2.0})
                node.kill()

        sentence = r"Worker \d was lost, and 1 of 2 workers were there after 2 s; 2 must be\."
        with pytest.raises(WorkerLost, match=sentence):
            train(settings, tmp_path / "run", group=workers, on_epoch=lose)
    lines: list[str] = []
    assert train(settings, tmp_path / "run", resume=True, say=lines.append)["map_digest"] == undisturbed["map_digest"]
    assert int(re.match(r"Going on after round (\d+)", lines[0])[1]) >= 3 * 4


def test_workers_that_would_lie_across_nodes_are_refused(ray_cluster):
    """Six CPUs for two workers of three, but on nodes of four and two: waiting would not help."""
    asked = ClusterConfig(workers=2, cpus_per_worker=3, placement_s=1)
    sentence = r"2 workers of 3 CPUs .*, each on one node. It has .* nodes\. .*cluster\.cpus_per_worker"
    with second_node(ray_cluster, cpus=2), pytest.raises(UserError, match=sentence), open_group(asked, print):
        pass
