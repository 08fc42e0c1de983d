"""Results pulled from a real MLflow store."""

import pytest

from pipeline.errors import UserError
from pipeline.results import best_run, grouped, tracked_runs


@pytest.fixture
def runs(tracking_uri):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.create_experiment("study")
    for fraction, seed, accuracy, validation in [(0.1, 0, 0.5, 0.9), (0.1, 1, 0.7, 0.6), (1.0, 0, 0.8, 0.7)]:
        run = client.create_run(experiment)
        for key, value in {"train.labelled_fraction": fraction, "train.seed": seed, "train.model": "sssom"}.items():
            client.log_param(run.info.run_id, key, value)
        client.log_metric(run.info.run_id, "accuracy", accuracy)
        client.log_metric(run.info.run_id, "validation_accuracy", validation)
        client.set_terminated(run.info.run_id)
    client.create_run(experiment)  # still running: not a result
    return tracked_runs("study", tracking_uri)


def test_mean_and_spread_by_group(runs):
    rows = grouped(runs, "accuracy", ["labelled_fraction"])
    assert [row["labelled_fraction"] for row in rows] == [0.1, 1.0]
    assert rows[0]["mean"] == pytest.approx(0.6) and rows[0]["sd"] == pytest.approx(0.02**0.5)
    assert rows[1]["runs"] == 1 and rows[1]["sd"] is None


def test_the_best_run_is_chosen_on_validation_rows(runs):
    row, chooser = best_run(runs, "accuracy")
    assert chooser == "validation_accuracy" and row["accuracy"] == 0.5
    row, chooser = best_run(runs.drop(columns="validation_accuracy"), "accuracy")
    assert chooser == "accuracy" and row["accuracy"] == 0.8


def test_unknown_names_are_told_with_the_known_ones(runs, tracking_uri):
    with pytest.raises(UserError, match="--metric must be one of .*accuracy.* Got 'acuracy'"):
        grouped(runs, "acuracy", ["seed"])
    with pytest.raises(UserError, match="--group-by must be one of"):
        grouped(runs, "accuracy", ["sead"])
    with pytest.raises(UserError, match="--experiment must be the name of an experiment .*study.* Got 'nope'"):
        tracked_runs("nope", tracking_uri)


def test_the_best_run_on_data_without_classes_is_chosen_on_training_rows(runs):
    errors = runs.assign(quantization_error=range(len(runs)), training_quantization_error=range(len(runs), 0, -1))
    row, chooser = best_run(errors, "quantization_error")
    assert (row["run_id"], chooser) == (runs["run_id"].iloc[-1], "training_quantization_error")


@pytest.mark.parametrize("ask", [lambda runs: grouped(runs, "model", ["seed"]), lambda runs: best_run(runs, "model")])
def test_only_numbers_are_compared(runs, ask):
    with pytest.raises(UserError, match="--metric must be a column of numbers. Got 'model'"):
        ask(runs)
