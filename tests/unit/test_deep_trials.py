"""The ablation of anchors and the random sets: resumable, a collapse is a result."""

import numpy as np
import pytest

from pipeline.benchmarks import deep_trials
from pipeline.benchmarks.deep_trials import RANGES, Trial, anchor_trials, markdown, random_trials, run_trials
from pipeline.config import RunConfig
from pipeline.errors import UserError
from tests.training import small, table


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
    with pytest.raises(UserError, match="train.checkpoints must be left out"):
        run_trials(trials, settings | {"train.checkpoints": "there"}, tmp_path / "new", None, pytest.fail)
    assert not (tmp_path / "new").exists()
    text = markdown(results, "Trials", "the command")
    assert "| one node | collapsed | 1.000 |" in text and "1 finished, 2 collapsed, 0 failed" in text


@pytest.mark.parametrize(("share", "ended"), [(0.6, "finished"), (0.8, "collapsed")])
def test_trials_are_judged_by_the_limits_of_their_training(rng, tmp_path, monkeypatch, share, ended):
    data = table(tmp_path / "two", rng.random((40, 4)), np.arange(40) % 2)

    def trained(flat, directory, resume, on_epoch):
        on_epoch(1, 1, {"largest_share": share, "effective_nodes": 3.0, "embedding_rank": 1.5, "mean_std": 0.1})
        return {}

    monkeypatch.setattr(deep_trials, "train", trained)
    settings = small("deep", data, map__epochs=1, encoder__name="mlp", encoder__dim=8)
    (result,) = run_trials([Trial("two classes", {})], settings, tmp_path / "out", None, lambda line: None)
    assert result["ended"] == ended, "of two classes a node may have three quarters of the samples"
