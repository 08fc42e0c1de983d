"""Nodes joined into groups by Ward's method with weights."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, ward

from somcore.grouping import group_nodes
from somcore.state import blank_state


def nodes_at(points, capacity=None):
    """A map with nodes at the points; further slots are dead."""
    points = torch.as_tensor(points, dtype=torch.float64)
    state = blank_state(capacity or len(points), points.shape[1], 0)
    prototypes = state.prototypes.clone()
    prototypes[: len(points)] = points
    return dataclasses.replace(state, prototypes=prototypes, alive=torch.arange(state.capacity) < len(points))


def partition(groups):
    return {frozenset(np.flatnonzero(np.asarray(groups) == g).tolist()) for g in set(np.asarray(groups).tolist())}


@pytest.mark.parametrize("num_groups", [1, 2, 5, 11])
def test_equal_weights_are_the_method_of_scipy(rng, num_groups):
    points = rng.random((30, 4))
    found = group_nodes(nodes_at(points), torch.full((30,), 7), num_groups)
    assert partition(found) == partition(fcluster(ward(points), num_groups, "maxclust"))


def test_a_node_of_weight_m_is_m_nodes_of_weight_one(rng):
    points, times = rng.random((12, 3)), rng.integers(1, 5, 12)
    found = group_nodes(nodes_at(points), torch.from_numpy(times), 4).numpy()
    repeated = group_nodes(nodes_at(points.repeat(times, axis=0)), torch.ones(int(times.sum())), 4).numpy()
    assert partition(found.repeat(times)) == partition(repeated)


def test_dead_nodes_and_nodes_without_samples_are_in_no_group():
    found = group_nodes(nodes_at([[0.0], [5.0], [0.1]], capacity=5), torch.tensor([4, 0, 4, 9, 9]), 3)
    assert found.tolist() == [0, -1, 1, -1, -1]
    assert group_nodes(blank_state(3, 1, 0), torch.zeros(3), 2).tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="num_groups must be at least 1. Got 0."):
        group_nodes(blank_state(3, 1, 0), torch.zeros(3), 0)
