"""What a sweep says while no trial ends."""

import pytest

from pipeline.sweeps.trials import Trial
from pipeline.sweeps.waiting import Waiting
from pipeline.training.trainer import train
from tests.training import small


def trial(key):
    return Trial(key=key, data="d", labelled_fraction=1.0, seed=0, index=0)


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("pipeline.sweeps.waiting.time.monotonic", lambda: now[0])
    return now


def test_a_sweep_tells_how_far_its_trials_are_while_none_ends(clock, digits, tmp_path):
    rounds = train(small("sssom", digits, train__checkpoint_rounds=1), tmp_path / "a")["rounds"]
    said = []
    waiting, portions = Waiting(tmp_path, said.append), [[trial("a"), trial("b")], [trial("c")]]
    for passed in (1, 58, 2, 30, 28, 2):
        clock[0] += passed
        waiting.running(portions)
    assert said == [
        f"No trial has ended for {after}. Running: a (round {rounds} of about {rounds}), c (beginning)."
        for after in ("61 s", "2 min")
    ]
    waiting.ended("a")
    clock[0] += 59
    waiting.running(portions)
    clock[0] += 1
    waiting.running(portions)
    assert said[2:] == ["No trial has ended for 60 s. Running: b (beginning), c (beginning)."]


def test_of_many_trials_three_are_named(clock, tmp_path):
    said = []
    waiting = Waiting(tmp_path, said.append)
    clock[0] += 600
    waiting.running([[trial(str(number))] for number in range(10)])
    assert said == ["No trial has ended for 10 min. Running: 0 (beginning), 1 (beginning), 2 (beginning) and 7 more."]
