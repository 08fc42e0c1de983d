"""Results pulled from a real MLflow store."""

import functools
import json

import pandas as pd
import pytest

from jobs.results import results
from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.sweeps.folder import FINISHED
from pipeline.sweeps.selection import best_trial
from pipeline.tracking.result_rows import about_best, best_run, data_names, grouped, of_data, plain_row, without
from pipeline.tracking.results import kept_of, run_directory, tracked_runs
from pipeline.training.rundir import changed_settings, stored_settings


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


def test_runs_beyond_the_first_page_are_read_too(runs, tracking_uri, monkeypatch):
    monkeypatch.setattr("pipeline.tracking.results._PAGE", 2)
    assert tracked_runs("study", tracking_uri).equals(runs) and len(runs) == 3


def test_mean_and_spread_by_group(runs):
    rows = grouped(runs, "accuracy", ["labelled_fraction"])
    assert [row["labelled_fraction"] for row in rows] == [0.1, 1.0]
    assert rows[0]["mean"] == pytest.approx(0.6) and rows[0]["sd"] == pytest.approx(0.02**0.5)
    assert rows[1]["runs"] == 1 and rows[1]["sd"] is None


def test_runs_without_a_value_of_what_is_grouped_by_are_a_group_too(runs):
    rows = grouped(runs.assign(fold=["one", None, None]), "accuracy", ["fold"])
    assert [(row["fold"], row["mean"], row["runs"]) for row in rows] == [("one", 0.5, 1), (None, 0.75, 2)]


def test_the_best_run_is_chosen_on_validation_rows(runs):
    row, chooser = best_run(runs, "accuracy")
    assert chooser == "validation_accuracy" and row["accuracy"] == 0.5
    row, chooser = best_run(runs.drop(columns="validation_accuracy"), "accuracy")
    assert chooser == "accuracy" and row["accuracy"] == 0.8


def test_a_run_without_validation_rows_does_not_make_test_rows_choose(runs):
    row, chooser = best_run(runs.assign(validation_accuracy=[0.6, 0.9, None]), "accuracy")
    assert (chooser, row["accuracy"]) == ("validation_accuracy", 0.7)


def test_ties_go_to_the_smaller_map_then_to_the_lower_trial_as_in_sweeps(runs):
    tied = runs.assign(validation_accuracy=0.9, nodes=[30, 20, 20], trial=["c", "b", "a"])
    rows = [plain_row(row) | {"status": FINISHED} for row in tied.to_dict("records")]
    assert best_run(tied, "accuracy")[0]["trial"] == best_trial(rows, "accuracy")["trial"] == "a"
    rows[0]["nodes"], tied.loc[0, "nodes"] = None, None  # counts as none
    assert best_run(tied, "accuracy")[0]["trial"] == best_trial(rows, "accuracy")["trial"] == "c"


def test_a_score_that_chose_itself_is_told(of_three_sets, capsys):
    assert of_three_sets(best=True, data="digits", metric="nmi")["chosen_by"] == "nmi"
    assert "No run has validation_nmi: chosen by nmi itself" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["loss_push", "seconds", "validation_quantization_error", "misplaced_share"])
def test_the_best_run_has_the_least_of_what_should_be_small(runs, metric):
    runs[metric] = [0.3, 0.1, 0.2]
    assert best_run(runs, metric) == (best_run(runs.iloc[1:2], metric)[0], metric)


def test_unknown_names_are_told_with_the_nearest_ones(runs, tracking_uri):
    runs = runs.join(pd.DataFrame(1.0, runs.index, [f"system/{n}" for n in range(100)]))
    told = "--metric must be a number of these runs, such as accuracy. Got 'acuracy'. Did you mean 'accuracy'"
    with pytest.raises(UserError, match=told) as caught:
        grouped(runs, "acuracy", ["seed"])
    assert len(str(caught.value)) < 200
    told = "--group-by must be columns of the results, such as data, model, .* Got 'sead'. Did you mean 'seed'"
    with pytest.raises(UserError, match=told) as caught:
        grouped(runs, "accuracy", ["sead"])
    assert len(str(caught.value)) < 200
    with pytest.raises(UserError, match="--experiment must be the name of an experiment .*study.* Got 'nope'"):
        tracked_runs("nope", tracking_uri)


def test_a_setting_is_a_column_by_its_whole_key_too(runs):
    assert grouped(runs, "accuracy", ["train.seed"]) == grouped(runs, "accuracy", ["seed"])
    with pytest.raises(UserError, match="--group-by must be columns, each of them once. Got 'seed, train.seed'"):
        grouped(runs, "accuracy", ["seed", "train.seed"])


def test_the_best_run_on_data_without_classes_is_chosen_on_training_rows(runs):
    errors = runs.assign(quantization_error=range(len(runs)), training_quantization_error=range(len(runs), 0, -1))
    row, chooser = best_run(errors, "quantization_error")
    assert (row["run_id"], chooser) == (runs["run_id"].iloc[-1], "training_quantization_error")


@pytest.mark.parametrize("ask", [lambda runs: grouped(runs, "model", ["seed"]), lambda runs: best_run(runs, "model")])
def test_only_numbers_are_compared(runs, ask):
    with pytest.raises(UserError, match="--metric must be a number of these runs, such as accuracy. Got 'model'"):
        ask(runs)


def test_the_best_of_runs_none_of_which_has_the_metric_is_refused(runs):
    others = runs.assign(accuracy=None, quantization_error=1.0).astype({"accuracy": float})
    told = "--metric must be a number of these runs, such as quantization_error. Got 'accuracy'"
    with pytest.raises(UserError, match=told):
        best_run(others, "accuracy")


@pytest.fixture
def of_three_sets(tracking_uri):
    """Three data sets, on one of which a map without classes was trained too."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.create_experiment("sets")
    for data, model, accuracy in [("blobs", "sssom", 0.9), ("digits", "sssom", 0.5), ("iris", "sssom", 1.0)] + [
        ("digits", "kohonen", None)
    ]:
        run = client.create_run(experiment, tags={"manifest_hash": data})
        params = stored_settings(RunConfig.build({"data.path": f"data/{data}", "train.model": model}))
        for key, value in {**params, "map.capacity": 50, "train.seed": 3}.items():
            client.log_param(run.info.run_id, key, value)
        client.log_metric(run.info.run_id, "system/cpu", 50.0)
        if accuracy is None:
            client.log_metric(run.info.run_id, "nmi", 0.4)
        else:
            client.log_metric(run.info.run_id, "accuracy", accuracy)
            client.log_metric(run.info.run_id, "validation_accuracy", accuracy)
        client.set_terminated(run.info.run_id)
    return functools.partial(results, "sets", tracking_uri=tracking_uri)


def test_a_line_is_of_one_data_set_and_runs_without_the_metric_are_counted(of_three_sets, capsys):
    told = of_three_sets()
    assert [(row["data"], row["mean"], row["runs"]) for row in told["rows"]] == [
        ("blobs", 0.9, 1), ("digits", 0.5, 1), ("iris", 1.0, 1)
    ]  # fmt: skip
    assert told["runs_without"] == 1
    assert capsys.readouterr().err == "Left out, having no accuracy: 1 of 4 runs (kohonen 1).\n"
    assert [row["data"] for row in of_three_sets(data="data/digits/")["rows"]] == ["digits"]
    with pytest.raises(UserError, match=r"--data must be a data set of these runs \(blobs, digits, iris\). Got 'x'"):
        of_three_sets(data="x")


def test_the_best_run_is_of_one_data_set(of_three_sets, capsys):
    told = "--best must be of runs on one data set. These are on 3: blobs, digits, iris. Choose one, e.g. --data blobs"
    with pytest.raises(UserError, match=told):
        of_three_sets(best=True)
    assert of_three_sets(best=True, data="digits")["chosen_by"] == "validation_accuracy"  # kohonen has none
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert [words[0] for words in lines[:3]] == ["The", "accuracy", "validation_accuracy"]
    assert lines[-2][:3] == ["Settings", "that", "differ"] and lines[-1] == ["map.capacity", "50"]
    assert len(lines) < 20 and "system/" not in out and "checkpoint" not in out
    assert err == "Left out, having no accuracy: 1 of 2 runs (kohonen 1).\n"


def test_the_best_run_for_people(runs, tracking_uri):
    row, chooser = best_run(runs, "accuracy")
    kept = kept_of(row["run_id"], tracking_uri)
    assert kept["settings"]["train.labelled_fraction"] == 0.1 and not kept["has_map"]
    kept |= {"has_map": True, "settings": {"train.model": "deep", "encoder.width": 7, "deep.tune_rate": 0.5}}
    about = about_best(row, "accuracy", chooser, kept, "sqlite:///a b.db")
    assert list(about["The best run"])[:3] == ["accuracy", "validation_accuracy", "chosen_by"]
    assert about["The best run"]["evaluate"].endswith(f"--run {row['run_id']} --tracking-uri 'sqlite:///a b.db'")
    far = about_best(row, "accuracy", chooser, kept, "http://mlflow:PASSWORD@host:5000")
    assert far["The best run"]["evaluate"].endswith(f"--run {row['run_id']} --tracking-uri http://host:5000")
    assert about["Settings that differ from the defaults"] == {"encoder.width": 7, "deep.tune_rate": 0.5}


def test_settings_that_are_as_usual_are_not_told():
    for model in ("sssom", "deep", "dec"):
        usual = stored_settings(RunConfig.build({"data.path": "x", "train.model": model}))
        assert set(changed_settings(json.loads(json.dumps(usual)))) == {"data.path"}, model
    assert changed_settings({"train.model": "sssom", "map.bmu_rate": 0.2}) == {"map.bmu_rate": 0.2}
    assert changed_settings({"train.model": "gone", "map.bmu_rate": 0.2}) == {
        "train.model": "gone",
        "map.bmu_rate": 0.2,
    }


def test_data_sets_of_one_name_stay_apart():
    here = {"data.path": "a/digits", "manifest_hash": "1" * 64}
    again, there = here | {"manifest_hash": "2" * 64}, {"data.path": "/b/digits/", "manifest_hash": "3" * 64}
    assert data_names([here, here, {}]) == ["digits", "digits", None]
    assert data_names([here, there]) == ["a/digits", "/b/digits"]
    assert data_names([here, again, there]) == ["a/digits (11111111)", "a/digits (22222222)", "/b/digits"]
    folds = [{"data": "glass", "fold": f, "data.path": f"/d/glass/{f}", "manifest_hash": f} for f in ("one", "two")]
    assert data_names(folds) == ["glass", "glass"]
    assert data_names([*folds, {"data.path": "/e/glass", "manifest_hash": "4"}]) == ["/d/glass", "/d/glass", "/e/glass"]


def test_no_sentence_where_every_run_has_the_metric(runs):
    assert without(runs, "accuracy") == (0, "")
    with pytest.raises(UserError, match="--data must be"):
        of_data(runs, "digits")


@pytest.mark.parametrize("ask", [lambda run, uri: tracked_runs("study", uri, run), run_directory])
def test_the_id_of_a_run_in_a_file_that_is_no_store_is_refused_in_one_line(tmp_path, ask):
    (tmp_path / "m.db").write_bytes(b"of something else, " * 100)
    wrong = r"^--tracking-uri must be an MLflow store that can be reached. Got '.*m.db'. .* file is not a database$"
    with pytest.raises(UserError, match=wrong):
        ask("a" * 32, f"sqlite:///{tmp_path / 'm.db'}")
