"""`make demo`, the first command of a new user, on two Ray workers, and a second time; at three of its fractions."""

import json
import shutil
import signal
import subprocess
import sys

import pytest

from tests.training import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FRACTIONS = ("--fractions", "0.01,0.1,1")


def demo(out, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.demo", "--out", str(out), *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(out, *words):
    """The table of a demo."""
    process = demo(out, "--json", *FRACTIONS, *words)
    said, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    return json.loads(said.splitlines()[-1])["rows"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A demo that was interrupted in its second training, then run to its end."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    process = demo(out, *FRACTIONS)
    for line in process.stderr:
        if " labels 1% " in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    return rows(out), out


def test_accuracy_grows_with_the_labels_and_beats_the_commonest_class(shown):
    table, _ = shown
    assert [row["labelled_fraction"] for row in table] == [0.01, 0.1, 1.0]
    assert [row["labelled_rows"] for row in table] == [10, 145, 1438]
    accuracy = [row["accuracy"] for row in table]
    assert accuracy[2] > 0.95 and accuracy[2] > accuracy[1] > accuracy[0] > 0.4
    assert all(row["majority"] < 0.2 < row["accuracy"] for row in table)


def test_every_run_is_in_mlflow(shown):
    import mlflow

    table, out = shown
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    kept = {run.info.run_id: run.data.metrics["accuracy"] for run in found if run.info.status == "FINISHED"}
    assert kept == {row["run_id"]: row["accuracy"] for row in table}


def test_run_again_it_shows_the_same_without_training_again(shown):
    table, out = shown
    assert rows(out) == table  # seconds too: a training again would take others


def test_without_workers_it_gives_the_same_maps(shown, tmp_path):
    table, out = shown
    shutil.copytree(out / "data", tmp_path / "alone" / "data")
    alone = rows(tmp_path / "alone", "--workers", "0")
    assert [row["map_digest"] for row in alone] == [row["map_digest"] for row in table]


@pytest.mark.parametrize(("fractions", "got"), [("0.5,2", "2.0"), ("0", "0.0"), ("1,nan", "nan"), ("-0.1", "-0.1")])
def test_a_share_that_is_none_is_told_before_anything_is_prepared(tmp_path, fractions, got):
    process = demo(tmp_path / "demo", "--fractions", fractions)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert told.splitlines() == [f"--fractions must be in (0, 1]. Got {got}."]
    assert not (tmp_path / "demo").exists()
