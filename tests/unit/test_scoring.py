"""Which rows a run is scored on at its end."""

import numpy as np
import pandas as pd
import pytest
import torch

from jobs._epochs import Epochs, sentence
from pipeline.config import RunConfig
from pipeline.evaluation import evaluate
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.shards import Dataset
from pipeline.sources import SourceOptions, open_source
from pipeline.training import scoring
from pipeline.training.plan import make_plan
from pipeline.training.rundir import RunDirectory
from pipeline.training.scoring import Scorer
from pipeline.training.trainer import train
from somcore.sampling import sample_indices
from tests.training import small, table


@pytest.mark.parametrize(("test_fraction", "looked_at"), [(0.0, 50), (0.5, 100)], ids=["training rows", "test rows"])
def test_the_end_looks_at_some_training_rows_or_at_all_test_rows(rng, tmp_path, monkeypatch, test_fraction, looked_at):
    seen: list[int] = []
    evaluate = scoring.evaluate

    def counted(state, config, read, count, classes, rows, *others):
        seen.append(count if rows is None else len(set(rows.tolist())))
        return evaluate(state, config, read, count, classes, rows, *others)

    monkeypatch.setattr(scoring, "_MOST", 50)
    monkeypatch.setattr(scoring, "evaluate", counted)
    labels = np.arange(200) % 4
    data = table(tmp_path / "t", rng.normal(labels[:, None], 0.1, (200, 3)), labels, test_fraction=test_fraction)
    settings = small("kohonen", data, train__evaluate_epochs=0, map__rows=2, map__columns=2)
    summary = train(settings, tmp_path / "run")
    assert seen == [looked_at] and summary["split"] == ("test" if test_fraction else "train")


def test_rows_that_are_scored_are_drawn_apart_from_those_that_a_round_takes(digits):
    dataset = Dataset.open(digits)
    plan = make_plan(RunConfig.build(small("sssom", digits, train__seed=3)), dataset)
    scorer = Scorer(plan, dataset, 100)
    count, drawn = dataset.num_samples(scorer.split), scorer._sample.tolist()
    assert drawn == sorted(set(drawn)) == Scorer(plan, dataset, 100)._sample.tolist() and len(drawn) == 100 < count
    for epoch in range(6):
        taken = sample_indices(3, epoch, torch.arange(100), count).tolist()
        assert len(set(taken) & set(drawn)) < 60, "28 by chance"
    assert Scorer(plan, dataset, 0)._sample is None, "all"


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("train", "test", "validation")])
def test_without_classes_a_search_looks_at_rows_that_are_not_tested(rng, tmp_path, splits):
    data = stacked(tmp_path, rng, splits)
    settings = small("kohonen", data, train__evaluate_epochs=1, map__rows=2, map__columns=2, map__epochs=1)
    told: list[dict] = []
    summary = train(settings, tmp_path / "run", on_epoch=lambda epoch, of, metrics: told.append(dict(metrics)))
    errors = {split: error_on(split, data, tmp_path / "run") for split in splits}
    assert summary["quantization_error"] == errors.get("test", errors["train"])
    validated = "validation" in splits
    chooser = "validation_quantization_error" if validated else "training_quantization_error"
    assert summary[chooser] == errors["validation" if validated else "train"]
    assert ("training_quantization_error" in summary) is not validated
    assert (told[-1].get("validation_quantization_error") == errors.get("validation")) or not validated
    assert len(set(errors.values())) == len(splits), "the splits differ, or this could not fail"


def test_with_classes_the_error_is_measured_on_withheld_rows_too(digits, tmp_path):
    summary = train(small("sssom", digits, train__validation_fraction=0.2, map__epochs=1), tmp_path / "run")
    assert summary["validation_quantization_error"] > 0 and "training_quantization_error" not in summary


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_training_says_of_how_many_rows_its_accuracy_is(rng, tmp_path, monkeypatch, split):
    monkeypatch.setattr(scoring, "_MOST", 70)
    truth = np.arange(120) % 2
    frame = pd.DataFrame(rng.normal(truth[:, None], 0.1, (120, 2)), columns=["x0", "x1"])
    frame["y"] = np.where(np.arange(120) % 4 < 2, truth.astype(str), "")  # as many of either class, half without one
    frame.assign(split=["train"] * 80 + [split] * 40).to_csv(tmp_path / "t.csv", index=False)
    options = SourceOptions(label_column="y", split_column="split")
    prepare(open_source("table", tmp_path / "t.csv", options), tmp_path / "data")
    settings, dataset = small("sssom", tmp_path / "data", train__labelled_fraction=1.0), Dataset.open(tmp_path / "data")
    summary = train(settings, tmp_path / "run")
    drawn = Scorer(make_plan(RunConfig.build(settings), dataset), dataset, 0)._all
    rows = np.arange(40) if split == "test" else drawn.numpy()
    labelled = int((dataset.labels(split).numpy()[rows] >= 0).sum())
    assert 0 < labelled < len(rows) == summary["scored_rows"] and labelled == summary["scored_labelled_rows"]
    assert f", accuracy 1.0000 ({labelled} of {len(rows)} {split} rows have a class), " in sentence(summary)
    whole = sentence(summary | {"scored_labelled_rows": len(rows)})
    assert ", accuracy 1.0000, " in whole and "have a class" not in whole


def summary_with(**scores):
    known = {"model": "sssom", "nodes": 3, "epochs": 1, "split": "test", "scored_rows": 40, "scored_labelled_rows": 40}
    return known | {"out": "runs/a", "map_digest": "d" * 64, "quantization_error": 0.5} | scores


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({"accuracy": 0.0, "grouped_accuracy": 1.0, "nmi": 1.0}, "accuracy 0.0000, nmi 1.0000"),
        ({"accuracy": None, "grouped_accuracy": 0.75}, "grouped_accuracy 0.7500"),
        ({"accuracy": 0.5, "validation_accuracy": 0.75}, "accuracy 0.5000, validation_accuracy 0.7500"),
        ({"accuracy": None, "scored_labelled_rows": 0}, "no row of the test split has a class"),
        (
            {"accuracy": None, "scored_labelled_rows": 0, "validation_accuracy": 0.75},
            "no row of the test split has a class, validation_accuracy 0.7500",
        ),
        ({"accuracy": None, "scored_labelled_rows": None}, ""),
    ],
)
def test_the_last_line_tells_every_score_that_there_is(scores, told):
    middle = f"{told}, quantization_error" if told else "quantization_error"
    assert sentence(summary_with(**scores)).startswith(f"sssom: 3 nodes after 1 epoch, {middle} 0.5000. Map in")


def test_an_accuracy_of_0_is_told_in_every_epoch(capsys):
    with Epochs() as on_epoch:
        on_epoch(1, 1, {"nodes": 2.0, "accuracy": 0.0, "grouped_accuracy": 1.0, "samples_per_second": 8.0})
    said = capsys.readouterr().err
    assert "accuracy 0.000 " in said and "grouped" not in said


@pytest.mark.parametrize(("error", "told"), [(0.0, False), (0.25, True)])
def test_progress_tells_an_error_where_it_was_measured(capsys, error, told):
    """The samples of a first round became the nodes."""
    with Epochs() as on_epoch:
        on_epoch(1, 1, {"nodes": 12.0, "quantization_error": error, "accuracy": 0.5, "samples_per_second": 8.0})
    said = capsys.readouterr().err
    assert "nodes 12 ·" in said and "accuracy 0.500" in said and ("quantization error 0.25" in said) is told
    assert ("quantization error" in said) is told


@pytest.mark.parametrize(
    ("capacity", "given", "remedy"),
    [
        (6, {}, "Raise map.threshold_quantile (0.05), so that nodes are larger, or map.capacity."),
        (6, {"map__activation_threshold": 0.99}, "Lower map.activation_threshold, so that nodes are larger, or raise"),
        (500, {}, None),
    ],
)
def test_a_map_that_had_no_room_to_grow_says_so_though_it_is_pruned(rng, tmp_path, capacity, given, remedy):
    """Samples without clusters: nodes for all are asked for, and most of those that there are win too little."""
    data = table(tmp_path / "t", rng.random((400, 8)))
    given = given | {"train__labelled_fraction": 0.0}  # there are none
    settings = small("larfdssom", data, map__epochs=4, map__pruning_epochs=2, map__capacity=capacity, **given)
    said: list[str] = []
    summary = train(settings | {"map.batch_size": 100, "map.min_win_share": 0.2}, tmp_path / "run", say=said.append)
    assert summary["nodes"] < 6 and summary["rounds"] == 24
    if remedy is None:
        assert (said, summary["rounds_at_capacity"]) == ([], 0)
        return
    assert 12 <= summary["rounds_at_capacity"] <= 16  # of 16 in which the map grows
    assert len(said) == 1 and remedy in said[0]
    found = f"in {summary['rounds_at_capacity']} of 24 rounds: map.capacity (6) decided what became a node"
    assert found in said[0]


def stacked(folder, rng, splits):
    """A table without labels; the rows of each split are spread differently."""
    parts = [np.column_stack([rng.normal(0, 1 + i, (100, 3)), np.full(100, i)]) for i in range(len(splits))]
    lines = [",".join([*map(str, row[:3]), splits[int(row[3])]]) for part in parts for row in part]
    (folder / "raw.csv").write_text("\n".join(["x0,x1,x2,split", *lines]) + "\n")
    source = open_source("table", folder / "raw.csv", SourceOptions(split_column="split"))
    prepare(source, folder / "data", PrepareOptions())
    return folder / "data"


def error_on(split, data, run):
    state, config, _ = RunDirectory(run).load_map()
    dataset = Dataset.open(str(data))
    return evaluate(state, config, lambda rows: dataset.read(split, rows), dataset.num_samples(split), 0)[
        "quantization_error"
    ]


def test_classes_that_no_node_has_are_told(rng, tmp_path):
    labels = np.arange(200) % 2
    labels[:2] = 2, 3
    data = table(tmp_path / "t", rng.normal(labels[:, None] % 2, 0.05, (200, 3)), labels, test_fraction=0.0)
    said: list[str] = []
    train(small("sssom", data, map__min_win_share=0.02), tmp_path / "run", say=said.append)
    assert said[0].startswith("No node has the class 2 (1 labelled row), 3 (1 labelled row): it is never said.")
    said.clear()
    train(small("sssom", data, map__min_win_share=0.0), tmp_path / "all", say=said.append)
    assert not [line for line in said if line.startswith("No node")]
