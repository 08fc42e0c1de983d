"""Defects 20 to 24 of the released programs (section 11): local thresholds, beginnings, rows, names and signs."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from somcore import MapConfig, initial_indices, predict_nodes, sample_indices
from somcore.relevance import logistic_relevances
from tests.oracle import empty_map
from tests.side_by_side import resolved, to_torch
from tests.unit.test_defects import nodes, settings, show


def test_defect_20_noise_is_what_lies_outside_the_box():
    """The noise test was inverted."""
    config = settings("altsssom", 1, noise_filter=True)
    state = nodes(config, [[0.5]], deviations=[[0.1]], updates=[500])
    samples = torch.tensor([[0.45], [0.5], [0.7]], dtype=torch.float64)
    assert predict_nodes(state, samples, config)[0].tolist() == [0, 0, -1]


def test_defect_20_a_clone_keeps_the_age_of_its_deviations_and_leaves_the_original_alone():
    """The counter was reset against copied deviations (box times 10 to 20), and the original was pushed."""
    config = settings("altsssom", 2, bmu_rate=0.25)
    state = nodes(config, [[0.5, 0.5]], classes=[0], deviations=[[0.1, 0.05]], updates=[40])
    after = show(state, config, [[0.6, 0.5]], [1])
    assert after.classes[:2].tolist() == [0, 1] and after.num_nodes == 2
    assert after.updates[:2].tolist() == [40, 41]
    assert torch.equal(after.prototypes[0], state.prototypes[0])
    assert torch.equal(after.deviations[0], state.deviations[0])
    assert torch.allclose(after.relevances[0], state.relevances[0], rtol=1e-12, atol=0)
    assert after.prototypes[1].tolist() == pytest.approx([0.525, 0.5], abs=1e-12)
    corrected = after.deviations[1] / (1 - 0.92**41)
    assert corrected.tolist() == pytest.approx([0.1, 0.046], rel=0.1)


def test_defect_20_newborns_are_judged_in_whole_samples_of_their_own_life():
    """Wins of a newborn were a truncated share of the period; here its age counts, in integers."""
    config = settings("altsssom", 1, pruning_period=100, min_win_share=0.03, bmu_rate=0.0)
    state = nodes(config, [[0.1]], deviations=[[0.01]], updates=[500])
    state = show(state, config, [[0.1]] * 60)
    state = show(state, config, [[0.9]])
    assert state.born[:2].tolist() == [0, 61] and state.wins[:2].tolist() == [60, 0]
    state = show(state, config, [[0.9]] * 2 + [[0.1]] * 37)  # 2 of 39: more than 3 % of its own life
    assert state.clock == 0 and state.num_nodes == 2


@pytest.mark.parametrize("size", [1, 5, 450])
def test_defect_20_a_sample_at_its_own_prototype_is_not_duplicated(size):
    """A sample equal to the prototype of an empty box was rejected, and a second node inserted at its place."""
    config = settings("altsssom", 2)
    state = to_torch(empty_map(8, 2, 3))
    for _ in range(20):
        state = show(state, config, [[0.3, 0.7]] * size, [0] * size)
    assert state.num_nodes == 1 and state.wins[0] >= 19 * size
    assert state.prototypes[0].tolist() == pytest.approx([0.3, 0.7], abs=1e-9)


def test_defect_20_a_constant_feature_rejects_nobody(rng):
    """Its deviation is zero for ever: the empty side of the box must still take the constant."""
    samples, labels = rng.random((60, 2)), rng.integers(0, 3, 60)
    counts = {}
    for constant in (0.0, 0.3):
        config = settings("altsssom", 3, capacity=40, relevance_slope=0.1)
        state = to_torch(empty_map(40, 3, 3))
        for r in range(20):
            rows = (np.arange(20) + 20 * r) % 60
            state = show(state, config, np.column_stack([samples[rows], np.full(20, constant)]), labels[rows])
        counts[constant] = (state.num_nodes, state.wins.tolist(), state.classes.tolist())
    assert counts[0.0] == counts[0.3]


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_defect_21_the_first_node_is_a_sample_and_has_won_nothing(variant):
    """The map started from a random vector, and inserting counted as winning."""
    config = settings(variant, 2)
    state = show(to_torch(empty_map(8, 2, 3)), config, [[0.125, 0.875]])
    assert state.num_nodes == 1 and state.prototypes[0].tolist() == [0.125, 0.875]
    assert state.wins[0] == 0 and state.clock == 1


@pytest.mark.parametrize("num_samples", [1, 7, 64, 1000])
def test_defect_22_every_row_is_shown_the_last_one_too(num_samples):
    """Rows were drawn by truncation; the last row of the table was never shown."""
    rows = sample_indices(3, 5, torch.arange(num_samples), num_samples)
    assert sorted(rows.tolist()) == list(range(num_samples))
    config = resolved("kohonen", num_samples, 1, 0, rows=1, columns=num_samples)
    assert sorted(initial_indices(config, num_samples).tolist()) == list(range(num_samples))
    drawn = sample_indices(0, 0, torch.arange(40 * num_samples), num_samples, "replacement")
    assert drawn.max() == num_samples - 1 and drawn.min() == 0


def test_defect_23_hyper_parameters_have_names_not_places():
    """Documentation and programs disagreed on the order of seed and push rate in parameter files."""
    with pytest.raises(TypeError):
        MapConfig("sssom", 10)
    kinds = {p.kind for p in inspect.signature(MapConfig).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(ValueError, match="push_rate"):
        MapConfig.from_dict({"variant": "sssom", "push_rat": 0.1})


def test_defect_24_a_small_deviation_gives_a_large_relevance():
    """The printed equation has the opposite sign."""
    relevances = logistic_relevances(torch.tensor([[0.0, 0.1, 0.4]], dtype=torch.float64), 0.1, 1e-6)[0]
    assert relevances[0] > relevances[1] > relevances[2]
    assert relevances[0] > 0.5 > relevances[2]


def test_defect_24_the_corrected_deviation_uses_the_deviation_just_updated():
    """The print divides the old deviation by the new correction."""
    config = settings("altsssom", 2, deviation_decay=0.5)
    state = nodes(config, [[0.5, 0.5]], deviations=[[0.05, 0.025]], updates=[1], classes=[0])
    after = show(state, config, [[0.55, 0.5]], [0])  # inside: the box is (0.1, 0.05) / ω
    assert after.wins[0] == 1 and after.updates[0] == 2
    new = torch.tensor([[0.5 * 0.05 + 0.5 * 0.05, 0.5 * 0.025]], dtype=torch.float64)
    expected = logistic_relevances(new / (1 - 0.25), config.relevance_slope, config.relevance_floor)
    assert torch.allclose(after.relevances[:1], expected, rtol=1e-9)


def test_defect_24_a_full_map_still_re_routes():
    """ "Accept only if N < N_max": the node of the right class must learn whether or not there is room."""
    config = settings("altsssom", 1, capacity=2, bmu_rate=0.25)
    state = nodes(config, [[0.5], [0.75]], classes=[0, 1], deviations=[[0.1], [0.1]], updates=[9, 9])
    after = show(state, config, [[0.5]], [1])
    assert after.prototypes[:, 0].tolist() == pytest.approx([0.5, 0.75 - 0.25 * 0.25], abs=1e-12)
    assert after.wins.tolist() == [0, 1]
