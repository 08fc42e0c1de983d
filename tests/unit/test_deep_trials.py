"""The ablation of anchors and the random sets: resumable, a collapse is a result."""

import pytest

from pipeline.benchmarks.deep_trials import RANGES, Trial, anchor_trials, markdown, random_trials, run_trials
from pipeline.config import RunConfig
from pipeline.errors import UserError
from tests.training import small


def test_random_sets_cover_their_ranges_and_build():
    trials = random_trials(20, seed=3)
    assert [t.changes for t in trials] == [t.changes for t in random_trials(20, seed=3)]
    assert trials[0].changes != random_trials(20, seed=4)[0].changes
    for name, (_, low, high) in RANGES.items():
        values = [t.changes[name] for t in trials]
        assert low <= min(values) < max(values) <= high and len(set(values)) > 15
    for trial in trials + anchor_trials():
        RunConfig.build({"data.path": "x", "train.model": "deep", **trial.changes}).loss_config(True)


def test_trials_are_kept_and_a_collapse_is_a_row(digits, tmp_path):
    settings = small("deep", digits, map__epochs=1, encoder__width=4, encoder__dim=8)
    settings["loss.relevance_warmup_rounds"] = 0
    single = {"map.capacity": 1, "map.epochs": 4}
    trials = [Trial("well", {}), Trial("one node", single), Trial("on", single | {"deep.on_collapse": "go_on"})]
    lines = []
    assert run_trials(trials, settings, tmp_path, 0.0, lines.append) == []
    results = run_trials(trials, settings, tmp_path, None, lines.append)
    assert [r["ended"] for r in results] == ["finished", "collapsed", "collapsed"]
    assert results[1]["largest_share"] == 1.0 and results[0]["accuracy"] > 0
    lines.clear()
    assert run_trials(trials, settings, tmp_path, None, lines.append) == results and lines == []
    with pytest.raises(UserError, match="--out must be new, or of the same design"):
        run_trials(trials[:2], settings, tmp_path, None, pytest.fail)
    text = markdown(results, "Trials", "the command")
    assert "| one node | collapsed | 1.000 |" in text and "1 finished, 2 collapsed, 0 failed" in text
