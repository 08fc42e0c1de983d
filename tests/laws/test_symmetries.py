"""What a map may not see: the numbers of its slots, whether a sample is repeated or weighted, a variant's name."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from somcore import MapState, advance
from tests.laws.cases import C, Case, cases, settings
from tests.side_by_side import ARRAYS, SCALARS, blobs, random_map, statistics_of, to_torch, torch_round


@given(cases())
def test_weight_m_is_m_equal_samples(case: Case):
    """Statistics of repeated samples stand for the same map to the bit, whatever is cut from the candidates."""
    repeated = np.repeat(np.arange(len(case)), case.weights)
    place = np.argsort(np.argsort(case.positions))  # keep the order of the samples, make room for the copies
    start = np.concatenate([[0], np.cumsum(case.weights[np.argsort(case.positions)])])[place]
    copy = np.concatenate([np.arange(w) for w in case.weights]).astype(np.int64)
    positions = start[repeated] + copy
    many = statistics_of(case.state, case.samples[repeated], case.labels[repeated], case.config, None, positions)
    weighted = case.statistics()
    assert advance(case.state, many, case.config).digest() == advance(case.state, weighted, case.config).digest()
    assert many.summary() == weighted.summary()


def nodes_of(state: MapState) -> list[tuple]:
    """The nodes without their slots: what each is, and which nodes (by what they are) it is joined with."""
    names = [name for name in ARRAYS if name not in ("alive", "neighbours")]
    alive = state.alive.nonzero().flatten().tolist()
    what = {j: tuple(tuple(np.atleast_1d(getattr(state, n)[j].numpy())) for n in names) for j in alive}
    joined = {j: sorted(what[i] for i in alive if state.neighbours[j, i]) for j in alive}
    return sorted((what[j], joined[j]) for j in alive)


@given(st.sampled_from(("larfdssom", "sssom", "altsssom")), st.integers(0, 2**32 - 1), st.booleans())
def test_permuting_slots_permutes_the_result(variant: str, seed: int, growing: bool):
    """Tie-free: floats at random, weights that are powers of two (no two sums of them are equal)."""
    rng = np.random.default_rng(seed)
    config = settings(variant, capacity=10, pruning_period=2**9, min_win_share=0.01)
    m = random_map(rng, config, 3, C, nodes=5)
    m.growing = growing
    state = to_torch(m)
    samples, labels = blobs(rng, 10, 3, C)
    labels = np.where(rng.random(10) < 0.7, rng.permutation(labels), -1)
    weights = 2 ** rng.permutation(10)
    order = torch.from_numpy(rng.permutation(10))
    moved = {name: getattr(state, name)[order] for name in ARRAYS}
    moved["neighbours"] = state.neighbours[order][:, order]
    permuted = dataclasses.replace(state, **moved)
    after, after_permuted = (
        advance(s, statistics_of(s, samples, labels, config, weights, np.arange(10)), config) for s in (state, permuted)
    )
    assert nodes_of(after) == nodes_of(after_permuted)
    assert all(getattr(after, name) == getattr(after_permuted, name) for name in SCALARS)
    survivors = state.alive & after.alive & ((after.born == state.born) | (after.clock == 0))
    assume(bool(survivors.any()))


@given(st.integers(0, 2**32 - 1))
def test_without_labels_sssom_is_larfdssom(seed: int):
    """The same digest through growth, pruning and convergence."""
    rng = np.random.default_rng(seed)
    samples, _ = blobs(rng, 30, 3, C)
    shared = {"pruning_period": 45, "num_rounds": 5}
    larf, semi = settings("larfdssom", **shared), settings("sssom", **shared)
    m = random_map(rng, larf, 3, C, nodes=int(rng.integers(0, 8)))
    a = b = to_torch(m)
    unlabelled = np.full(10, -1)
    for r in range(15):
        rows = (10 * r + np.arange(10)) % 30
        a = torch_round(a, samples[rows], None, larf)
        b = torch_round(b, samples[rows], unlabelled, semi)
        assert a.digest() == b.digest()
    assert a.finished


@given(cases(variants=("sssom", "altsssom"), max_weight=1, missing=False))
def test_larfdssom_sees_no_labels(case: Case):
    config = settings("larfdssom")
    blind, told = (
        statistics_of(case.state, case.samples, labels, config, None, case.positions) for labels in (None, case.labels)
    )
    assert advance(case.state, blind, config).digest() == advance(case.state, told, config).digest()
