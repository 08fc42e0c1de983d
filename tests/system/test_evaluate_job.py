"""`jobs.evaluate`: the scores of a trained model again, from its directory or from MLflow."""

import json
import subprocess
import sys

import pytest

from pipeline.trained import evaluate_run
from pipeline.trainer import train
from tests.training import REPOSITORY, small, table

SCORES = ("accuracy", "clustering_accuracy", "nmi", "ari", "purity", "quantization_error", "topographic_error")


@pytest.fixture(scope="module")
def trained(digits, migrated_store, tmp_path_factory):
    """A recorded run of SS-SOM on digits."""
    import shutil

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


def test_a_run_is_found_by_its_id(trained):
    summary, _, uri = trained
    scores = evaluate_run(summary["run_id"], None, "train", uri)
    assert scores["rows"] == 1438
    assert scores["map_digest"] == summary["map_digest"]
    assert scores["accuracy"] > 0.5


def test_what_does_not_fit_is_one_line(trained, digits, tmp_path, rng):
    _, out, uri = trained
    with pytest.raises(ValueError, match="--split must be one of train, test, which have rows. Got 'dev'"):
        evaluate_run(str(out), digits, "dev")
    other = table(tmp_path / "other", rng.random((20, 64)), rng.integers(0, 3, 20))
    with pytest.raises(ValueError, match="--data must be a data set with the classes of the model"):
        evaluate_run(str(out), other, None)
    narrow = table(tmp_path / "narrow", rng.random((20, 5)))
    with pytest.raises(ValueError, match="--data must be a data set with 64 features, as the model. Got 5"):
        evaluate_run(str(out), narrow, None)
    with pytest.raises(ValueError, match="--run must be the directory of a run, or its id in MLflow"):
        evaluate_run(str(tmp_path / "nothing"), digits, None)
    with pytest.raises(ValueError, match="--run must be the id of a run that MLflow knows"):
        evaluate_run("0" * 32, digits, None, uri)
    with pytest.raises(ValueError, match="must hold a trained map"):
        evaluate_run(str(tmp_path), digits, None)
