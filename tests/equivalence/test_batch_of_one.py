"""A round of one sample is the online step of the textbook, for every variant.

The online steps are written from the step descriptions and know nothing of batches. On dyadic numbers (data,
prototypes, deviations and rates are short binary fractions) nothing is rounded, so equality is exact; elsewhere it
holds to the resolution of the fixed-point sums.
"""

from __future__ import annotations

import numpy as np
import pytest

from somcore import MapConfig
from tests import oracle
from tests.oracle import common
from tests.side_by_side import (
    FLOATS,
    blobs,
    difference,
    hide_labels,
    hide_values,
    random_map,
    resolved,
    start,
    to_torch,
    torch_round,
)

C, D, N = 3, 4, 60
GRID = 2.0**-10
DYADIC = {"bmu_rate": 2.0**-4, "neighbour_rate": 2.0**-5}


def settings(variant: str, **changes) -> MapConfig:
    values = {"capacity": 10, "connection_threshold": 0.3, "min_win_share": 0.03, "pruning_period": 50}
    if variant != "altsssom":
        values["activation_threshold"] = 0.96
    return resolved(variant, N, D, C, batch_size=1, num_rounds=120, **values | changes)


def dyadic(variant: str, **changes) -> MapConfig:
    if variant == "altsssom":
        return settings(variant, deviation_decay=1 - 2.0**-4, **DYADIC | changes)
    push = {"push_rate": 2.0**-5} if variant == "sssom" else {}
    return settings(variant, relevance_rate=2.0**-3, **DYADIC | push | changes)


def grid(values: np.ndarray) -> np.ndarray:
    return np.round(values / GRID) * GRID


@pytest.mark.parametrize("missing", [0.0, 0.3], ids=["complete", "missing"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_to_the_bit_on_dyadic_numbers(variant, missing, rng):
    """One step from many maps: growing and frozen, with room and full, in and at the end of a period."""
    reached = set()
    for trial in range(120):
        full, frozen, ending = trial % 3 == 0, trial % 5 == 0, trial % 4 == 0
        period = 41 if ending else 50
        config = dyadic(variant, missing="mask" if missing else "error", pruning_period=period, min_win_share=0.1)
        m = random_map(rng, config, D, C, nodes=10 if full else rng.integers(0, 10), step=GRID)
        m.growing = not frozen
        near = m.nodes() and trial % 2
        place = m.prototypes[rng.choice(m.nodes())] if near else rng.random(D)
        x = grid(np.clip(place + 0.05 * rng.standard_normal(D), 0, 1))[None]
        x = hide_values(rng, x, missing)
        y = np.array([rng.integers(-1, C)])
        expected = oracle.online_step(m, x[0], int(y[0]), config)
        state = torch_round(to_torch(m), x, y, config)
        difference(state, expected)
        for name in ("prototypes", "deviations"):
            assert np.array_equal(getattr(state, name).numpy(), getattr(expected, name)), name
        assert np.allclose(state.relevances.numpy(), expected.relevances, rtol=2.0**-46, atol=0)
        reached.add((len(expected.nodes()) > len(m.nodes()), expected.wins.sum() > m.wins.sum(), ending))
    assert len(reached) >= 4


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["unlabelled", "partly-labelled", "labelled"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_a_whole_training(variant, share, rng):
    samples, labels = blobs(rng, N, D, C)
    labels = hide_labels(rng, labels, share)
    config = settings(variant)
    m = start(config, D, C)
    state = to_torch(m)
    while not m.finished:
        row = [m.round % N]
        m = oracle.online_step(m, samples[row[0]], labels[row[0]], config)
        state = torch_round(state, samples[row], labels[row], config)
        assert difference(state, m) < 1e-9
    assert m.round > 120 and m.alive.any()


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_the_oracle_agrees_with_itself(variant, rng):
    """Its superstep over one sample against its online step: two texts of one rule."""
    samples, labels = blobs(rng, N, D, C)
    samples, labels = hide_values(rng, samples, 0.15), hide_labels(rng, labels, 0.7)
    config = settings(variant, missing="mask")
    m = start(config, D, C)
    for i in range(240):
        stepped = oracle.online_step(m, samples[i % N], labels[i % N], config)
        m = oracle.superstep(m, samples[[i % N]], labels[[i % N]], config)
        for name in ("alive", "classes", "wins", "updates", "born", "neighbours"):
            assert np.array_equal(getattr(stepped, name), getattr(m, name)), name
        assert all(np.allclose(getattr(stepped, name), getattr(m, name), rtol=0, atol=1e-13) for name in FLOATS)


@pytest.mark.parametrize("lattice", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("variant", ["kohonen", "dssom"])
def test_lattices(variant, lattice, rng):
    config = resolved(
        variant, 50, 3, 0, rows=4, columns=3, lattice=lattice, toroidal=True, algorithm="online", num_rounds=150,
        radius=1.5, rate=0.3, **({"relevance_rate": 0.1} if variant == "dssom" else {}),
    )  # fmt: skip
    samples, _ = blobs(rng, 50, 3, 2)
    m = random_map(rng, config, 3, 0, nodes=0)
    state = to_torch(m)
    while not m.finished:
        row = [m.round % 50]
        m = oracle.lattice_online_step(m, samples[row[0]], config)
        state = torch_round(state, samples[row], None, config)
        assert difference(state, m) < 1e-9


@pytest.mark.parametrize("variant", ["kohonen", "dssom"])
def test_lattices_to_the_bit_on_dyadic_numbers(variant, rng):
    """Bubble kernel and constant dyadic rates: one step moves a node by exactly rate times gap."""
    shared = {"rows": 4, "columns": 3, "kernel": "bubble", "algorithm": "online", "num_rounds": 1}
    if variant == "kohonen":
        shared |= {"rate": 0.25, "rate_decay": "constant", "radius": 1.2, "radius_decay": "constant"}
    else:
        shared |= {"rate": 0.25, "rate_decay_constant": 1.0, "radius": 2.0, "relevance_rate": 0.125}
    config = resolved(variant, 1, 3, 0, **shared)
    for _ in range(40):
        m = random_map(rng, config, 3, 0, nodes=0, step=GRID)
        x = grid(rng.random((1, 3)))
        expected = oracle.lattice_online_step(m, x[0], config)
        state = torch_round(to_torch(m), x, None, config)
        difference(state, expected)
        assert all(np.array_equal(getattr(state, name).numpy(), getattr(expected, name)) for name in FLOATS[::2])
        assert np.allclose(state.relevances.numpy(), expected.relevances, rtol=2.0**-50, atol=0)


def test_common_online_equals_by_hand():
    """SS-SOM, one feature, by hand: x = 1 labelled 1, BMU 0 of class 0 at 1.25, own node 1 of class 1 at 0.75."""
    config = dyadic("sssom", activation_threshold=0.5, pruning_period=1000)
    m = oracle.empty_map(2, 1, 2)
    m.alive[:] = True
    m.prototypes[:] = [[1.125], [0.75]]
    m.classes[:] = [0, 1]
    common.reconnect(m, config)
    after = oracle.online_step(m, np.array([1.0]), 1, config)
    assert after.prototypes[:, 0].tolist() == [1.125 + 2**-5 * 0.125, 0.75 + 2**-4 * 0.25]
    assert after.deviations[:, 0].tolist() == [0.0, 2**-4 * 2**-3 * 0.25]
    assert after.wins.tolist() == [0, 1] and after.classes.tolist() == [0, 1]
