"""Measures against scikit-learn, all matchings there are, and values counted by hand."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness as reference_trustworthiness

from somcore import metrics
from somcore.config import MapConfig
from somcore.state import MapState, blank_state
from somcore.topology import adjacency, lattice_positions


def _groups(rng, size: int = 300, num_nodes: int = 9, num_classes: int = 4):
    classes = rng.integers(0, num_classes, size)
    nodes = np.where(rng.random(size) < 0.6, classes * 2, rng.integers(0, num_nodes, size))
    return torch.tensor(nodes), torch.tensor(classes)


def _map(prototypes, neighbours=None) -> MapState:
    blank = blank_state(len(prototypes), len(prototypes[0]), 0)
    tensors = blank.to_tensors() | {
        "prototypes": torch.tensor(prototypes, dtype=torch.float64),
        "alive": torch.ones(len(prototypes), dtype=torch.bool),
    }
    if neighbours is not None:
        tensors["neighbours"] = neighbours
    return MapState.from_tensors(tensors)


def test_scores_equal_scikit_learn(rng):
    nodes, classes = _groups(rng)
    table = metrics.contingency(nodes, classes, 9, 4)
    assert metrics.normalized_mutual_information(table) == pytest.approx(
        reference.normalized_mutual_info_score(classes, nodes), abs=1e-12
    )
    assert metrics.adjusted_rand_index(table) == pytest.approx(reference.adjusted_rand_score(classes, nodes), abs=1e-12)
    counts = table[:-1].numpy()
    assert metrics.purity(table) == counts.max(axis=1).sum() / 300


def test_noise_is_an_error_and_unlabelled_samples_are_not_counted():
    nodes = torch.tensor([0, 0, 1, -1, -1, 1])
    classes = torch.tensor([0, 0, 1, 1, 1, -1])
    table = metrics.contingency(nodes, classes, 3, 2)
    assert table.tolist() == [[2, 0], [0, 1], [0, 0], [0, 2]]
    assert metrics.purity(table) == metrics.clustering_accuracy(table) == 3 / 5
    assert metrics.normalized_mutual_information(table) == pytest.approx(
        reference.normalized_mutual_info_score(classes[:5], nodes[:5])
    )


def test_tables_add_up(rng):
    nodes, classes = _groups(rng)
    whole = metrics.contingency(nodes, classes, 9, 4)
    parts = metrics.contingency(nodes[:100], classes[:100], 9, 4) + metrics.contingency(
        nodes[100:], classes[100:], 9, 4
    )
    assert torch.equal(whole, parts)


def test_degenerate_tables():
    one = torch.tensor([[5], [0]])
    assert metrics.normalized_mutual_information(one) == metrics.adjusted_rand_index(one) == 1.0
    empty = torch.zeros(3, 2, dtype=torch.int64)
    measures = ("accuracy", "purity", "clustering_accuracy", "normalized_mutual_information")
    assert all(math.isnan(getattr(metrics, name)(empty)) for name in (*measures, "adjusted_rand_index"))
    apart = torch.tensor([[2, 0], [0, 3], [0, 0]])
    assert metrics.normalized_mutual_information(apart) == pytest.approx(1.0)
    assert metrics.adjusted_rand_index(apart) == 1.0


@pytest.mark.parametrize("num_nodes", [1, 3, 5])
def test_clustering_accuracy_is_that_of_the_best_of_all_matchings(rng, num_nodes):
    table = torch.from_numpy(rng.integers(0, 9, (num_nodes + 1, 4)))
    slots = [*range(num_nodes), *[num_nodes] * 4]  # a class may have no node: it gets the last row, worth nothing
    gain = torch.cat([table[:-1], torch.zeros(1, 4, dtype=torch.int64)])
    best = max(sum(int(gain[node, c]) for c, node in enumerate(nodes)) for nodes in set(permutations(slots, 4)))
    assert metrics.clustering_accuracy(table) == best / int(table.sum())


def test_confusion_counts_no_class_as_an_error():
    classes, predicted = torch.tensor([0, 0, 1, 1, -1]), torch.tensor([0, 1, 1, -1, 0])
    table = metrics.confusion(classes, predicted, 2)
    assert table.tolist() == [[1, 1, 0], [0, 1, 1]]
    assert metrics.accuracy(table) == 0.5


def test_balanced_accuracy_weighs_classes_alike(rng):
    classes, predicted = torch.from_numpy(rng.integers(0, 4, (2, 300)))
    classes[classes == 3] = 1  # a class without samples
    table = metrics.confusion(classes, predicted, 4)
    assert metrics.balanced_accuracy(table) == pytest.approx(
        reference.recall_score(classes, predicted, labels=[0, 1, 2], average="macro")
    )
    assert math.isnan(metrics.balanced_accuracy(torch.zeros(2, 3, dtype=torch.int64)))


def test_quality_of_a_line_of_nodes():
    config = MapConfig(variant="kohonen", rows=1, columns=3, lattice="rectangular")
    state = _map([[0.0], [10.0], [1.0]], neighbours=adjacency(1, 3, "rectangular"))
    samples = torch.tensor([[0.25], [9.0], [1.0]])
    quality = metrics.map_quality(state, samples, config)
    assert quality.sample_count == 3 and quality.torn_count == 2  # 0.25 -> nodes 0, 2; 1.0 -> nodes 2, 0
    assert quality.quantization_error == pytest.approx((0.25 + 1.0) / 3)
    assert quality.topographic_error == 2 / 3
    parts = [metrics.map_quality(state, samples[i : i + 1], config) for i in range(3)]
    assert parts[2].merge(parts[0]).merge(parts[1]) == quality
    assert metrics.MapQuality().merge(quality) == quality
    assert math.isnan(metrics.MapQuality().quantization_error)


@pytest.mark.parametrize("far", [3e9, 1e25, 1e40, 1e120, 1e308])
def test_quality_of_samples_far_outside_the_map(far):
    """Sums stay exact and merge in any order; distances whose squares overflow count as very far, not as an error."""
    config = MapConfig(variant="kohonen", rows=1, columns=3, lattice="rectangular")
    state = _map([[0.0], [0.5], [1.0]], neighbours=adjacency(1, 3, "rectangular"))
    samples = torch.tensor([[0.25], [far], [0.75]], dtype=torch.float64)
    quality = metrics.map_quality(state, samples, config)
    assert math.isfinite(quality.quantization_error)
    assert quality.quantization_error >= min(far, 1e288) / 3 * (1 - 1e-6)
    if far < 1e150:
        assert quality.quantization_error == pytest.approx(far / 3, rel=1e-9)
    parts = [metrics.map_quality(state, samples[i : i + 1], config) for i in range(3)]
    assert parts[2].merge(parts[0]).merge(parts[1]) == quality


def test_quality_of_a_map_with_nan_is_refused():
    """NaN as a whole number is -2^63: it gave an error of -2147483648."""
    config = MapConfig(variant="larfdssom", activation_threshold=0.9)
    tensors = _map([[0.5, 0.5]]).to_tensors() | {"relevances": torch.tensor([[math.nan, 1.0]], dtype=torch.float64)}
    with pytest.raises(ValueError, match="^The map and the samples must be finite to measure its quality. Got a dist"):
        metrics.map_quality(MapState.from_tensors(tensors), torch.tensor([[0.25, 0.5]]), config)


def test_quality_equals_brute_force(rng):
    config = MapConfig(variant="kohonen", rows=4, columns=5)
    prototypes, samples = rng.random((20, 6)), rng.random((50, 6))
    adjacent = adjacency(4, 5, "hexagonal")
    quality = metrics.map_quality(_map(prototypes.tolist(), adjacent), torch.tensor(samples), config)
    distances = np.linalg.norm(samples[:, None] - prototypes, axis=2)
    ranked = distances.argsort(axis=1)
    assert quality.quantization_error == pytest.approx(distances.min(axis=1).mean(), abs=1e-9)
    assert quality.topographic_error == (~adjacent).numpy()[ranked[:, 0], ranked[:, 1]].mean()


def test_quality_ignores_missing_values(rng):
    config = MapConfig(variant="kohonen", rows=1, columns=2, missing="mask")
    samples = torch.tensor([[0.5, math.nan], [math.nan, 0.25]])
    quality = metrics.map_quality(_map([[0.0, 0.0], [2.0, 2.0]]), samples, config)
    assert quality.quantization_error == pytest.approx(0.375)


def test_quality_needs_a_node():
    config = MapConfig(variant="larfdssom", activation_threshold=0.9)
    with pytest.raises(ValueError, match="at least one node"):
        metrics.map_quality(blank_state(3, 2, 0), torch.zeros(1, 2), config)
    single = metrics.map_quality(_map([[0.0, 0.0]]), torch.ones(2, 2), config)
    assert single.topographic_error == 0.0


def test_trustworthiness_equals_scikit_learn(rng):
    features = load_digits().data[:120] + rng.random((120, 64)) * 0.01  # without ties
    embedding = rng.random((120, 2)) + features[:, [10, 20]] / 16
    ours = metrics.trustworthiness(torch.tensor(features), torch.tensor(embedding), 5)
    assert ours == pytest.approx(reference_trustworthiness(features, embedding, n_neighbors=5))
    back = metrics.continuity(torch.tensor(features), torch.tensor(embedding), 5)
    assert back == pytest.approx(reference_trustworthiness(embedding, features, n_neighbors=5))
    assert metrics.trustworthiness(torch.tensor(features), torch.tensor(features), 7) == 1.0
    with pytest.raises(ValueError, match=r"num_neighbours must be in \[1, N / 2\) with N = 120\. Got 60\."):
        metrics.trustworthiness(torch.tensor(features), torch.tensor(embedding), 60)


def test_trustworthiness_of_more_rows_than_are_looked_at_at_once(rng):
    features = rng.random((300, 4))
    embedding = features[:, :2] + 0.1 * rng.random((300, 2))
    pair = torch.tensor(features), torch.tensor(embedding)
    assert metrics.trustworthiness(*pair, 5) == pytest.approx(reference_trustworthiness(features, embedding))
    assert metrics.continuity(*pair, 5) == pytest.approx(reference_trustworthiness(embedding, features))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("measure", [metrics.trustworthiness, metrics.continuity])
def test_neighbourhoods_are_those_of_finite_places(measure, bad):
    places = torch.rand(20, 2)
    broken = places.clone()
    broken[3, 1] = bad
    for pair, name in (((broken, places), "features"), ((places, broken), "embedding")):
        name = name if measure is metrics.trustworthiness else {"features": "embedding", "embedding": "features"}[name]
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            measure(*pair)


def test_u_matrix_of_a_regular_map():
    positions = lattice_positions(4, 5, "hexagonal")
    values = metrics.u_matrix(positions, adjacency(4, 5, "hexagonal"))
    torch.testing.assert_close(values, torch.ones(20, dtype=torch.float64))
    assert metrics.u_matrix(positions, torch.zeros(20, 20, dtype=torch.bool)).tolist() == [0.0] * 20


def test_full_u_matrix_interleaves_edges():
    prototypes = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # 2 x 2
    near = adjacency(2, 2, "rectangular")
    full = metrics.full_u_matrix(prototypes, 2, 2, near, "rectangular", False)
    assert full[0, 1] == 1 and full[1, 0] == 3 and full[1, 2] == 6 and full[2, 1] == 4
    assert full[1, 1] == (7 + 2) / 2  # the diagonals 0-7 and 1-3
    assert full[0, 0] == pytest.approx((1 + 3 + 7) / 3)


@pytest.mark.parametrize("toroidal", [False, True])
def test_full_u_matrix_holds_every_hexagonal_edge_once(toroidal, rng):
    rows, columns = 4, 5
    prototypes = torch.tensor(rng.random((rows * columns, 3)))
    near = adjacency(rows, columns, "hexagonal", toroidal)
    full = metrics.full_u_matrix(prototypes, rows, columns, near, "hexagonal", toroidal)
    assert full.shape == ((8, 10) if toroidal else (7, 9))
    edges = full.clone()
    edges[::2, ::2] = 0
    pairs = near.triu().nonzero()
    lengths = (prototypes[pairs[:, 0]] - prototypes[pairs[:, 1]]).norm(dim=1)
    if toroidal:
        torch.testing.assert_close(edges[edges > 0].sort().values, lengths.sort().values)
    else:  # the right border has places for edges that a planar lattice does not have
        found = set(edges[edges > 0].numpy().round(12).tolist())
        assert set(lengths.numpy().round(12).tolist()) <= found
