"""The study of representations: measures in their ranges, relevances of known maps."""

import dataclasses

import pytest
import torch

from pipeline.benchmarks.representation import markdown, relevance_measures, study
from pipeline.trainer import train
from somcore.state import blank_state
from tests.training import small


def test_relevances_of_a_known_map():
    state = blank_state(4, 2, 2)
    relevances = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    alive = torch.tensor([True, True, True, False])
    state = dataclasses.replace(state, relevances=relevances, alive=alive, classes=torch.tensor([0, 0, 1, -1]))
    measured = relevance_measures(state)
    assert measured["overlap_within"] == pytest.approx(1.0) and measured["overlap_between"] == pytest.approx(0.0)
    assert measured["relevance_mean"] == pytest.approx(0.5) and measured["relevant_share"] == pytest.approx(0.5)


def test_a_study_of_a_small_run(digits, tmp_path):
    changes = {"map__epochs": 4, "encoder__width": 8, "encoder__dim": 8, "train__evaluate_epochs": 0}
    train(small("deep", digits, **changes), tmp_path / "run")
    results = study(tmp_path / "run", 300, True, lambda line: None)
    assert set(results) == {"samples", "deep map", "labels alone"}
    for values in results.values():
        assert all(-1 <= value <= 1 for value in values.values())
    assert results["samples"]["linear_probe"] > 0.85  # what logistic regression on these pixels gives
    assert results["samples"]["trustworthiness"] == pytest.approx(1.0, abs=1e-4)
    text = markdown(results, "digits", "the command")
    assert "| linear probe | " in text and "| overlap between | – |" in text
