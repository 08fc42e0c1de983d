"""One trial: done once, begun again where its process ended, given up where it ends its process twice."""

import json

import pytest

from pipeline.errors import Collapsed, Diverged
from pipeline.sweeps import trials
from pipeline.sweeps.trials import Trial, TrialDirectory, row_of, run_trial, settled, stop_trial
from pipeline.tracking.journal import Journal
from tests.training import small


@pytest.fixture
def trial(digits):
    settings = small("sssom", digits, train__validation_fraction=0.2, map__epochs=1, map__pruning_epochs=0.5)
    return Trial("digits-p0", "digits", 0.3, 0, 0, {"map.epochs": 1}, settings)


def test_a_finished_trial_is_not_repeated(trial, tmp_path):
    epochs: list[int] = []
    first = run_trial(trial, tmp_path, "a", lambda epoch, *_: epochs.append(epoch))
    assert first["status"] == "finished" and first["attempts"] == 1 and epochs
    assert not (tmp_path / trial.key / "checkpoints").exists(), "nobody goes on with it"
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
    assert record["status"] == "failed" and "is not a prepared data set" in record["error"] and record["fixable"]
    lines = Journal(tmp_path / "broken").lines()
    assert [line["kind"] for line in lines] == ["start", "end"] and lines[-1]["status"] == "FAILED"


def test_a_fault_is_tried_once_more_from_a_clean_directory(trial, tmp_path):
    """A directory where the journal belongs is a fault of the machine, as far as the trial can tell."""
    folder = tmp_path / trial.key
    (folder / "tracking.jsonl").mkdir(parents=True)
    record = run_trial(trial, tmp_path, "a")
    assert record["status"] == "finished" and record["attempts"] == 2
    assert json.loads((folder / "trial.json").read_text()) == record


def test_what_failed_for_a_passing_reason_is_tried_again_in_the_next_sitting_only(trial, tmp_path):
    away = tmp_path / "away"
    asked = Trial("t", "x", 0.3, 0, 0, {}, {**trial.settings, "data.path": str(away)})
    failed = run_trial(asked, tmp_path, "a")
    assert failed["status"] == "failed" and not settled(failed)
    away.symlink_to(trial.settings["data.path"], target_is_directory=True)
    assert run_trial(asked, tmp_path, "a") == failed, "not within the same sitting"
    again = run_trial(asked, tmp_path, "b")
    assert (again["status"], again["attempts"], again["error"]) == ("finished", 1, None)
    alone = run_trial(Trial("alone", "x", 0.3, 0, 0, {}, trial.settings), tmp_path, "a")
    assert again["summary"]["map_digest"] == alone["summary"]["map_digest"]


@pytest.mark.parametrize("kind", [Collapsed, Diverged])
def test_a_training_that_would_end_the_same_way_is_not_repeated(trial, tmp_path, monkeypatch, kind):
    calls: list[str] = []

    def ends(*_):
        calls.append("")
        raise kind("its representation has gone", round=3)

    monkeypatch.setattr(trials, "_train", ends)
    failed = run_trial(trial, tmp_path, "a")
    assert failed["status"] == "failed" and settled(failed)
    assert run_trial(trial, tmp_path, "b") == failed and len(calls) == 1


def test_an_attempt_that_fails_keeps_a_record_that_was_sent(trial, tmp_path, monkeypatch):
    """MLflow knows it by the position; begun anew it would be another run, or clash with the parameters there."""
    directory = TrialDirectory(tmp_path / trial.key)
    directory.write(status="failed", error="OSError: full", sitting="a")
    Journal(directory.path).write("start", name="t", params={}, tags={})
    (directory.path / "tracking.json").write_text("{}")
    (directory.path / "rest").write_text("of an attempt")

    def ends(*_):
        raise OSError("still full")

    monkeypatch.setattr(trials, "_train", ends)
    record = run_trial(trial, tmp_path, "b")
    assert record["attempts"] == 2 and not record["fixable"]
    assert [line["kind"] for line in Journal(directory.path).lines()] == ["start", "end"]
    assert (directory.path / "tracking.json").exists() and not (directory.path / "rest").exists()


def test_a_stopped_trial_keeps_its_last_score(trial, tmp_path):
    TrialDirectory(tmp_path / trial.key).write(status="running")
    (tmp_path / trial.key / "checkpoints").mkdir()
    assert stop_trial(trial, tmp_path, {"validation_accuracy": 0.4})["status"] == "stopped"
    assert run_trial(trial, tmp_path, "b")["summary"] == {"validation_accuracy": 0.4}
    assert not (tmp_path / trial.key / "checkpoints").exists()
    end = Journal(tmp_path / trial.key).lines()[-1]
    assert (end["status"], end["tags"]) == ("KILLED", {"stopped_early": "true"})
