"""Scores: the same as scikit-learn's on the same predictions, errors counted honestly, tiles invisible."""

import dataclasses
from itertools import permutations
from types import SimpleNamespace

import pytest
import torch
from sklearn import metrics as reference

from pipeline import evaluation
from pipeline.comparison.measures import cluster_measures
from pipeline.evaluation import evaluate
from somcore import MapConfig, accumulate, advance, initial_state, predict_classes, predict_nodes


def a_map(generator, variant="sssom", rounds=6, **options):
    """A map trained for a few rounds on three blobs, two of them labelled; the samples and their true classes."""
    truth = torch.arange(300) % 3
    samples = torch.rand(300, 4, generator=generator) * 0.25 + truth.unsqueeze(1) * 0.3
    labels = torch.where((truth < 2) & (torch.arange(300) % 5 == 0), truth, -1)
    if variant in ("larfdssom", "sssom"):
        options |= {"activation_threshold": 0.99}
    config = MapConfig(variant=variant, **options)
    config = config.resolve(num_samples=300, num_features=4, num_classes=3)
    lattice = variant == "kohonen"
    seeds = samples[: config.rows * config.columns] if lattice else None
    state = initial_state(config, 4, 0 if lattice else 3, samples=seeds)
    for _ in range(rounds):
        state = advance(state, accumulate(state, samples, None if lattice else labels, config, scale=40), config)
    return state, config, samples, truth


def reader(samples, truth):
    return lambda rows: (samples[rows], truth[rows])


@pytest.mark.parametrize("tile_rows", [7, 2048])
@pytest.mark.parametrize("noise_filter", [False, True])
def test_scores_are_those_of_the_predictions(generator, monkeypatch, tile_rows, noise_filter):
    state, config, samples, truth = a_map(generator)
    config = dataclasses.replace(config, noise_filter=noise_filter, activation_threshold=0.995)
    monkeypatch.setattr(evaluation, "TILE_ROWS", tile_rows)
    scores = evaluate(state, config, reader(samples, truth), 300, 3)
    nodes = predict_nodes(state, samples, config)[0].numpy()
    answers = predict_classes(state, samples, config)
    assert (nodes == -1).any() == noise_filter
    assert scores["accuracy"] == pytest.approx(float((answers == truth).double().mean()))
    assert scores["nmi"] == pytest.approx(reference.normalized_mutual_info_score(truth, nodes))
    assert scores["ari"] == pytest.approx(reference.adjusted_rand_score(truth, nodes))
    assert 0 < scores["clustering_accuracy"] <= scores["purity"] <= 1
    assert scores["topographic_error"] is None


def test_each_class_weighs_the_same_in_the_balanced_accuracy(generator):
    state, config, samples, truth = a_map(generator)
    rows = ((truth == 0) | (torch.arange(300) % 2 == 0)).nonzero().squeeze(1)
    scores = evaluate(state, config, reader(samples, truth), 300, 3, rows)
    right = predict_classes(state, samples[rows], config) == truth[rows]
    recalls = [float(right[truth[rows] == number].double().mean()) for number in range(3)]
    assert scores["balanced_accuracy"] == pytest.approx(sum(recalls) / 3)
    assert scores["balanced_accuracy"] != pytest.approx(scores["accuracy"], abs=0.01)


def test_rows_of_no_node_are_in_no_group(generator):
    state, config, samples, truth = a_map(generator)
    config = dataclasses.replace(config, noise_filter=True, activation_threshold=0.999)
    nodes = predict_nodes(state, samples, config)[0]
    kept, wins = nodes >= 0, torch.bincount(nodes[nodes >= 0], minlength=state.capacity)
    assert len(truth[~kept].unique()) == 3, "counted in any group they would be right at times"
    groups = evaluation.groups_of(state, wins, 3, None)[nodes[kept]]
    table = reference.cluster.contingency_matrix(groups, truth[kept])
    best = max(sum(table[place, number] for number, place in enumerate(order)) for order in permutations(range(3)))
    assert evaluate(state, config, reader(samples, truth), 300, 3)["grouped_accuracy"] == pytest.approx(best / 300)


def test_a_row_without_a_predicted_class_is_wrong_and_one_without_a_class_is_not_counted(generator):
    state, config, samples, truth = a_map(generator)
    few = dataclasses.replace(state, classes=torch.where(state.classes == 0, 0, -1))
    scores = evaluate(few, dataclasses.replace(config, fallback="threshold"), reader(samples, truth), 300, 3)
    assert 0 < scores["accuracy"] <= float((truth == 0).double().mean())
    hidden = torch.where(truth == 2, -1, truth)
    known = truth < 2
    right = predict_classes(state, samples, config)[known] == truth[known]
    scores = evaluate(state, config, reader(samples, hidden), 300, 3)
    assert scores["accuracy"] == pytest.approx(float(right.double().mean()))


def test_rows_of_a_node_without_a_class_get_the_answer_that_the_map_gives(generator):
    state, config, samples, truth = a_map(generator)
    nodes, seen = predict_nodes(state, samples, config)[0], set()
    for node in nodes.unique().tolist():
        classes = torch.where(torch.arange(state.capacity) == node, -1, state.classes)
        less = dataclasses.replace(state, classes=classes)
        right = (predict_classes(less, samples, config) == truth).double()
        scores = evaluate(less, config, reader(samples, truth), 300, 3)
        assert scores["accuracy"] == pytest.approx(float(right.mean())), node
        seen.add((node == 0, bool(right[nodes == node].any())))
    assert (True, True) in seen, "the first node has rows whose answer is right"


def test_a_map_that_knows_no_class_has_no_accuracy_but_groups(generator):
    state, config, samples, truth = a_map(generator)
    nobody = dataclasses.replace(state, classes=torch.full_like(state.classes, -1))
    scores = evaluate(nobody, config, reader(samples, truth), 300, 3)
    assert scores["accuracy"] is None and scores["clustering_accuracy"] > 0


def test_only_the_asked_rows_are_looked_at(generator):
    state, config, samples, truth = a_map(generator)
    rows = torch.tensor([5, 3, 250])
    scores = evaluate(state, config, reader(samples, truth), 300, 3, rows)
    answers = predict_classes(state, samples[rows], config)
    assert scores["accuracy"] == pytest.approx(float((answers == truth[rows]).double().mean()))


def test_without_labels_only_the_fit_is_scored(generator):
    state, config, samples, truth = a_map(generator)
    for read, classes in ((lambda rows: (samples[rows], None), 0), (reader(samples, torch.full_like(truth, -1)), 3)):
        scores = evaluate(state, config, read, 300, classes)
        assert {name for name, value in scores.items() if value is not None} == {"quantization_error"}


def test_a_lattice_has_a_topographic_error_and_no_accuracy(generator):
    state, config, samples, truth = a_map(generator, "kohonen", rows=3, columns=4, epochs=6)
    scores = evaluate(state, config, reader(samples, truth), 300, 3)
    assert scores["accuracy"] is None
    assert 0 <= scores["topographic_error"] <= 1
    assert scores["quantization_error"] > 0
    assert evaluate(state, config, reader(samples, truth), 300, 3, quality=False)["quantization_error"] is None


@pytest.mark.parametrize("unlabelled", [0, 1000])
def test_nodes_are_grouped_by_all_rows_that_they_win_as_in_a_comparison(unlabelled):
    """Rows of no class make the first node so heavy that the others are joined."""
    config = MapConfig(variant="larfdssom", capacity=3, activation_threshold=0.5)
    config = config.resolve(num_samples=10, num_features=1, num_classes=2)
    nodes = torch.tensor([[0.0], [1.0], [2.2]], dtype=torch.float64)
    state = dataclasses.replace(initial_state(config, 1, 0), prototypes=nodes, alive=torch.ones(3, dtype=torch.bool))
    samples = torch.cat([nodes, nodes[:1].expand(unlabelled, 1), nodes[1:2].expand(unlabelled // 100, 1)])
    truth = torch.cat([torch.tensor([0, 0, 1]), torch.full((len(samples) - 3,), -1)])
    found = evaluate(state, config, reader(samples, truth), len(samples), 2)["grouped_accuracy"]
    assert found == pytest.approx(2 / 3 if unlabelled else 1)
    trained = SimpleNamespace(state=state, config=config, crossings=None, encode=lambda rows: rows)
    dataset = SimpleNamespace(
        num_samples=lambda _: len(samples), num_classes=2, read=lambda _, r: (samples[r], truth[r])
    )
    assert cluster_measures(trained, dataset)["clustering_accuracy"] == found


def test_an_empty_map_has_no_scores(generator):
    state, config, samples, truth = a_map(generator, rounds=0)
    assert set(evaluate(state, config, reader(samples, truth), 300, 3).values()) == {None}
