"""A trial that compiled loops look at has the scores that somcore gives it."""

import numpy as np
import pytest

from pipeline.sweeps import screening, trials
from pipeline.sweeps.data_sets import open_data_sets
from pipeline.sweeps.folder import FINISHED
from pipeline.sweeps.screened_trial import screenable, train_screened
from pipeline.sweeps.spaces import open_space
from pipeline.sweeps.trials import Trial, TrialDirectory, confirm_trial, row_of, run_trial
from pipeline.tracking.journal import Journal
from pipeline.training.trainer import train
from tests.training import table

pytestmark = pytest.mark.skipif(screening.library() is None, reason="no C compiler")
SCORES = ("epochs", "rounds", "nodes", "accuracy", "nmi", "validation_accuracy", "quantization_error")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 150)
    features = rng.normal(labels[:, None] * np.array([1.0, 0.5, 0.0, 2.0]), 0.5)
    return table(tmp_path_factory.mktemp("screened") / "t", features, labels, test_fraction=0.3)


def settings(data, model, index=0):
    space = open_space(model)
    drawn = space.settings(space.drawn(index, "lhs"), 105, 4) | {"map.epochs": 8, "map.pruning_epochs": 4}
    return drawn | {
        "data.path": str(data), "train.model": model, "train.labelled_fraction": 0.5, "cluster.workers": 0,
        "train.validation_fraction": 0.2, "train.evaluate_epochs": 0, "tracking.uri": "none",
    }  # fmt: skip


@pytest.mark.parametrize("model", ["larfdssom", "sssom", "altsssom"])
def test_the_scores_are_those_of_somcore(data, tmp_path, model):
    for index in range(2):
        asked = settings(data, model, index)
        assert screenable(asked, 105, 4, dense=True)
        fast = train_screened(asked, tmp_path, "a trial")
        slow = train(asked, tmp_path / str(index))
        assert {key: fast[key] for key in SCORES} == pytest.approx({key: slow[key] for key in SCORES})
        assert fast["map_digest"] is None and 0 < fast["seconds"] < 60
        assert fast["samples_per_second"] > fast["epochs"] * 105 / 60


def test_without_classes_the_error_on_training_rows_is_that_of_somcore(tmp_path):
    features = np.random.default_rng(2).normal(size=(150, 4))
    data = table(tmp_path / "t", features, test_fraction=0.3)
    asked = settings(data, "larfdssom") | {"train.labelled_fraction": 1.0, "train.validation_fraction": 0.0}
    fast, slow = train_screened(asked, tmp_path, "a trial"), train(asked, tmp_path / "run")
    assert fast["split"] == slow["split"] == "test"
    keys = ("quantization_error", "training_quantization_error")
    assert {key: fast[key] for key in keys} == pytest.approx({key: slow[key] for key in keys})


def test_a_trial_that_failed_before_goes_on_with_its_record(data, tmp_path):
    asked = settings(data, "sssom")
    broken = Trial("t", "d", 0.5, 0, 0, {}, asked | {"data.path": str(tmp_path / "away")}, screened=True)
    assert run_trial(broken, tmp_path, "first")["status"] == "failed"
    trial = Trial("t", "d", 0.5, 0, 0, {}, asked, screened=True)
    assert run_trial(trial, tmp_path, "second")["status"] == FINISHED
    kinds = [line["kind"] for line in Journal(tmp_path / "t").lines()]
    assert kinds == ["start", "end", "resume", "metrics", "end"], "a second start would change what MLflow knows"


def test_only_growing_maps_on_small_dense_tables_are_screened(data):
    asked = settings(data, "sssom")
    assert not screenable(asked, 105, 4, dense=False)
    assert not screenable(asked, 1_000_000, 4, dense=True)
    assert not screenable(asked | {"train.reduction": "fast"}, 105, 4, dense=True)
    assert not screenable({"data.path": "d", "train.model": "kohonen"}, 105, 4, dense=True)


def test_a_table_with_missing_values_is_not_dense(data, tmp_path):
    features = np.where(np.arange(40).reshape(20, 2) == 6, np.nan, np.arange(40.0).reshape(20, 2))
    gaps = table(tmp_path / "t", features, np.arange(20) % 2, missing="mask")
    assert [found.dense for found in open_data_sets([str(data), str(gaps)])] == [True, False]


def test_a_chosen_trial_is_trained_again_and_keeps_its_screening(data, tmp_path):
    trial = Trial("t", "d", 0.5, 0, 0, {}, settings(data, "sssom"), screened=True)
    record = run_trial(trial, tmp_path, "now")
    assert record["status"] == FINISHED and row_of(trial, record)["screened"] is True
    assert not (tmp_path / "t" / "map.safetensors").exists()
    confirmed = confirm_trial(trial, tmp_path, "now")
    row = row_of(trial, confirmed)
    assert "screened" not in row and len(row["map_digest"]) == 64
    assert row["accuracy"] == pytest.approx(confirmed["screening"]["accuracy"])
    assert (tmp_path / "t" / "map.safetensors").exists()
    assert confirm_trial(trial, tmp_path, "now") == TrialDirectory(tmp_path / "t").record, "once is enough"
    kinds = [line["kind"] for line in Journal(tmp_path / "t").lines()]
    assert kinds[:4] == ["start", "metrics", "end", "resume"] and kinds[-1] == "tags"


def test_a_chosen_trial_that_cannot_be_trained_again_keeps_its_screening_until_the_next_sitting(
    data, tmp_path, monkeypatch
):
    trial = Trial("t", "d", 0.5, 0, 0, {}, settings(data, "sssom"), screened=True)
    screened = run_trial(trial, tmp_path, "now")
    (tmp_path / "t" / "map.safetensors").mkdir()
    tried, trained = [], trials._train
    monkeypatch.setattr(trials, "_train", lambda *asked: (tried.append(asked), trained(*asked))[1])
    failed = confirm_trial(trial, tmp_path, "now")
    assert failed["not_confirmed"].startswith("IsADirectoryError: ") and failed["confirming"] == ["now", 2]
    assert row_of(trial, failed) == row_of(trial, screened)
    assert Journal(tmp_path / "t").lines()[-1]["status"] == "FINISHED"
    (tmp_path / "t" / "map.safetensors").rmdir()
    assert confirm_trial(trial, tmp_path, "now") == failed and len(tried) == 2, "not within the same sitting"
    assert not confirm_trial(trial, tmp_path, "next")["screened"]


def test_a_chosen_trial_that_ends_its_process_twice_is_given_up(data, tmp_path):
    trial = Trial("t", "d", 0.5, 0, 0, {}, settings(data, "sssom"), screened=True)
    run_trial(trial, tmp_path, "now")
    TrialDirectory(tmp_path / "t").write(confirming=["now", 2])
    assert confirm_trial(trial, tmp_path, "now")["not_confirmed"] == "its process ended"
