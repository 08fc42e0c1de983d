"""The supervised baseline and the figure of accuracy by labelled fraction."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pipeline.benchmarks.deep_curve import METHODS, Curve, compute, figure, markdown
from pipeline.benchmarks.supervised import train_supervised
from pipeline.errors import DataError, UserError
from pipeline.places import alone_in
from pipeline.prepared.shards import Dataset
from tests.training import small, table


@pytest.fixture
def settings(digits):
    changes = {"map__epochs": 4, "encoder__width": 8, "encoder__dim": 8, "train__evaluate_epochs": 0}
    return small("deep", digits, deep__on_collapse="go_on", **changes)


def test_the_baseline_learns_from_its_labels_and_repeats_itself(settings):
    quick = {"deep.learning_rate": 0.02, "deep.rate_warmup_rounds": 2, "deep.average_decay": 0.0, "map.epochs": 6}
    first = train_supervised({**settings, **quick, "train.labelled_fraction": 1.0})
    assert first["accuracy"] > 0.5 and first["labelled"] == 1438 and first["rounds"] == 24
    assert train_supervised({**settings, **quick, "train.labelled_fraction": 1.0})["accuracy"] == first["accuracy"]
    with pytest.raises(DataError, match="must have labelled rows"):
        train_supervised({**settings, "train.labelled_fraction": 0.0})


@pytest.mark.parametrize(("only", "withheld"), [(True, 0.0), (False, 0.3)])
def test_the_baseline_sees_each_row_that_the_deep_run_is_trained_on_once_an_epoch(
    settings, monkeypatch, only, withheld
):
    seen = []

    def read(self, split, rows):
        if split == "train":
            seen.append(torch.as_tensor(rows))
        return original(self, split, rows)

    original = Dataset.read
    monkeypatch.setattr(Dataset, "read", read)
    few = {"deep.labelled_only": only, "train.validation_fraction": withheld, "deep.labelled_per_round": 0}
    labelled = train_supervised({**settings, **few})["labelled"]
    rows, times = torch.cat(seen).unique(return_counts=True)
    assert len(rows) == labelled and set(times.tolist()) == {settings["map.epochs"]}


def test_the_baseline_learns_from_strong_views_with_their_weight_in_the_deep_run(settings, digits):
    samples = Dataset.open(digits).read("test", slice(0, 50))[0]

    def features(strong, weight):
        given = {**settings, "train.labelled_fraction": 1.0, "loss.strong_cross_entropy_weight": weight}
        return train_supervised(given, strong=strong)["encode"](samples)

    plain = features(False, 1.0)
    assert torch.equal(features(True, 0.0), plain)
    assert not torch.equal(features(True, 0.5), plain)


def test_a_method_that_is_not_known_is_refused(settings, tmp_path):
    curve = Curve(settings, (0.1,), (0,), ("deep", "supervize"), tmp_path, "the command")
    with pytest.raises(
        UserError, match="--methods must be some of deep, supervised, supervised-strong. Got 'supervize'"
    ):
        compute(curve, None, pytest.fail)


def test_data_without_test_rows_have_no_curve(settings, rng, tmp_path):
    data = table(tmp_path / "t", rng.random((20, 4)), np.arange(20) % 2)
    curve = Curve({**settings, "data.path": str(data)}, (1.0,), (0,), ("supervised",), tmp_path / "out", "the command")
    with pytest.raises(UserError, match="--data must be a data set with a test split"):
        compute(curve, None, pytest.fail)
    assert not (tmp_path / "out").exists()


def test_a_curve_keeps_its_cells_and_draws_what_is_there(settings, tmp_path):
    settings = {key: value for key, value in settings.items() if key != "train.labelled_fraction"}
    curve = Curve(settings, (0.1, 1.0), (0,), ("deep", "supervised", "supervised-strong"), tmp_path, "the command")
    lines = []
    assert compute(curve, 0.0, lines.append) == [] and lines == []  # no time, nothing begun
    cells = compute(curve, None, lines.append)
    assert len(cells) == 6 and {c["method"] for c in cells} == set(METHODS)
    assert "6 of 6: supervised-strong, 1 of the labels, seed 0" in lines
    lines.clear()
    assert compute(curve, None, lines.append) == cells and lines == []  # all kept
    other = dataclasses.replace(curve, settings={**settings, "encoder.width": 4})
    with pytest.raises(UserError, match="--out must be new, or of the same design"):
        compute(other, None, pytest.fail)
    assert len(compute(dataclasses.replace(curve, settings={**settings, "cluster.workers": 2}), None, pytest.fail)) == 6
    text = markdown(curve, cells, "digits")
    assert "| 10 % |" in text and "| 100 % |" in text and "`the command`" in text
    assert figure(curve, cells, "digits", tmp_path / "figure.png").stat().st_size > 5000


def test_a_folder_where_another_benchmark_runs_is_refused(settings, tmp_path):
    asked = Curve(settings, [0.1], [0], ["supervised"], tmp_path / "out", "it")
    with alone_in(asked.out, "a benchmark"), pytest.raises(UserError, match="out' is in use by a benchmark that is r"):
        compute(asked, None, print)
    assert not asked.out.exists()


def test_rows_of_close_fractions_differ(tmp_path):
    text = markdown(Curve({}, (0.001, 0.002, 0.0125), (0,), ("deep",), tmp_path, "the command"), [], "d")
    assert [line.split(" |")[0] for line in text.splitlines()[4:7]] == ["| 0.1 %", "| 0.2 %", "| 1.25 %"]


def test_a_setting_that_is_not_known_leaves_nothing_behind(settings, tmp_path):
    for wrong, fraction in ({"encoder.widht": 4}, 0.1), ({}, 1.5), ({"train.checkpoints": "there"}, 0.1):
        curve = Curve({**settings, **wrong}, (fraction,), (0,), ("deep",), tmp_path / "out", "the command")
        with pytest.raises(ValueError, match="widht|labelled_fraction|train.checkpoints must be left out"):
            compute(curve, None, pytest.fail)
    assert not (tmp_path / "out").exists()


def test_a_sweep_gives_the_deep_cells(settings, tmp_path):
    head = "trial,status,data,model,labelled_fraction,seed,set,nodes,accuracy,map_digest,seconds"
    rows = [
        "a,finished,d,deep,0.1,0,0,20,0.8,ab,60.0",
        "b,failed,d,deep,1.0,0,0,,,,",
        "c,finished,d,deep,1.0,1,0,20,0.9,cd,60",
    ]
    known = {"d": Dataset.open(settings["data.path"]).manifest_hash}
    (tmp_path / "sweep.json").write_text(json.dumps({"definition": {"data": known}}))
    (tmp_path / "trials.csv").write_text("\n".join([head, *rows]))
    curve = Curve(settings, (0.1, 1.0), (0, 1), ("deep",), tmp_path / "out", "the command", sweep=tmp_path)
    cells = compute(curve, None, pytest.fail)
    assert [(c["fraction"], c["seed"], c["accuracy"], c["map_digest"]) for c in cells] == [
        (0.1, 0, 0.8, "ab"), (1.0, 1, 0.9, "cd"),
    ]  # fmt: skip
    assert "| 10 % | 0.8000 (1) | – | 1.0 |" in markdown(curve, cells, "d")
    (tmp_path / "trials.csv").write_text("\n".join([head, *rows, "e,finished,d,deep,1.0,1,1,20,0.9,ef,60"]))
    with pytest.raises(UserError, match="--sweep must be a sweep of one set. Got '0, 1'."):
        compute(curve, None, pytest.fail)
    (tmp_path / "trials.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "sweep.json").write_text('{"definition": {"data": {"d": "another"}}}')
    with pytest.raises(UserError, match="--sweep must be a sweep of the data in '.*' .--data.. Got 'd'."):
        compute(curve, None, pytest.fail)
