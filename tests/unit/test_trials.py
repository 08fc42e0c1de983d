"""One trial: done once, begun again where its process ended, given up where it ends its process twice."""

import json

import pytest

from pipeline.journal import Journal
from pipeline.trials import Trial, TrialDirectory, row_of, run_trial, stop_trial
from tests.training import small


@pytest.fixture
def trial(digits):
    settings = small("sssom", digits, train__validation_fraction=0.2, map__epochs=1, map__pruning_epochs=0.5)
    return Trial("digits-p0", "digits", 0.3, 0, 0, {"map.epochs": 1}, settings)


def test_a_finished_trial_is_not_repeated(trial, tmp_path):
    epochs: list[int] = []
    first = run_trial(trial, tmp_path, "a", lambda epoch, *_: epochs.append(epoch))
    assert first["status"] == "finished" and first["attempts"] == 1 and epochs
    heard = len(epochs)
    assert run_trial(trial, tmp_path, "b", lambda epoch, *_: epochs.append(epoch)) == first
    assert len(epochs) == heard
    row = row_of(trial, first)
    assert row["map.epochs"] == 1 and row["validation_accuracy"] > 0.3 and row["accuracy"] > 0.3


def test_a_trial_that_ends_its_process_twice_in_one_sitting_has_failed(trial, tmp_path):
    TrialDirectory(tmp_path / trial.key).write(status="running", attempts=2, sitting="a")
    assert run_trial(trial, tmp_path, "a")["status"] == "failed"


def test_a_sweep_that_was_killed_is_no_fault_of_the_trial(trial, tmp_path):
    TrialDirectory(tmp_path / trial.key).write(status="running", attempts=2, sitting="a")
    assert run_trial(trial, tmp_path, "b")["status"] == "finished"


def test_an_error_of_the_trial_stays_with_it_and_is_recorded(trial, tmp_path):
    broken = Trial("broken", "x", 1.0, 0, 0, {}, {**trial.settings, "data.path": str(tmp_path / "nothing")})
    record = run_trial(broken, tmp_path, "a")
    assert record["status"] == "failed" and "is not a prepared data set" in record["error"]
    lines = Journal(tmp_path / "broken").lines()
    assert [line["kind"] for line in lines] == ["start", "end"] and lines[-1]["status"] == "FAILED"


def test_a_fault_is_tried_once_more_from_a_clean_directory(trial, tmp_path):
    """A directory where the journal belongs is a fault of the machine, as far as the trial can tell."""
    folder = tmp_path / trial.key
    (folder / "tracking.jsonl").mkdir(parents=True)
    record = run_trial(trial, tmp_path, "a")
    assert record["status"] == "finished" and record["attempts"] == 2
    assert json.loads((folder / "trial.json").read_text()) == record


def test_a_stopped_trial_keeps_its_last_score(trial, tmp_path):
    TrialDirectory(tmp_path / trial.key).write(status="running")
    assert stop_trial(trial, tmp_path, {"validation_accuracy": 0.4})["status"] == "stopped"
    assert run_trial(trial, tmp_path, "b")["summary"] == {"validation_accuracy": 0.4}
