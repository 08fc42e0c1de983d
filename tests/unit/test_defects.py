"""One guard for each known defect of the released programs that could come back in ours.

Numbers are those of section 11 of the algorithms document (25 to 27 concern evaluation scripts, not maps). Every
case is small enough to be followed by hand.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from somcore import (
    LARFDSSOM,
    SSSOM,
    MapConfig,
    MapState,
    activations,
    advance,
    match,
    predict_nodes,
)
from tests.oracle import common, empty_map
from tests.side_by_side import blobs, random_map, resolved, statistics_of, to_torch, torch_round

GROWING = ("larfdssom", "sssom", "altsssom")


def settings(variant: str, num_features: int, **changes) -> MapConfig:
    values = {"capacity": 8, "min_win_share": 0.0, "pruning_period": 10_000, "connection_threshold": 0.0}
    if variant != "altsssom":
        values["activation_threshold"] = 0.9  # ρ ≤ 1/9
    return resolved(variant, 100, num_features, 3, **values | changes)


def nodes(config: MapConfig, prototypes, classes=None, deviations=None, updates=None) -> MapState:
    """A map with the given nodes in its first slots."""
    prototypes = np.asarray(prototypes, dtype=float)
    m = empty_map(config.capacity, prototypes.shape[1], 3)
    for j, row in enumerate(prototypes):
        m.alive[j], m.prototypes[j] = True, row
        m.classes[j] = -1 if classes is None else classes[j]
        m.deviations[j] = 0.0 if deviations is None else deviations[j]
        m.updates[j] = 0 if updates is None else updates[j]
        m.relevances[j] = common.node_relevances(m, j, config)
    common.reconnect(m, config)
    return to_torch(m)


def show(state: MapState, config: MapConfig, samples, labels=None) -> MapState:
    samples = np.asarray(samples, dtype=float)
    return torch_round(state, samples, np.full(len(samples), -1) if labels is None else np.asarray(labels), config)


def test_defect_01_relevances_weigh_features_before_they_are_summed():
    """Distance times *mean* relevance cancels out of the activation and leaves the plain Euclidean winner."""
    config = settings("sssom", 2)
    state = nodes(config, [[0.0, 0.0], [0.4, 0.4]], deviations=[[0.01, 0.3], [0.3, 0.01]])
    x = torch.tensor([[0.1, 0.6]], dtype=torch.float64)  # Euclid: node 1 (0.13 against 0.37)
    assert match(state, x, config=config).bmu.item() == 0  # in the feature each cares for: 0.1 against 0.2
    even = dataclasses.replace(state, relevances=torch.full_like(state.relevances, 0.5))
    assert match(even, x, config=config).bmu.item() == 1


def test_defect_02_labels_stay_with_their_samples():
    """Indices of the labelled subset were applied to the whole group: wrong samples were averaged and named."""
    config = settings("sssom", 1)
    state = nodes(config, [[0.2], [0.8]])
    samples = [[0.8], [0.2], [0.8], [0.21], [0.81]]
    after = show(state, config, samples, [-1, 2, -1, -1, 1])
    assert after.classes[:2].tolist() == [2, 1]
    whole = statistics_of(state, np.array(samples), np.array([-1, 2, -1, -1, 1]), config)
    counts = whole.sums["classes"].view(8, 3)
    assert counts[0].tolist() == [0, 0, 1] and counts[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("size", [1, 7, 25])
def test_defect_03_pruning_counts_samples_not_batches(size):
    """The counter counted batches against an age in samples, so nothing was ever removed."""
    config = settings("larfdssom", 1, pruning_period=50, min_win_share=0.1)
    state = nodes(config, [[0.2], [0.9]])
    seen = 0
    while seen < 50:
        assert state.num_nodes == 2 and state.clock == seen
        state = show(state, config, [[0.2]] * size)
        seen += size
    assert state.num_nodes == 1 and state.clock == 0 and not state.wins.any()


def test_defect_04_every_sample_is_a_win():
    """One win per group of samples was compared with a threshold per sample."""
    config = settings("larfdssom", 1)
    after = show(nodes(config, [[0.2], [0.9]]), config, [[0.2]] * 6 + [[0.9]] * 3)
    assert after.wins[:2].tolist() == [6, 3]


def test_defect_05_a_batch_moves_a_node_as_far_as_its_samples_would():
    """One move with the rate of one sample per group was up to batch-size times too weak."""
    config = settings("larfdssom", 1, bmu_rate=0.05)
    after = show(nodes(config, [[0.25]]), config, [[0.5]] * 20)
    assert after.prototypes[0, 0].item() == pytest.approx(0.25 + (1 - 0.95**20) * 0.25, rel=1e-12)


def test_defect_06_deviation_is_the_mean_distance_not_the_distance_of_the_mean():
    """A symmetric cluster looked perfectly tight, and relevances meant nothing."""
    config = settings("larfdssom", 2, bmu_rate=0.5, relevance_rate=1.0)
    after = show(nodes(config, [[0.5, 0.5]]), config, [[0.25, 0.5], [0.75, 0.5]])
    assert after.prototypes[0].tolist() == [0.5, 0.5]
    assert after.deviations[0].tolist() == pytest.approx([0.75 * 0.25, 0.0], abs=1e-12)
    assert after.relevances[0, 0] < 0.01 < 0.99 < after.relevances[0, 1]


@pytest.mark.parametrize("labels", [None, [1] * 6], ids=["unlabelled", "labelled"])
def test_defect_07_rejected_samples_become_as_few_nodes_as_cover_them(labels):
    """Insertion was all or none, at means where there may be no data, or one node for every reject."""
    config = settings("sssom", 1)
    rejected = [[5.0], [5.1], [7.0], [7.1], [5.05], [7.05]]
    after = show(nodes(config, [[0.0]], classes=[1]), config, rejected, labels)
    places = after.prototypes[after.alive, 0].tolist()
    assert len(places) == 3 and set(places) <= {0.0} | {x for (x,) in rejected}
    assert places[1] > 6.9 and 5.0 <= places[2] <= 5.1  # worst represented first


def test_defect_08_neighbours_are_within_minwd_times_root_d():
    """The squared norm was compared with minwd; another neighbourhood than the paper's."""
    config = settings("larfdssom", 4, connection_threshold=0.3)  # limit 0.6; squared norms would have passed 0.7
    state = nodes(config, [[0.1] * 4, [0.2] * 4, [0.3] * 4])
    relevances = state.relevances.clone()
    relevances[1, 0], relevances[2, 0] = 1 - 0.59, 1 - 0.61
    deviations = state.deviations.clone()
    from somcore.growth import reconnect  # the rule alone: no round leaves such relevances

    after = reconnect(dataclasses.replace(state, relevances=relevances, deviations=deviations), config)
    assert after.neighbours[:3, :3].tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_defect_09_many_wrong_samples_push_once_with_bounded_strength():
    """Each pushed in sequence, with (1 + e)ⁿ − 1: prototypes flew out of the data."""
    config = settings("sssom", 1, bmu_rate=0.5, push_rate=0.5)
    state = nodes(config, [[0.5], [0.625]], classes=[0, 1])
    after = show(state, config, [[0.5625 - 1 / 64]] * 40, [1] * 40)
    assert after.prototypes[0, 0].item() == pytest.approx(0.5 - (0.0625 - 1 / 64), abs=1e-9)
    assert after.wins[:2].tolist() == [0, 40]


def test_defect_10_growth_until_the_period_ends_then_one_whole_period_without(rng):
    """Convergence was at most one more epoch, and growth stopped only by chance."""
    config = settings("larfdssom", 2, pruning_period=100, num_rounds=7, activation_threshold=0.999, capacity=64)
    state = to_torch(empty_map(64, 2, 3))
    history = []
    while not state.finished:
        state = show(state, config, rng.random((20, 2)))
        history.append((state.round, state.growing, state.num_nodes))
    assert [growing for _, growing, _ in history] == [True] * 9 + [False] * 6  # 7 rounds, on to 10, then 5 more
    assert len({count for *_, count in history[9:14]}) == 1  # nobody was born in the convergence phase


@pytest.mark.parametrize("variant", GROWING)
def test_defect_11_edges_follow_the_relevances_of_every_round(variant, rng):
    """Edges were recomputed per winner, or refreshed only at insertions; both differ from one look per round."""
    config = settings(variant, 3, connection_threshold=0.3)
    m = random_map(rng, config, 3, 3, nodes=8)
    state = to_torch(m)
    changed = 0
    for _ in range(10):
        before = state.neighbours
        state = show(state, config, rng.random((16, 3)), rng.integers(-1, 3, 16))
        for name in ("relevances", "classes", "alive"):
            setattr(m, name, getattr(state, name).numpy())
        common.reconnect(m, config)
        assert np.array_equal(state.neighbours.numpy(), m.neighbours)
        changed += not torch.equal(before, state.neighbours)
    assert changed > 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_defect_12_numbers_that_are_none_fail_and_are_not_repaired(value):
    """NaN was replaced by 0 or 1 in distances, relevances and weights: faults stayed invisible."""
    samples = np.array([[0.1, 0.2], [0.3, value], [0.5, 0.6]])
    with pytest.raises(ValueError, match="NaN|infinity"):
        SSSOM().fit(samples, [0, 1, 1])


def test_defect_13_unsupervised_maps_run_and_take_both_float_types():
    """The unsupervised class could not run; float64 samples met a float32 state."""
    samples = np.array([[0.1, 0.2], [0.11, 0.21], [0.8, 0.9]], dtype=np.float32)
    single, double = (
        LARFDSSOM(activation_threshold=0.95).fit(samples.astype(kind)) for kind in (np.float32, np.float64)
    )
    assert single.state_.digest() == double.state_.digest()
    assert single.predict(samples).tolist()[0] == single.predict(samples).tolist()[1] != single.predict(samples)[2]


def test_defect_14_activation_is_one_over_one_plus_rho():
    """A constant of 1e-3 in the denominator; and no class or win may depend on group means."""
    config = settings("sssom", 2)
    state = nodes(config, [[0.25, 0.5]], deviations=[[0.1, 0.3]])
    shown = activations(state, torch.tensor([[0.25, 0.5], [0.25, 1.5]], dtype=torch.float64), config)[:, 0]
    weight = state.relevances[0]
    assert shown[0].item() == 1.0
    assert shown[1].item() == pytest.approx(1 / (1 + float(weight[1] / weight.sum())), rel=1e-14)


@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_defect_15_labelled_and_unlabelled_samples_see_the_same_map(variant, rng):
    """The labelled part came first and the rest saw the changed map: results depended on who shared a batch."""
    config = settings(variant, 3)
    state = to_torch(random_map(rng, config, 3, 3, nodes=6))
    samples, labels = blobs(rng, 30, 3, 3)
    labels[::2] = -1
    rows = np.arange(30)
    parts = {named: rows[(labels >= 0) == named] for named in (True, False)}
    stats = {
        named: statistics_of(state, samples[part], labels[part], config, positions=part)
        for named, part in parts.items()
    }
    mixed = statistics_of(state, samples, labels, config)
    assert stats[True].merge(stats[False]) == mixed == stats[False].merge(stats[True])
    halves = advance(state, stats[True].merge(stats[False]), config)
    half_way, rest = advance(state, stats[True], config), parts[False]
    in_turn = advance(half_way, statistics_of(half_way, samples[rest], labels[rest], config, positions=rest), config)
    assert halves.digest() == advance(state, mixed, config).digest() != in_turn.digest()


@pytest.mark.parametrize("variant", GROWING)
def test_defect_16_removed_nodes_leave_nothing_behind(variant, rng):
    """A node was erased while its connections were being walked; later reads went to freed memory."""
    config = settings(variant, 3, pruning_period=40, min_win_share=0.2, connection_threshold=1.0)
    state = to_torch(random_map(rng, config, 3, 3, nodes=8))
    assert state.neighbours.any()
    state = show(dataclasses.replace(state, wins=torch.zeros_like(state.wins), growing=False), config, [[0.5] * 3] * 40)
    dead = ~state.alive
    assert 1 <= state.num_nodes < 8
    assert not state.neighbours[dead].any() and not state.neighbours[:, dead].any()
    assert not state.prototypes[dead].any() and not state.deviations[dead].any() and not state.wins.any()


def test_defect_17_activation_and_error_are_not_whole_numbers():
    """The activation was stored in an int: 0 for everybody, everything counted as noise."""
    config = settings("sssom", 1, noise_filter=True)
    state = nodes(config, [[0.25]])
    found, rho = predict_nodes(state, torch.tensor([[0.35], [0.75]], dtype=torch.float64), config)
    assert found.tolist() == [0, -1] and rho.dtype == torch.float64
    assert rho.tolist() == pytest.approx([0.01, 0.25])


@pytest.mark.parametrize("variant", GROWING)
def test_defect_18_ties_go_to_the_lowest_index_and_runs_repeat(variant):
    """Nodes lived in a set ordered by memory address: no two runs were alike."""
    config = settings(variant, 2)
    state = nodes(config, [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]])
    assert match(state, torch.tensor([[0.5, 0.5]], dtype=torch.float64), config=config).bmu.item() == 0
    twice = [show(state, config, [[0.5, 0.5], [0.25, 0.75], [0.6, 0.2]], [0, 1, -1]).digest() for _ in range(2)]
    assert twice[0] == twice[1]


def test_defect_19_push_never_makes_a_deviation_negative():
    """δ went below zero, after which relevances were arbitrary."""
    config = settings("sssom", 2, bmu_rate=0.5, push_rate=0.5, relevance_rate=1.0)
    state = nodes(config, [[0.5, 0.5], [0.75, 0.5]], classes=[0, 1], deviations=[[0.01, 0.0], [0.01, 0.0]])
    after = show(state, config, [[0.6, 0.5]] * 9, [1] * 9)
    assert after.prototypes[0, 0] < 0.5  # pushed
    assert after.deviations.min() == 0.0 and after.deviations[0].tolist() == [0.0, 0.0]
