"""The torch maps follow the oracle, round by round, through growth, prunings, conflicts and convergence.

Everything discrete is equal; floats agree to the resolution of the fixed-point sums.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from somcore import MapConfig
from tests import oracle
from tests.oracle.superstep import collect
from tests.side_by_side import (
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

TOLERANCE = 1e-9
C, D, N = 3, 4, 96


def settings(variant: str, **changes) -> MapConfig:
    """Small capacity and short periods, so that everything happens within a few dozen rounds."""
    values = {
        "capacity": 14,
        "connection_threshold": 0.3,
        "min_win_share": 0.03,
        "pruning_period": 200,
        "bmu_rate": 0.08,
        "candidates_per_group": 3,
        "batch_size": 24,
        "num_rounds": 24,
    }
    if variant != "altsssom":
        values["activation_threshold"] = 0.97
    return resolved(variant, N, D, C, **values | changes)


def events(m: oracle.Map, after: oracle.Map, samples, labels, config, weights) -> Counter:
    """What happened in a round: a scenario that does not reach a rule says nothing about it."""
    stats = collect(m, samples, labels, config, weights)
    claims = Counter(j for (j, y), count in stats.class_count.items() if count and m.classes[j] < 0)
    return Counter(
        pulls=len(stats.accepted),
        neighbours=len(stats.neighbour),
        pushes=len(stats.pushed),
        conflicts=sum(count > 1 for count in claims.values()),
        unseen=sum(m.classes[j] >= 0 for j, _ in stats.contested),
        inserts=int((after.alive & ~m.alive).sum()),
        deaths=int((m.alive & ~after.alive).sum()),
        full=int(m.alive.all()),
        frozen=int(not m.growing),
        finished=int(after.finished),
    )


def run(m: oracle.Map, samples, labels, config, weights=None, rounds: int = 60) -> Counter:
    """Both maps over the same rounds, up to convergence; returns what happened."""
    state, seen, size = to_torch(m), Counter(), config.batch_size
    for r in range(rounds):
        rows = (r * size + np.arange(size)) % len(samples)
        w = None if weights is None else weights[rows]
        after = oracle.train_round(m, samples[rows], labels[rows], config, w)
        state = torch_round(state, samples[rows], labels[rows], config, w)
        seen += events(m, after, samples[rows], labels[rows], config, w)
        m = after
        assert difference(state, m) < TOLERANCE
        if m.finished:
            break
    assert m.round >= 30
    return seen


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0], ids=["unlabelled", "partly-labelled", "labelled"])
@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_growing_map_from_nothing_to_convergence(variant, share, rng):
    samples, labels = blobs(rng, N, D, C)
    labels = hide_labels(rng, labels, share)
    config = settings(variant)
    seen = run(start(config, D, C), samples, labels, config)
    expected = {"pulls", "neighbours", "inserts", "deaths", "frozen", "finished"}
    assert expected <= {name for name, count in (+seen).items() if count}


@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_conflicts_pushes_and_clones_on_random_maps(variant, rng):
    """Maps with nodes of every class and of none, samples of one place but several classes."""
    seen = Counter()
    for _ in range(3):
        samples, labels = blobs(rng, N, D, C)
        labels = hide_labels(rng, rng.permutation(labels), 0.7)
        config = settings(variant, capacity=18, pruning_period=400, num_rounds=30)
        seen += run(random_map(rng, config, D, C, nodes=9), samples, labels, config, rounds=35)
    expected = {"pulls", "conflicts", "inserts", "deaths"} | ({"pushes"} if variant == "sssom" else set())
    assert expected <= {name for name, count in seen.items() if count}


def test_unseen_classes_clone_the_bmu(rng):
    """ALTSS-SOM: a map that knows one class of five meets the others."""
    seen = Counter()
    for _ in range(3):
        samples, labels = blobs(rng, N, D, 5)
        config = settings("altsssom", capacity=12)
        m = random_map(rng, config, D, 5, nodes=4)
        m.classes[m.alive] = 0
        seen += run(m, samples, labels, config, rounds=32)
    assert seen["unseen"] > 3


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_at_capacity(variant, rng):
    """A full map: nothing is inserted, samples are ignored, conflicts drop their further classes."""
    samples, labels = blobs(rng, N, D, C)
    labels = hide_labels(rng, labels, 0.6)
    config = settings(variant, capacity=4, min_win_share=0.01)
    seen = run(random_map(rng, config, D, C, nodes=4), samples, labels, config)
    assert seen["full"] >= 20


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_scarce_slots_go_to_the_first_in_the_order(variant, rng):
    """More candidates and clones than free slots, again and again."""
    samples, labels = blobs(rng, N, D, C)
    labels = hide_labels(rng, rng.permutation(labels), 0.6)
    config = settings(variant, capacity=6, min_win_share=0.1, pruning_period=48, num_rounds=36)
    seen = run(random_map(rng, config, D, C, nodes=3), samples, labels, config)
    assert seen["deaths"] > 2 and seen["inserts"] > 2


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_weights(variant, rng):
    samples, labels = blobs(rng, N, D, C)
    labels = hide_labels(rng, labels, 0.6)
    weights = rng.integers(0, 4, N)
    config = settings(variant, pruning_period=300)
    run(start(config, D, C), samples, labels, config, weights)


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
def test_missing_values(variant, rng):
    samples, labels = blobs(rng, N, D, C)
    samples, labels = hide_values(rng, samples, 0.25), hide_labels(rng, labels, 0.6)
    config = settings(variant, missing="mask")
    run(start(config, D, C), samples, labels, config)


@pytest.mark.parametrize("variant", ["larfdssom", "sssom", "altsssom"])
@pytest.mark.parametrize("credit", [False, True], ids=["by-period", "by-lifetime"])
def test_newborn_credit_and_sharp_relevances(variant, credit, rng):
    samples, labels = blobs(rng, N, D, C)
    config = settings(variant, newborn_credit=credit, relevance_slope=0.03, relevance_floor=0.05)
    run(random_map(rng, config, D, C, nodes=8), samples, labels, config)


# ---------------------------------------------------------------- lattices

LATTICES = [
    (lattice, toroidal, kernel)
    for lattice in ("rectangular", "hexagonal")
    for toroidal in (False, True)
    for kernel in ("gaussian", "bubble")
]


def run_lattice(config: MapConfig, rng, missing: float = 0.0, weights=None) -> None:
    samples, _ = blobs(rng, 40, 3, 2)
    if missing:
        samples = hide_values(rng, samples, missing)
    m = random_map(rng, config, 3, 0, nodes=0)
    state, size = to_torch(m), config.batch_size
    unlabelled = np.full(40, -1)
    while not m.finished:
        rows = (m.round * size + np.arange(size)) % 40
        w = None if weights is None else weights[rows]
        m = oracle.lattice_superstep(m, samples[rows], config, w)
        state = torch_round(state, samples[rows], unlabelled[rows], config, w)
        assert difference(state, m) < TOLERANCE
    assert m.round == config.num_rounds >= 30


@pytest.mark.parametrize(("lattice", "toroidal", "kernel"), LATTICES)
@pytest.mark.parametrize("algorithm", ["batch", "superstep", "online"])
def test_kohonen(algorithm, lattice, toroidal, kernel, rng):
    config = resolved(
        "kohonen", 40, 3, 0, rows=4, columns=3, lattice=lattice, toroidal=toroidal, kernel=kernel, radius=1.2,
        algorithm=algorithm, batch_size=10, epochs=40, num_rounds=40,
    )  # fmt: skip
    run_lattice(config, rng)


@pytest.mark.parametrize("rate_decay", ["linear", "exponential", "inverse", "constant"])
@pytest.mark.parametrize("radius_decay", ["linear", "exponential", "inverse", "constant"])
def test_kohonen_schedules(rate_decay, radius_decay, rng):
    config = resolved(
        "kohonen", 40, 3, 0, rows=3, columns=3, rate_decay=rate_decay, radius_decay=radius_decay, radius=1.5,
        algorithm="superstep", batch_size=5, num_rounds=30,
    )  # fmt: skip
    run_lattice(config, rng)


@pytest.mark.parametrize(("lattice", "toroidal", "kernel"), LATTICES)
@pytest.mark.parametrize("algorithm", ["superstep", "online"])
def test_dssom(algorithm, lattice, toroidal, kernel, rng):
    config = resolved(
        "dssom", 40, 3, 0, rows=4, columns=3, lattice=lattice, toroidal=toroidal, kernel=kernel, radius=0.8,
        rate=0.2, relevance_rate=0.1, algorithm=algorithm, batch_size=10, num_rounds=35,
    )  # fmt: skip
    run_lattice(config, rng)


@pytest.mark.parametrize("radius", [0, 2])
def test_dssom_window(radius, rng):
    config = resolved(
        "dssom", 40, 3, 0, rows=4, columns=5, kernel_radius=radius, radius=1.5, rate=0.1, relevance_rate=0.1,
        batch_size=10, num_rounds=30, relevance_floor=0.01,
    )  # fmt: skip
    run_lattice(config, rng)


@pytest.mark.parametrize("variant", ["kohonen", "dssom"])
@pytest.mark.parametrize("algorithm", ["batch", "superstep"])
def test_lattices_with_weights_and_missing_values(variant, algorithm, rng):
    if (variant, algorithm) == ("dssom", "batch"):
        algorithm = "online"
    config = resolved(
        variant, 40, 3, 0, rows=4, columns=3, radius=1.2, algorithm=algorithm, batch_size=10, epochs=30,
        missing="mask", num_rounds=30,
    )  # fmt: skip
    run_lattice(config, rng, missing=0.25, weights=rng.integers(0, 4, 40))


def test_a_pruned_bmu_accepts_nobody_through_the_clone_in_its_slot():
    """Node 0 is removed, a clone of node 1 gets its slot: candidates of node 0 are not inside *its* box."""
    config = settings("altsssom", capacity=4, pruning_period=4, min_win_share=0.1)
    m = oracle.empty_map(4, 1, 3)
    m.alive[:2], m.classes[:2], m.updates[:2], m.wins[:2] = True, [0, 1], 50, [0, 99]
    m.prototypes[:2], m.deviations[:2] = [[0.2], [0.6]], [[0.01], [0.35]]
    samples, labels = np.array([[0.35], [0.36], [0.61], [0.6]]), np.array([-1, -1, 2, 1])
    expected = oracle.superstep(m, samples, labels, config)
    assert expected.classes.tolist() == [2, 1, -1, -1] and expected.prototypes[2, 0] == 0.36
    state = torch_round(to_torch(m), samples, labels, config)
    assert difference(state, expected) < TOLERANCE
