"""Nodes joined, and given classes, by the views that cross between them."""

import dataclasses
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.deep.crossings import counted_crossings, with_classes_spread
from somcore import MapConfig
from somcore.crossings import crossings_of, group_by_crossings, spread_classes
from somcore.growth import reconnect
from somcore.state import blank_state


def blocks(rng, sizes, within=20, between=2):
    """Crossings of planted groups: many within, few between; with the group of each node, in random order."""
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rate = np.where(group[:, None] == group, within, between) + np.eye(len(group)) * 100
    drawn = np.triu(rng.poisson(rate))
    return torch.from_numpy(drawn + drawn.T), torch.from_numpy(group)


def same_partition(found, planted):
    return len(set(zip(found.tolist(), planted.tolist(), strict=True))) == len(set(planted.tolist()))


def test_pairs_are_counted_both_ways_and_those_without_a_node_not_at_all(rng):
    one, other = torch.from_numpy(rng.integers(-1, 5, 300)), torch.from_numpy(rng.integers(-1, 5, 300))
    table = crossings_of(one, other, 6)
    told = list(zip(one.tolist(), other.tolist(), strict=True))
    expected = [[told.count((a, b)) + told.count((b, a)) for b in range(6)] for a in range(6)]
    assert table.tolist() == expected
    assert int(table.sum()) == 2 * int(((one >= 0) & (other >= 0)).sum())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_crossings_of_all_workers_are_those_of_every_row_and_its_view(workers):
    config = MapConfig(variant="larfdssom", capacity=4, tile_size=8, activation_threshold=0.5).resolve(
        num_samples=50, num_features=1
    )
    places = torch.tensor([[0.1], [0.4], [0.7], [0.0]], dtype=torch.float64)
    state = blank_state(4, 1, 0)
    alive = torch.tensor([True, True, True, False])
    state = dataclasses.replace(state, prototypes=places, relevances=torch.ones_like(places), alive=alive)
    data, rows = torch.arange(70).float()[:, None] / 100, torch.arange(69, 10, -1)
    dataset = SimpleNamespace(read=lambda split, taken: (data[taken], None))
    total = torch.zeros(4, 4, dtype=torch.int64)
    for rank in range(workers):
        reduction = SimpleNamespace(rank=rank, world_size=workers, sum=lambda own: own)
        total += counted_crossings(
            state, torch.nn.Identity(), config, lambda x, draws: x + 0.15, dataset, rows, reduction, lambda: None
        )
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for sample in data[rows, 0].tolist():
        one, other = (min(range(3), key=lambda k: abs(x - places[k].item())) for x in (sample, sample + 0.15))
        expected[one, other] += 1
        expected[other, one] += 1
    assert torch.equal(total, expected)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 3), (2, 3, 4, 5), (6, 6)])
def test_planted_groups_are_found(rng, sizes):
    crossings, planted = blocks(rng, sizes)
    found = group_by_crossings(crossings, len(sizes))
    assert found.unique().numel() == len(sizes) and same_partition(found, planted)


def information(table):
    """Mutual information of rows and columns of a table of counts."""
    shares = table / table.sum()
    chance = shares.sum(1, keepdim=True) * shares.sum(0, keepdim=True)
    return float(torch.xlogy(shares, shares / chance).nansum())


def joined(table, groups):
    """The table of groups."""
    member = torch.nn.functional.one_hot(groups).to(torch.float64)
    return member.T @ table.to(torch.float64) @ member


def test_every_step_joins_the_two_that_lose_least_information(rng):
    crossings, _ = blocks(rng, (2, 3, 4), within=15, between=5)
    before = torch.arange(9)
    for num_groups in range(8, 0, -1):
        found = group_by_crossings(crossings, num_groups)
        trials = []
        for one, other in itertools.combinations(range(num_groups + 1), 2):
            tried = torch.unique(torch.where(before == other, one, before), return_inverse=True)[1]
            trials.append((information(joined(crossings, tried)), tried.tolist()))
        best = max(trials)
        assert information(joined(crossings, found)) == pytest.approx(best[0], abs=1e-9)
        before = found


def test_groups_do_not_depend_on_the_order_of_nodes(rng):
    crossings, _ = blocks(rng, (4, 5, 6), within=9, between=4)
    order = torch.from_numpy(rng.permutation(15))
    assert same_partition(group_by_crossings(crossings[order][:, order], 5), group_by_crossings(crossings, 5)[order])


def test_nodes_that_nothing_falls_on_are_in_no_group():
    crossings = torch.zeros(4, 4, dtype=torch.int64)
    crossings[1, 1] = crossings[3, 3] = 5
    assert group_by_crossings(crossings, 3).tolist() == [-1, 0, -1, 1]
    assert group_by_crossings(crossings, 1).tolist() == [-1, 0, -1, 0]
    assert group_by_crossings(torch.zeros(2, 2, dtype=torch.int64), 2).tolist() == [-1, -1]
    with pytest.raises(ValueError, match="num_groups must be at least 1. Got 0."):
        group_by_crossings(crossings, 0)


def test_one_label_names_its_planted_group(rng):
    crossings, planted = blocks(rng, (2, 4, 8))
    classes = torch.full((14,), -1)
    for group in range(3):
        classes[(planted == group).nonzero()[0]] = group
    assert torch.equal(spread_classes(classes, crossings, 3), planted)


def test_classes_stay_where_they_are_and_reach_no_island():
    crossings = torch.tensor([[9, 90, 0, 0], [90, 9, 5, 0], [0, 5, 9, 0], [0, 0, 0, 9]])
    assert spread_classes(torch.tensor([0, 1, -1, -1]), crossings, 2).tolist() == [0, 1, 1, -1]
    assert spread_classes(torch.full((4,), -1), crossings, 2).tolist() == [-1] * 4


def test_a_class_with_many_labelled_nodes_does_not_win_by_their_number():
    """A node half way between two classes goes with the one that it crosses to more, not with the commoner one."""
    crossings = torch.eye(6, dtype=torch.int64) * 100
    for node, count in ((1, 5), (2, 5), (3, 5), (4, 12)):
        crossings[0, node] = crossings[node, 0] = count
    assert spread_classes(torch.tensor([-1, 0, 0, 0, 1, -1]), crossings, 2)[0] == 1


def test_nodes_that_get_different_classes_are_no_neighbours_any_more():
    config = MapConfig(activation_threshold=0.9, connection_threshold=0.5)
    config = config.resolve(num_samples=10, num_features=2, num_classes=2)
    state = blank_state(4, 2, 2)
    classes = torch.tensor([0, 1, -1, -1])
    state = reconnect(dataclasses.replace(state, alive=torch.ones(4, dtype=torch.bool), classes=classes), config)
    assert state.neighbours[2, 3] and state.neighbours[0, 3] and not state.neighbours[0, 1]
    crossings = torch.tensor([[9, 0, 5, 0], [0, 9, 0, 5], [5, 0, 9, 0], [0, 5, 0, 9]])
    after = with_classes_spread(state, crossings, config)
    assert after.classes.tolist() == [0, 1, 0, 1]
    assert after.neighbours.nonzero().tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
