"""What a trained map says, and how good it is: torch against the definitions of the oracle."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from somcore import activations, class_probabilities, match, metrics, predict_classes, predict_nodes, subspace_members
from somcore.topology import adjacency, kernel, lattice_distances, lattice_positions, lattice_window, schedule
from tests.oracle import common, lattice
from tests.oracle import metrics as measure
from tests.oracle import prediction as say
from tests.side_by_side import blobs, hide_values, random_map, resolved, to_torch

C, D = 3, 4
GROWING = ("larfdssom", "sssom", "altsssom")


def a_map(variant: str, rng, nodes: int = 8, **changes):
    if variant in ("kohonen", "dssom"):
        config = resolved(variant, 50, D, 0, rows=3, columns=4, radius=1.0, **changes)
        m = random_map(rng, config, D, 0, nodes=0)
    else:
        values = {"capacity": 10, "connection_threshold": 0.3}
        if variant != "altsssom":
            values["activation_threshold"] = 0.97
        config = resolved(variant, 50, D, C, **values | changes)
        m = random_map(rng, config, D, C, nodes=nodes)
    samples, labels = blobs(rng, 50, D, C)
    near = m.prototypes[rng.choice(m.nodes(), 25)] + 0.03 * rng.standard_normal((25, D))
    samples[:25] = np.clip(near, 0, 1)
    return m, samples, labels, config


@pytest.mark.parametrize("noise_filter", [False, True], ids=["all", "filtered"])
@pytest.mark.parametrize("variant", ["dssom", *GROWING])
def test_nodes(variant, noise_filter, rng):
    changes = {"noise_filter": noise_filter} | ({"outlier_threshold": 0.985} if variant == "dssom" else {})
    m, samples, _, config = a_map(variant, rng, **changes)
    nodes, rho = predict_nodes(to_torch(m), torch.from_numpy(samples), config)
    expected = [say.predict_node(m, x, config) for x in samples]
    assert nodes.tolist() == expected
    assert (-1 in expected) == noise_filter
    least = [min(common.rho_of(m, x, j) for j in m.nodes()) for x in samples]
    assert np.allclose(rho.numpy(), least, rtol=1e-12)


@pytest.mark.parametrize("fallback", ["nearest", "threshold"])
@pytest.mark.parametrize("noise_filter", [False, True], ids=["all", "filtered"])
@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_classes(variant, noise_filter, fallback, rng):
    unclassed = 0
    for _ in range(6):
        m, samples, _, config = a_map(variant, rng, noise_filter=noise_filter, fallback=fallback)
        m.classes[m.nodes()[:3]] = -1
        predicted = predict_classes(to_torch(m), torch.from_numpy(samples), config).tolist()
        assert predicted == [say.predict_class(m, x, config) for x in samples]
        unclassed += predicted.count(-1)
    assert (unclassed > 0) == (noise_filter or fallback == "threshold")


@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_class_probabilities(variant, rng):
    m, samples, _, config = a_map(variant, rng)
    m.classes[m.classes == 2] = -1  # a class without a node
    shares = class_probabilities(to_torch(m), torch.from_numpy(samples), config).numpy()
    expected = [say.class_probabilities(m, x, config) for x in samples]
    assert np.allclose(shares, expected, rtol=1e-9, atol=1e-12)
    assert np.allclose(shares.sum(1), 1) and not shares[:, 2].any()


@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
def test_a_map_without_classes_predicts_none(variant, rng):
    m, samples, _, config = a_map(variant, rng)
    m.classes[:] = -1
    assert predict_classes(to_torch(m), torch.from_numpy(samples), config).tolist() == [-1] * 50


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_subspace_members_where_nothing_or_anything_left_ends_the_search(threshold, rng):
    m, samples, _, config = a_map("dssom", rng, residual_threshold=threshold)
    member = subspace_members(to_torch(m), torch.from_numpy(samples), config)
    expected = [sorted(set(say.subspace_nodes(m, x, config))) for x in samples]
    assert [row.nonzero().flatten().tolist() for row in member] == expected
    bmus = predict_nodes(to_torch(m), torch.from_numpy(samples), config)[0]
    assert member[torch.arange(len(samples)), bmus].all() and (threshold < 1 or int(member.sum()) == len(samples))


@pytest.mark.parametrize("variant", ["dssom", *GROWING])
def test_subspace_members(variant, rng):
    m, samples, _, config = a_map(variant, rng)
    member = subspace_members(to_torch(m), torch.from_numpy(samples), config)
    expected = [sorted(set(say.subspace_nodes(m, x, config))) for x in samples]
    assert [row.nonzero().flatten().tolist() for row in member] == expected
    assert any(len(nodes) > 1 for nodes in expected)


@pytest.mark.parametrize("variant", ["kohonen", "dssom", *GROWING])
def test_activations_and_errors_with_missing_values(variant, rng):
    m, samples, labels, config = a_map(variant, rng, missing="mask")
    samples = hide_values(rng, samples, 0.3)
    state = to_torch(m)
    ours = activations(state, torch.from_numpy(samples), config).numpy()
    theirs = [[1 / (1 + common.rho_of(m, x, j)) if m.alive[j] else 0.0 for j in range(m.capacity)] for x in samples]
    assert np.allclose(ours, theirs, rtol=1e-12)
    assert predict_nodes(state, torch.from_numpy(samples), config)[0].tolist() == np.argmax(theirs, 1).tolist()


@pytest.mark.parametrize("variant", ["kohonen", "dssom", *GROWING])
def test_quantization_and_topographic_error(variant, rng):
    m, samples, _, config = a_map(variant, rng)
    state = to_torch(m)

    def joined(i: int, j: int) -> bool:
        return bool(m.neighbours[i, j])

    if variant in ("kohonen", "dssom"):
        state = dataclasses.replace(state, neighbours=adjacency(3, 4, config.lattice))

        def joined(i: int, j: int) -> bool:
            return lattice.adjacent(i, j, 3, 4, config.lattice, False)

    halves = [metrics.map_quality(state, torch.from_numpy(part), config) for part in (samples[:7], samples[7:])]
    quality = halves[0].merge(halves[1])
    assert quality.quantization_error == pytest.approx(measure.quantization_error(m, samples), rel=1e-8)
    assert quality.topographic_error == measure.topographic_error(m, samples, joined)


def test_purity_and_clustering_accuracy(rng):
    for _ in range(10):
        nodes, labels = rng.integers(-1, 5, 40), rng.integers(0, 4, 40)
        table = metrics.contingency(torch.from_numpy(nodes), torch.from_numpy(labels), 5, 4)
        assert metrics.purity(table) == measure.purity(nodes, labels)
        assert metrics.clustering_accuracy(table) == measure.clustering_accuracy(nodes, labels)


@pytest.mark.parametrize("toroidal", [False, True], ids=["planar", "toroidal"])
@pytest.mark.parametrize("kind", ["rectangular", "hexagonal"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 5), (4, 3), (6, 6)])
def test_geometry(rows, columns, kind, toroidal, rng):
    if kind == "hexagonal" and toroidal and rows % 2:
        rows += 1
    size = range(rows * columns)
    places = lattice_positions(rows, columns, kind).tolist()
    # which coordinate comes first does not matter: only distances do
    mine = [lattice.place(j, columns, kind) for j in size]
    assert np.allclose(np.sort(np.array(places), axis=None), np.sort(np.array(mine), axis=None))
    gaps = [[lattice.lattice_distance(i, j, rows, columns, kind, toroidal) for j in size] for i in size]
    assert np.allclose(lattice_distances(rows, columns, kind, toroidal).numpy(), gaps, rtol=0, atol=1e-12)
    joined = [[lattice.adjacent(i, j, rows, columns, kind, toroidal) for j in size] for i in size]
    assert adjacency(rows, columns, kind, toroidal).tolist() == joined
    for radius in (0, 1, 2):
        near = dataclasses.make_dataclass("W", ["rows", "columns", "toroidal", "kernel_radius"])(
            rows, columns, toroidal, radius
        )
        window = [[lattice.in_window(i, j, near) for j in size] for i in size]
        assert lattice_window(rows, columns, radius, toroidal).tolist() == window
    for shape in ("gaussian", "bubble"):
        expected = [[lattice.kernel(shape, gap, 1.3) for gap in row] for row in gaps]
        assert np.allclose(kernel(shape, torch.tensor(gaps, dtype=torch.float64), 1.3).numpy(), expected, atol=1e-15)
    prototypes = rng.random((rows * columns, 3))
    m = common.empty_map(rows * columns, 3, 0)
    m.alive[:], m.prototypes = True, prototypes
    heights = metrics.u_matrix(torch.from_numpy(prototypes), torch.tensor(joined))
    assert np.allclose(heights.numpy(), measure.u_matrix(m, lambda i, j: joined[i][j]), rtol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "exponential", "inverse", "constant"])
def test_schedules_run_from_start_to_end_exactly(kind):
    for progress in np.linspace(0, 1, 7):
        expected = lattice.schedule(kind, 4.0, 0.3, progress)
        assert schedule(kind, 4.0, 0.3, float(progress)) == pytest.approx(expected, rel=1e-14)
    assert schedule(kind, 4.0, 0.3, 0.0) == 4.0
    assert schedule(kind, 4.0, 0.3, 1.0) == (4.0 if kind == "constant" else 0.3)


@pytest.mark.parametrize("offset", [0.0, 1000.0], ids=["centred", "far"])
@pytest.mark.parametrize("labelled", [False, True], ids=["bmu", "compatible"])
def test_near_ties_are_decided_exactly_and_ties_by_index(labelled, offset, rng):
    """Prototypes closer together than float32 can tell, some of them equal; dyadic, so that errors are exact."""
    config = resolved("sssom", 50, 8, C, capacity=300, activation_threshold=0.9)
    m = common.empty_map(300, 8, C)
    m.alive[:] = rng.random(300) < 0.9
    centre = rng.integers(0, 2**10, 8) / 2**11
    places = centre + rng.integers(-3, 4, (300, 8)) * 2.0**-24
    places[::7] = places[0]
    m.prototypes[m.alive] = offset + places[m.alive]
    m.classes[m.alive] = rng.integers(-1, C, 300)[m.alive]
    samples = offset + centre + rng.integers(-3, 4, (60, 8)) * 2.0**-24
    samples[30:] += rng.integers(0, 2**8, (30, 8)) / 2**10
    labels = rng.integers(-1, C, 60)
    found = match(to_torch(m), torch.from_numpy(samples), torch.from_numpy(labels), config=config)
    errors = ((samples[:, None] - m.prototypes) ** 2).sum(2) / 8
    if labelled:
        fits = (m.classes == labels[:, None]) | (m.classes == -1) | (labels[:, None] == -1)
        expected = np.where(m.alive & fits, errors, np.inf)
        assert found.compatible_bmu.tolist() == expected.argmin(1).tolist()
    else:
        expected = np.where(m.alive, errors, np.inf)
        assert found.bmu.tolist() == expected.argmin(1).tolist()
        assert np.array_equal(found.rho.numpy(), expected.min(1))
    assert ((expected == expected.min(1, keepdims=True)).sum(1) > 1).any()
