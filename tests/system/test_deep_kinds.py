"""Deep runs on every kind of data, map variant and precision, from raw files to a scored model."""

import numpy as np
import pytest
import torch

from pipeline.deep.model import DeepModel
from pipeline.prepare import prepare
from pipeline.prepared.shards import Dataset
from pipeline.recipes import recipe
from pipeline.serving.trained import evaluate_run
from pipeline.sources import SourceOptions, open_source
from pipeline.training.trainer import train
from tests.conftest import real_data
from tests.training import call_job, small, table

QUICK = {
    "map__epochs": 3,
    "map__batch_size": 200,
    "map__tile_size": 64,
    "encoder__width": 4,
    "encoder__dim": 8,
    "deep__final_passes": 1,
    "deep__rate_warmup_rounds": 2,
    "train__evaluate_epochs": 0,
}


def deep(data, **changes):
    return small("deep", data, **(QUICK | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"deep__variant": "larfdssom", "train__labelled_fraction": 0.0},
        {"deep__variant": "altsssom", "loss__temperature": 0.05, "loss__margin": 0.05},
        {"encoder__name": "residual"},
        {"encoder__name": "mlp", "encoder__augment": "table"},
        {"deep__precision": "bfloat16"},
        {"loss__class_error": "soft", "loss__covariance_weight": 0.1},
        {"deep__labelled_only": True},
        {"train__validation_fraction": 0.2},
    ],
    ids=lambda changes: " ".join(f"{key}={value}" for key, value in changes.items()),
)
def test_a_variant_of_the_deep_model_trains_on_digits(digits, tmp_path, changes):
    result = train(deep(digits, **changes), tmp_path / "run")
    assert result["nodes"] >= 1 and result["rounds"] >= 3
    if changes.get("deep__variant") == "larfdssom":
        assert result["accuracy"] is None and result["nmi"] > 0
    else:
        assert result["accuracy"] >= 0
    if "train__validation_fraction" in changes:
        assert 0 <= result["validation_accuracy"] <= 1


@pytest.mark.parametrize("variant", ["larfdssom", "kohonen"])
def test_labels_change_nothing_of_a_map_that_reads_none(digits, tmp_path, variant):
    def digest(fraction):
        settings = deep(digits, deep__variant=variant, train__labelled_fraction=fraction, deep__refresh_rows=300)
        if variant == "kohonen":
            del settings["map.pruning_epochs"]
        return train(settings, tmp_path / str(fraction))["map_digest"]

    assert digest(0.0) == digest(0.05) == digest(1.0)


FEW = {"deep__labelled_only": True, "train__labelled_fraction": 0.2}  # rows: a tile of each takes time


@pytest.mark.parametrize(
    "changes", [{"encoder__dim": 2}, {"encoder__dim": 3}, {"map__batch_size": 40, "map__tile_size": 1, **FEW}]
)
def test_small_encoders_and_tiles_are_no_collapse(digits, tmp_path, changes):
    more = {"encoder__name": "mlp", "encoder__width": 8, "loss__relevance_warmup_rounds": 2}
    result = train(deep(digits, **(more | changes)), tmp_path / "run")
    assert result["nodes"] > 2 and result["accuracy"] > 0.2 and not result["collapsed"]


def test_a_run_says_that_its_precision_is_slow_on_this_processor(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    said = []
    train(deep(digits, deep__precision="bfloat16", map__epochs=1), tmp_path / "run", say=said.append)
    assert any("deep.precision=bfloat16" in line for line in said)


def test_growth_ends_when_it_is_told_to_and_every_class_has_a_node(digits, tmp_path):
    def inserted(rounds):
        settings = deep(digits, deep__growth_rounds=rounds, train__evaluate_epochs=1, map__activation_threshold=0.99)
        seen = []
        train(settings, tmp_path / str(rounds), on_epoch=lambda epoch, expected, metrics: seen.append(metrics))
        return [metrics["inserted"] for metrics in seen]

    always, first = inserted(None), inserted(9)  # rounds: one epoch
    assert first[0] == always[0] > 0 and sum(always[1:]) > 0
    assert first[1:] == [0, 0]


def test_the_encoder_learns_classes(digits, tmp_path):
    recipe = {
        "map__epochs": 8,
        "map__capacity": 30,
        "map__batch_size": 128,
        "map__relevance_slope": 0.3,
        "encoder__width": 8,
        "encoder__dim": 16,
        "encoder__augment": "none",
        "deep__learning_rate": 0.01,
        "loss__reconstruction_weight": 0.0,
        "train__labelled_fraction": 1.0,
    }
    assert train(deep(digits, **recipe), tmp_path / "run")["accuracy"] > 0.8


def test_spoken_digits_from_the_recordings(tmp_path):
    path = real_data("fsdd/fsdd.npz")
    with np.load(path) as archive:
        waves, offsets, labels, index = (archive[name] for name in ("samples", "offsets", "labels", "index"))
    rows = np.flatnonzero(index < 12)[::6]
    parts = [waves[offsets[i] : offsets[i + 1]] for i in rows]
    few = {"samples": np.concatenate(parts), "offsets": np.cumsum([0, *map(len, parts)]), "labels": labels[rows]}
    np.savez(tmp_path / "few.npz", **few, rate=8000)
    prepare(open_source("audio", tmp_path / "few.npz", SourceOptions(test_fraction=0.2)), tmp_path / "data")
    result = train(deep(tmp_path / "data", map__epochs=2, map__batch_size=64), tmp_path / "run")
    assert result["nodes"] >= 10 and result["accuracy"] > 0
    samples = Dataset.open(tmp_path / "data").read("test", slice(0, 5))[0]
    features = DeepModel.load(tmp_path / "run").encode(samples)
    assert features.shape == (5, 8) and 0 <= features.min() <= features.max() <= 1


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_recipes_for_colour_images_learn_colours(tmp_path, rng, name):
    labels = np.arange(240) % 3
    images = rng.integers(0, 120, (240, 32, 32, 3), dtype=np.uint8)
    images[np.arange(240), :, :, labels] += 120  # the channel is the class
    np.savez(tmp_path / "colours.npz", images=images, labels=labels)
    prepare(open_source("images", tmp_path / "colours.npz", SourceOptions(test_fraction=0.25)), tmp_path / "data")
    quick = {"map.epochs": 15, "map.batch_size": 64, "encoder.width": 4, "encoder.dim": 8, "train.evaluate_epochs": 0}
    quick |= {"loss.relevance_warmup_rounds": 3, "loss.consistency_start": 6, "deep.learning_rate": 0.005}
    settings = {**small("deep", tmp_path / "data"), **recipe(name), **quick}
    result = train(settings, tmp_path / "run")
    assert result["accuracy"] > 0.8 and not result["collapsed"]


def test_a_table_through_the_perceptron(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(centre, 0.3, (150, 6)) for centre in (0, 1, 2)])
    order = rng.permutation(450)
    data = table(tmp_path / "t", rows[order], np.repeat([0, 1, 2], 150)[order], test_fraction=0.2)
    changes = {"map__epochs": 12, "map__batch_size": 64, "map__capacity": 20, "loss__consistency_weight": 0.0}
    changes |= {"train__labelled_fraction": 1.0, "deep__on_collapse": "go_on"}  # the classes lie on one line
    result = train(deep(data, deep__learning_rate=0.01, **changes), tmp_path / "run")
    assert result["accuracy"] > 0.8


def test_crossings_group_nodes_and_give_them_classes(digits, tmp_path):
    """Of a run with few labels: every node that samples fall on has a class, and the saved model scores as trained."""
    settings = {"map__capacity": 30, "train__labelled_fraction": 0.02, "deep__on_collapse": "go_on"}
    result = train(deep(digits, deep__crossings=True, **settings), tmp_path / "run")
    plain = train(deep(digits, **settings), tmp_path / "plain")
    model, without = DeepModel.load(tmp_path / "run"), DeepModel.load(tmp_path / "plain")
    rows = Dataset.open(digits).num_samples("train")
    assert int(model.crossings.sum()) == 2 * rows and torch.equal(model.crossings, model.crossings.T)
    assert without.crossings is None
    assert torch.equal(model.state.prototypes, without.state.prototypes)
    before, after = without.state.classes, model.state.classes
    assert (before[before >= 0] == after[before >= 0]).all() and (before < 0)[model.crossings.sum(1) > 0].any()
    assert (after >= 0)[model.crossings.sum(1) > 0].all()
    scores = evaluate_run(str(tmp_path / "run"), digits, "test")
    for name in ("accuracy", "grouped_accuracy", "clustering_accuracy"):
        assert scores[name] == result[name], name
    assert plain["grouped_accuracy"] is not None


def test_without_any_label_no_class_is_said_but_groups_are_scored(digits, tmp_path):
    settings = {"train__labelled_fraction": 0.0, "deep__crossings": True, "map__capacity": 20}
    result = train(deep(digits, **settings), tmp_path / "run")
    assert result["accuracy"] is None and result["grouped_accuracy"] > 0.1


@pytest.mark.parametrize("fraction, told", [(0.0, "grouped_accuracy"), (1.0, "accuracy")])
def test_progress_tells_the_score_that_there_is(digits, tmp_path, fraction, told):
    options = ["--labelled-fraction", fraction, "--set", "encoder.width=4", "--epochs", 3, "--tracking-uri", "none"]
    code, _, said = call_job("--data", digits, "--model", "deep", "--workers", 0, "--out", tmp_path / "run", *options)
    assert code == 0 and f"· {told} 0." in said and f", {told} 0." in said and " accuracy 0.000" not in said, said
