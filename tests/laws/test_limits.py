"""The ends of the ranges: capacity, thresholds, relevances."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from somcore import match
from tests.laws.cases import C, Case, D, cases, settings
from tests.oracle import empty_map
from tests.side_by_side import blobs, random_map, statistics_of, to_torch, torch_round

sixteenths = hnp.arrays(np.int64, st.tuples(st.integers(1, 20), st.just(D)), elements=st.integers(0, 16)).map(
    lambda whole: whole / 16.0
)


@given(st.sampled_from(("larfdssom", "sssom", "altsssom")), st.integers(1, 6), st.integers(0, 2**32 - 1), st.booleans())
def test_capacity_is_never_exceeded(variant: str, capacity: int, seed: int, credit: bool):
    rng = np.random.default_rng(seed)
    config = settings(variant, capacity=capacity, pruning_period=30, min_win_share=0.1, newborn_credit=credit)
    state = to_torch(empty_map(capacity, D, C))
    samples, labels = blobs(rng, 60, D, C)
    for r in range(8):
        rows = (12 * r + np.arange(12)) % 60
        state = torch_round(state, samples[rows], np.where(rng.random(12) < 0.6, labels[rows], -1), config)
        assert 1 <= state.num_nodes <= capacity == state.capacity
        dead = ~state.alive
        assert not state.prototypes[dead].any() and not state.deviations[dead].any()
        assert bool((state.relevances[dead] == 1).all() and (state.classes[dead] == -1).all())
        assert not (state.wins[dead].any() or state.updates[dead].any() or state.born[dead].any())


@given(sixteenths)
def test_threshold_to_zero_leaves_one_node(samples: np.ndarray):
    config = settings("larfdssom", activation_threshold=1e-6, capacity=32, candidates_per_group=32)
    state = to_torch(empty_map(32, D, 0))
    for _ in range(3):
        state = torch_round(state, samples, None, config)
        assert state.num_nodes == 1


@given(sixteenths)
def test_threshold_to_one_makes_every_distinct_sample_a_node(samples: np.ndarray):
    config = settings("larfdssom", activation_threshold=1 - 1e-9, capacity=32, candidates_per_group=32)
    state = to_torch(empty_map(32, D, 0))
    assert statistics_of(state, samples, None, config).candidates.position.shape[0] == len(samples)
    state = torch_round(state, samples, None, config)
    found = state.prototypes[state.alive].numpy()
    assert np.array_equal(np.unique(found, axis=0), np.unique(samples, axis=0))
    assert state.num_nodes == len(np.unique(samples, axis=0))
    again = statistics_of(state, samples, None, config)
    assert again.tally("unmatched") == 0 and again.quantization_error_sum == 0.0


@given(cases(variants=("larfdssom", "sssom", "kohonen"), missing=False))
def test_relevances_of_one_are_plain_euclid(case: Case):
    state = dataclasses.replace(case.state, relevances=torch.ones_like(case.state.relevances))
    found = match(state, torch.from_numpy(case.samples), config=case.config)
    if not state.alive.any():
        assert bool((found.bmu == -1).all() and torch.isinf(found.rho).all())
        return
    gaps = case.samples[:, None] - state.prototypes.numpy()
    squared = np.where(state.alive.numpy(), (gaps**2).sum(2), np.inf)
    assert found.bmu.tolist() == squared.argmin(1).tolist()
    assert np.array_equal(found.rho.numpy(), squared.min(1) / D)


@given(st.integers(0, 2**32 - 1))
def test_differing_relevances_decide_and_are_not_their_mean(seed: int):
    """Plain distance times mean relevance cancels out of the activation: it picks the Euclidean node."""
    rng = np.random.default_rng(seed)
    config = settings("sssom", capacity=2)
    m = random_map(rng, config, D, C, nodes=2)
    m.prototypes[:] = [[0.5, 0.1, 0.5], [0.1, 0.5, 0.5]]
    far, near = rng.uniform(0.25, 0.35), rng.uniform(0.05, 0.15)
    x = np.array([[0.5 + near, 0.1 + far, 0.5]])  # near node 0 in feature 0, far in feature 1
    m.relevances[0] = [1.0, rng.uniform(0.001, 0.05), rng.uniform(0.5, 1.0)]
    m.relevances[1] = [1.0, 1.0, 1.0]
    state = to_torch(m)
    gaps = ((x - m.prototypes) ** 2) @ np.ones(D)
    swap = gaps[0] > gaps[1]
    if not swap:  # make node 0 the farther one by plain distance
        m.prototypes[1] = x[0] - [0.0, 0.9 * far, 0.0]
        state = to_torch(m)
    plain = ((x - m.prototypes) ** 2).sum(1)
    weighted = (m.relevances * (x - m.prototypes) ** 2).sum(1) / m.relevances.sum(1)
    found = match(state, torch.from_numpy(x), config=config)
    assert plain.argmin() == 1 and found.bmu.item() == weighted.argmin()
    assert np.isclose(found.rho.item(), weighted.min(), rtol=1e-12)
