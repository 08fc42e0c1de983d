"""`jobs.evaluate`: the scores of a trained model again, from its directory or from MLflow."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from jobs.evaluate import evaluate as command
from jobs.results import results
from pipeline.errors import UserError
from pipeline.predictor import Predictor
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.serving.model import model_directory
from pipeline.serving.predict import predict
from pipeline.serving.trained import evaluate_run
from pipeline.sources import SourceOptions, open_source
from pipeline.tracking.result_rows import about_best
from pipeline.tracking.results import kept_of
from pipeline.training.trainer import train
from tests.raw_files import write_wav
from tests.training import REPOSITORY, small, table

SCORES = ("accuracy", "clustering_accuracy", "nmi", "ari", "purity", "quantization_error", "topographic_error")


@pytest.fixture(scope="module")
def trained(digits, migrated_store, tmp_path_factory):
    """A recorded run of SS-SOM on digits."""
    folder = tmp_path_factory.mktemp("evaluated")
    uri = f"sqlite:///{shutil.copy(migrated_store, folder / 'mlflow.db')}"
    return train(small("sssom", digits, tracking__uri=uri), folder / "run"), folder / "run", uri


def test_the_command_says_what_the_training_said(trained, digits):
    summary, out, _ = trained
    done = subprocess.run(
        [sys.executable, "-m", "jobs.evaluate", "--run", str(out), "--data", str(digits), "--json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    assert {name: scores[name] for name in SCORES} == {name: summary[name] for name in SCORES}
    assert (scores["split"], scores["rows"], scores["map_digest"]) == ("test", 359, summary["map_digest"])
    assert scores["topographic_error"] is None
    assert "accuracy" in done.stdout.splitlines()[7]


@pytest.mark.parametrize(("classes", "told"), [("01", None), ("0-", "labelled_rows        6\n")], ids=["all", "some"])
def test_rows_without_a_class_are_told_where_there_are_some(tmp_path, capsys, classes, told):
    features = np.arange(24.0).reshape(12, 2)
    data = table(tmp_path / "t", features, np.array([*classes] * 6), unlabelled_value="-" if told else None)
    train(small("sssom", data, train__labelled_fraction=1.0), tmp_path / "run")
    scores = command(str(tmp_path / "run"), None, None, None)
    assert (scores["rows"], scores["labelled_rows"]) == (12, 6 if told else 12)
    said = capsys.readouterr().out
    assert (told in said) if told else ("labelled" not in said)


def test_rows_without_a_class_change_no_score_of_the_others(tmp_path, rng):
    labels = np.where(np.arange(40) < 30, np.arange(40) % 2, -1)
    features = rng.normal(np.arange(40)[:, None] % 2, 0.1, (40, 2))
    data = table(tmp_path / "all", features, labels)
    train(small("sssom", data, train__labelled_fraction=1.0), tmp_path / "run")
    known = table(tmp_path / "known", features[:30], labels[:30])
    more, only = (evaluate_run(str(tmp_path / "run"), place, "train") for place in (data, known))
    assert (more["rows"], only["rows"]) == (40, 30)
    for name in ("accuracy", "nmi", "ari", "purity"):
        assert more[name] == only[name], name


@pytest.mark.parametrize("model", ["sssom", "larfdssom"])
def test_a_class_that_does_not_occur_in_the_data_changes_no_score(tmp_path, rng, model):
    """The others are found by their names: dog is 1 to the model, and 0 to data without cats."""
    truth = np.array(["cat", "dog", "eel"])[np.arange(90) % 3]
    features = rng.normal(np.arange(90)[:, None] % 3, 0.05, (90, 2))
    data = table(tmp_path / "all", features, truth)
    train(small(model, data, train__labelled_fraction=1.0), tmp_path / "run")
    chosen = truth != "cat"
    fewer = table(tmp_path / "fewer", features[chosen], truth[chosen])
    assert Dataset.open(fewer).class_names == ("dog", "eel")
    scores = evaluate_run(str(tmp_path / "run"), fewer, None)
    assert scores["rows"] == 60 and scores["accuracy"] == (1.0 if model == "sssom" else None) and scores["purity"] == 1


def test_a_run_is_found_by_its_id(trained):
    summary, _, uri = trained
    scores = evaluate_run(summary["run_id"], None, "train", uri)
    assert scores["rows"] == 1438
    assert scores["map_digest"] == summary["map_digest"]
    assert scores["accuracy"] > 0.5


def test_the_best_run_is_scored_by_its_command_from_any_directory(digits, migrated_store, tmp_path, monkeypatch):
    monkeypatch.chdir(digits.parent)
    uri = f"sqlite:///{shutil.copy(migrated_store, tmp_path / 'mlflow.db')}"
    settings = small("sssom", digits, tracking__uri=uri, map__epochs=1, tracking__report=False)
    train(settings | {"data.path": digits.name}, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    run = results(best=True, tracking_uri=uri)
    kept = kept_of(run["run_id"], uri)
    command = about_best(run, "accuracy", "accuracy", kept, uri)["The best run"]["evaluate"]
    with pytest.raises(UserError, match="give --data"):  # the run names it as it was typed
        evaluate_run(run["run_id"], None, None, uri)
    _, _, _, *options = shlex.split(command)
    asked = dict(zip(options[::2], options[1::2], strict=True))
    assert evaluate_run(asked["--run"], asked["--data"], None, asked["--tracking-uri"])["accuracy"] == run["accuracy"]
    settled = kept | {"settings": kept["settings"] | {"data.path": kept["data_place"]}}
    assert "--data" not in about_best(run, "accuracy", "accuracy", settled, uri)["The best run"]["evaluate"]


def test_a_batch_is_predicted_by_the_id_of_a_run(trained, digits, tmp_path):
    summary, out, uri = trained
    done = predict(str(model_directory(summary["run_id"], uri)), str(digits / "test"), str(tmp_path / "out"), actors=0)
    assert (done["rows"], done["scored"]) == (359, 359)
    answers, expected = pd.read_parquet(tmp_path / "out"), Predictor.load(out)(pd.read_parquet(digits / "test"))
    assert answers["class"].tolist() == expected["class"].tolist()


def test_data_that_have_moved_are_asked_for(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "before")
    train(small("sssom", tmp_path / "before"), tmp_path / "run")
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(UserError, match="is not a prepared data set.* was trained on it; give --data"):
        evaluate_run(str(tmp_path / "run"), None, None)
    with pytest.raises(UserError, match=r"nowhere is not a prepared data set[^;]*$"):
        evaluate_run(str(tmp_path / "run"), tmp_path / "nowhere", None)
    assert evaluate_run(str(tmp_path / "run"), tmp_path / "after", None)["rows"] == 359


def test_data_prepared_anew_are_refused_where_not_named(tmp_path):
    data, run = tmp_path / "data", str(tmp_path / "run")
    prepare(open_source("digits"), data, PrepareOptions())
    train(small("sssom", data), tmp_path / "run")
    said = []
    scores = evaluate_run(run, data, None, say=said.append)
    assert scores == evaluate_run(run, None, None, say=said.append) and said == []
    known = Dataset.open(data).manifest_hash
    other = open_source("digits", None, SourceOptions(seed=5, test_fraction=0.3))
    prepare(other, data, PrepareOptions(overwrite=True))
    hashes = f"Got manifest {Dataset.open(data).manifest_hash[:12]} instead of {known[:12]}"
    with pytest.raises(UserError, match=f"'{data}' must be the one that '{run}' was .*{hashes}. Name it by --data"):
        evaluate_run(run, None, None)
    assert evaluate_run(run, data, None, say=said.append)["rows"] == 539
    assert len(said) == 1 and hashes in said[0] and "may be among those that were trained on" in said[0]
    data.rename(tmp_path / "moved")
    assert evaluate_run(run, tmp_path / "moved", None, say=said.append)["rows"] == 539 and len(said) == 1


def test_what_does_not_fit_is_one_line(trained, digits, tmp_path, rng):
    _, out, uri = trained
    with pytest.raises(ValueError, match="--split must be one of train, test, which have rows. Got 'dev'"):
        evaluate_run(str(out), digits, "dev")
    other = table(tmp_path / "other", rng.random((20, 64)), 8 + np.arange(20) % 3)
    told = r"--data must be a data set with classes of the model \(0, 1, .*\). Got '10'. .* --unlabelled-value 10\.$"
    with pytest.raises(UserError, match=told):
        evaluate_run(str(out), other, None)
    narrow = table(tmp_path / "narrow", rng.random((20, 5)))
    with pytest.raises(ValueError, match="--data must be a data set of image samples of shape .* Got 'table"):
        evaluate_run(str(out), narrow, None)
    with pytest.raises(ValueError, match="--run must be the directory of a run, or its id in MLflow"):
        evaluate_run(str(tmp_path / "nothing"), digits, None)
    with pytest.raises(ValueError, match="--run must be the id of a run that MLflow knows"):
        evaluate_run("0" * 32, digits, None, uri)
    with pytest.raises(ValueError, match="must hold a trained map"):
        evaluate_run(str(tmp_path), digits, None)


def prepared(folder, frame):
    folder.mkdir()
    frame.to_csv(folder / "raw.csv", index=False)
    options = SourceOptions(label_column="y", test_fraction=0.0)
    prepare(open_source("table", folder / "raw.csv", options), folder / "data", PrepareOptions())
    return folder / "data"


def test_a_table_prepared_on_its_own_is_read_in_the_scaling_and_columns_of_the_model(tmp_path, rng):
    labels = np.arange(120) % 2
    features = rng.normal(np.stack([3 * labels, -3 * labels, 0 * labels], axis=1), 0.4)
    train(small("sssom", table(tmp_path / "a", features, labels), train__labelled_fraction=1.0), tmp_path / "run")
    frame = pd.DataFrame(features, columns=["x0", "x1", "x2"]).assign(y=labels)
    frame.loc[120] = [100.0, -100.0, 50.0, 1]  # scales all others otherwise
    expected = (Predictor.load(tmp_path / "run")(frame)["class"].astype(int) == frame["y"]).mean()
    assert expected > 0.95
    for name, other in {"same": frame, "turned": frame[["x1", "x0", "x2", "y"]]}.items():
        data = prepared(tmp_path / name, other)
        assert evaluate_run(str(tmp_path / "run"), data, None)["accuracy"] == pytest.approx(expected)
    for name, other, sentence in (
        ("fewer", frame.drop(columns="x2"), r"a data set of table samples of shape \(3,\)"),
        (
            "named",
            frame.rename(columns={"x2": "x3"}),
            "a table with the columns of the model, 'x2' too. Got 'x0, x1, x3'. Add what is missing; a category that",
        ),
    ):
        with pytest.raises(UserError, match=f"--data must be {sentence}"):
            evaluate_run(str(tmp_path / "run"), prepared(tmp_path / name, other), None)


def test_recordings_at_another_rate_are_refused_though_they_are_as_long(tmp_path, rng):
    spoken = {}
    for rate in (8000, 16000):
        (tmp_path / "words" / "yes").mkdir(parents=True, exist_ok=True)
        write_wav(tmp_path / "words" / "yes" / "a.wav", rng.integers(-9000, 9000, 8000))
        options = SourceOptions(duration_s=8000 / rate, sample_rate=rate, test_fraction=0.0)
        prepare(open_source("audio", tmp_path / "words", options), tmp_path / str(rate), PrepareOptions())
        spoken[rate] = Dataset.open(tmp_path / str(rate))
    assert spoken[8000].manifest.shape == spoken[16000].manifest.shape
    model = InputSpec.from_dict(InputSpec.of(spoken[8000].manifest).to_dict())
    assert model.seen_by_model(spoken[8000]) is spoken[8000]
    with pytest.raises(UserError, match="recordings at 8000 Hz, as the model was trained on. Got 16000. Prepare it"):
        model.seen_by_model(spoken[16000])
    for seconds, how in ((0.5, "--duration 1 --sample-rate 8000"), (1.0, None)):
        options = SourceOptions(duration_s=seconds, sample_rate=8000, test_fraction=0.0)
        prepare(open_source("audio", tmp_path / "words", options), tmp_path / f"of-{seconds}")
        other = Dataset.open(tmp_path / f"of-{seconds}")
        if how:
            with pytest.raises(
                UserError, match=rf"of shape \(8000,\), as .* Got 'audio \(4000,\)'. Prepare it with {how}"
            ):
                model.seen_by_model(other)
        else:
            assert model.seen_by_model(other) is other
    before = {name: value for name, value in model.to_dict().items() if name != "sample_rate"}
    assert InputSpec.from_dict(before).seen_by_model(spoken[16000]) is spoken[16000], "a model saved before has no rate"
