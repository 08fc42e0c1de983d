"""What pages of measurements claim: no more than was measured."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from pipeline.benchmarks import batch_speed, memory_use, shared, soak, tracking_cost
from pipeline.benchmarks.uci import bars, markdown
from pipeline.benchmarks.uci.protocols import Summary

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


def test_the_median_of_two_recoveries_lies_between_them():
    kills = [{"fault": "driver", "recovery_s": seconds, "repeated": 1} for seconds in (2.0, 10.0)]
    models = {"sssom": {"rounds": 9, "runs": 1, "kills": kills, "equal": 1}}
    page = soak.markdown({"models": models, "workers": 3, "interval": 10, "machine": MACHINE}, "the command")
    assert "| sssom | driver | 2 | 6.0 | 10.0 | 1 |" in page


def test_comparisons_that_pass_are_counted_like_those_that_do_not(monkeypatch):
    scores = {("a", 1): 0.5, ("b", 1): 0.9, ("a", 5): 0.5, ("b", 5): 0.5}

    def honest(store, request, line, table, fraction, number=None):
        ours = scores[table, fraction] if line == "map" else 0.6
        return SimpleNamespace(summary=Summary.of([ours - 0.01, ours, ours + 0.01]), sets=1)

    monkeypatch.setattr(bars.results, "honest", honest)
    request = SimpleNamespace(tables=("a", "b"), fractions=(1, 5))
    for found in (
        bars.published_bars(None, request, "map", dict.fromkeys(scores, 0.6), "it beats"),
        bars.baseline_bars(None, request, "map", "other", "it beats"),
    ):
        assert len(found) == 6 and sum(bar.passed for bar in found) == 2
        assert markdown.verdicts(found).startswith("2 of 6 comparisons pass, 1 of the 2 averages. Missed:")


def test_a_measurement_replaces_its_own_section_of_a_page_and_no_other(tmp_path):
    page, out = tmp_path / "elastic.md", tmp_path / "runs"
    text = "# Elastic\n\nBy hand.\n\n## More by hand\n\nkept\n\n## Scaling\n\n{}\n\n## Memory of a worker\n\nkept\n"
    page.write_text(text.format("old"))
    shared.publish("scaling", {"rates": 1}, "## Scaling\n\nnew", out, page)
    assert page.read_text() == text.format("new")
    shared.publish("soak-sssom", {}, "## Soak: kills at random times, sssom\n\nfirst", out, page)
    assert page.read_text() == text.format("new") + "\n## Soak: kills at random times, sssom\n\nfirst\n"
    shared.publish("scaling", {}, "## Scaling\n\nnew", out, None)
    assert (out / "elastic.md").read_text().startswith("# Elastic: kills, scaling, memory\n\nGenerated")
