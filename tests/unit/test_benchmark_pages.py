"""What pages of measurements claim: no more than was measured."""

import json
import subprocess

import pytest

from pipeline.benchmarks import batch_speed, memory_use, tracking_cost

SPREAD = {"min": 1.0, "median": 2.0, "max": 3.0}
MACHINE = {"cpus": 2, "threads": 1, "load": 0.1, "torch": "2"}


def test_tracking_costs_a_sweep_what_the_whole_sweep_takes_longer(tmp_path, monkeypatch):
    def swept(words, **_):
        seconds = 10.0 if "none" in words else 11.0
        rows = [{"seconds": 5.0}] * 4  # two at a time: they add up to twice the sweep
        return subprocess.CompletedProcess(words, 0, json.dumps({"seconds": seconds, "rows": rows}), "")

    monkeypatch.setattr(tracking_cost.subprocess, "run", swept)
    found = tracking_cost._sweeps(tmp_path, "http://store", 1, 3, 4, lambda line: None)
    assert found["cost"] == pytest.approx(0.1) and found["trial_seconds"] == 5


@pytest.mark.parametrize(
    ("maps", "claim"),
    [
        (["fastersom"], "somgrad is 2.00 (1.00 to 3.00) times as fast as fastersom; target"),
        (["fastersom", "xpysom"], "times as fast as fastersom, the fastest of fastersom, xpysom; target"),
    ],
)
def test_speed_is_claimed_over_the_maps_that_were_measured(maps, claim):
    result = {"methods": {name: {"seconds": SPREAD} for name in ("somgrad", *maps, "floor")}, "absent": [], "epochs": 1}
    result |= {"machine": MACHINE, "fastest_peer": "fastersom", "speedup": SPREAD}
    assert claim in batch_speed.markdown(result, "the command")


def test_rows_per_second_stand_beside_the_seconds_that_they_are_over():
    result = {"num_samples": 1000, "num_features": 8, "data_gb": 1.0, "private_gb": [0.1], "resident_gb": [0.2]}
    result |= {"rounds": 5, "seconds": 30.0, "rounds_seconds": 20.0, "prepare_seconds": 1.0, "unpack_seconds": 1.0}
    result |= {"rates": {"disk": 60.0, "gemm": 100.0, "trained": 50.0}, "machine": MACHINE}
    page = memory_use.markdown(result, "the command")
    assert "5 rounds in 20 s, the whole training, with its start and its final scores, in 30 s" in page
    assert "Rows per second of the rounds: 50 trained" in page
