"""What a round may not depend on, and what it must be to the last bit.

One round on dyadic inputs (data, prototypes, deviations multiples of 2^-20): all sums are exact, so torch and the
oracle divide the same integers. Tiles: any cut, any order of merging, any wire gives the same statistics and map.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from somcore import BatchStatistics, MapConfig, advance, empty_statistics
from tests import oracle
from tests.oracle.sums import Sums
from tests.oracle.superstep import collect
from tests.side_by_side import (
    FLOATS,
    SCALE,
    blobs,
    difference,
    hide_labels,
    hide_values,
    random_map,
    resolved,
    statistics_of,
    to_torch,
    torch_round,
)

C, D, N = 3, 4, 40
GRID = 2.0**-20


def settings(variant: str, **changes) -> MapConfig:
    if variant in ("kohonen", "dssom"):
        algorithm = {"algorithm": "superstep"}
        return resolved(variant, N, D, 0, rows=4, columns=3, radius=1.2, num_rounds=3, **algorithm | changes)
    values = {"capacity": 12, "connection_threshold": 0.3, "min_win_share": 0.1, "candidates_per_group": 3}
    if variant != "altsssom":
        values["activation_threshold"] = 0.95
    return resolved(variant, N, D, C, **values | changes)


def a_round(variant: str, rng, missing: float = 0.0, **changes):
    """A map in the middle of its life and N samples."""
    config = settings(variant, missing="mask" if missing else "error", **changes)
    m = random_map(rng, config, D, C if "rows" not in config.fields_of(variant) else 0, nodes=7, step=GRID)
    samples, labels = blobs(rng, N, D, C)
    samples = hide_values(rng, np.round(samples / GRID) * GRID, missing)
    return m, samples, hide_labels(rng, labels, 0.6), config


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom", "kohonen", "dssom"])
def test_dyadic_round(variant, missing, rng):
    """Equal sums; what is left is the last bit of division, exp and log."""
    for trial in range(8):
        changes = {} if "rows" in MapConfig.fields_of(variant) else {"pruning_period": 70 if trial % 2 else 10_000}
        m, samples, labels, config = a_round(variant, rng, missing, **changes)
        state = torch_round(to_torch(m), samples, labels, config)
        expected = oracle.train_round(m, samples, labels, config)
        assert difference(state, expected) < 1e-14
        for name, digits in zip(FLOATS, (50, 46, 50), strict=True):
            assert np.allclose(getattr(state, name).numpy(), getattr(expected, name), rtol=2.0**-digits, atol=0)


ROLES = {"pull": "accepted", "neighbour": "neighbour", "push": "pushed", "relevance": "relevance_only"}


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_dyadic_sums(variant, missing, rng):
    """What is added up is the same to the bit: every count and sum of every role, candidates in their order."""
    for _ in range(8):
        m, samples, labels, config = a_round(variant, rng, missing)
        ours = statistics_of(to_torch(m), samples, labels, config)
        theirs = collect(m, samples, labels, config)
        for name, role in ROLES.items():
            if name not in ours.sums:
                assert not getattr(theirs, role)
                continue
            number, feature_sum, deviation_sum = (part.numpy() for part in ours.split(ours.sums[name]))
            for j in range(m.capacity):
                expected = getattr(theirs, role).get(j, Sums(D))
                assert np.array_equal(np.broadcast_to(number[j], D), expected.seen)
                assert np.array_equal(feature_sum[j], expected.feature_sum)
                assert np.array_equal(deviation_sum[j], expected.deviation_sum)
        assert ours.sums["wins"].tolist() == [theirs.win_count[j] for j in range(m.capacity)]
        proposed = [(c.position, -1 if c.bmu is None else c.bmu, c.y) for c in theirs.candidates]
        kept = ours.candidates
        assert list(zip(kept.position.tolist(), kept.bmu.tolist(), kept.label.tolist(), strict=True)) == proposed
        tallies = [ours.tally(name) for name in ("samples", "labelled", "unmatched")]
        assert tallies == [theirs.sample_count, theirs.labelled_count, theirs.unmatched_count]
        assert ours.quantization_error_sum == pytest.approx(sum(theirs.error_sum.values()), rel=1e-9)


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom", "kohonen", "dssom"])
def test_any_cut_into_tiles_in_any_order(variant, missing, rng):
    m, samples, labels, config = a_round(variant, rng, missing)
    state, weights = to_torch(m), rng.integers(1, 4, N)
    whole = statistics_of(state, samples, labels, config, weights)
    target = advance(state, whole, config).digest()
    for _ in range(6):
        inner = np.sort(rng.choice(np.arange(1, N), rng.integers(1, 6), replace=False))
        pieces = np.split(rng.permutation(N), inner)
        parts = [statistics_of(state, samples[p], labels[p], config, weights[p], p) for p in pieces]
        merged = empty_statistics(state, config, SCALE)
        for part in parts:
            merged = merged.merge(part)
        assert merged == whole
        assert advance(state, merged, config).digest() == target


@pytest.mark.parametrize("scale", [SCALE, None], ids=["exact", "fast"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom", "kohonen", "dssom"])
def test_over_the_wire_in_any_row_order(variant, scale, rng):
    """Tables are added, rows are concatenated in any order: what an all-reduce does."""
    m, samples, labels, config = a_round(variant, rng)
    state = to_torch(m)
    whole = statistics_of(state, samples, labels, config, scale=scale)
    rows = np.arange(N)
    parts = [statistics_of(state, samples[p], labels[p], config, None, p, scale) for p in (rows[::2], rows[1::2])]
    a, b = (part.wire_sums() for part in parts)
    dtype = torch.int64 if scale is not None else torch.float64
    assert all(table.dtype == dtype for table in (*a.values(), *b.values()))
    wire = torch.cat([part.packed_rows() for part in reversed(parts)])
    assert wire.dtype == torch.int64
    wire = wire[torch.from_numpy(rng.permutation(len(wire)))]
    sums = {name: table + b[name] for name, table in a.items()}
    received = BatchStatistics.joined(empty_statistics(state, config, scale), sums, wire)
    if scale is None:
        a, b = advance(state, received, config), advance(state, whole, config)
        assert torch.allclose(a.prototypes, b.prototypes, rtol=0, atol=1e-12)
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("alive", "classes", "wins", "born"))
    else:
        assert received == whole
        assert advance(state, received, config).digest() == advance(state, whole, config).digest()


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom", "kohonen", "dssom"])
def test_half_the_data_gives_another_map(variant, rng):
    """So that a lost shard is noticed."""
    m, samples, labels, config = a_round(variant, rng)
    state = to_torch(m)
    whole, half = (statistics_of(state, samples[:n], labels[:n], config) for n in (N, N // 2))
    assert half != whole
    assert advance(state, half, config).digest() != advance(state, whole, config).digest()
