"""The study of representations: measures in their ranges, relevances of known maps."""

import dataclasses

import pytest
import torch

from pipeline.benchmarks.paths import path_measures, probe_decoder
from pipeline.benchmarks.representation import markdown, relevance_measures, study
from pipeline.deep.sample_shape import SampleShape
from pipeline.prepared.shards import Dataset
from pipeline.training.trainer import train
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


def test_paths_of_known_decoders():
    real, ends = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [9.0]])
    even = path_measures(lambda features: features, ends, real)
    assert even["path_jump"] == pytest.approx(1.0, abs=1e-5)
    distances = [min(value, 10 - value) for value in (1 + 0.5 * step for step in range(1, 16))]
    assert even["path_distance"] == pytest.approx(sum(distances) / 15)
    leap = path_measures(lambda features: torch.where(features < 5.1, 1.0, 9.0), ends, real)
    assert leap["path_jump"] == pytest.approx(16.0) and leap["path_distance"] == pytest.approx(1.0)


def test_a_probe_decoder_gives_back_what_the_features_say(digits):
    samples = Dataset.open(digits).read("train", slice(0, 600))[0]
    features = samples @ torch.linalg.svd(samples, full_matrices=False).Vh[:16].T
    decoder = probe_decoder(features, samples, SampleShape.of(Dataset.open(digits).manifest))
    with torch.no_grad():
        error = float((decoder(features) - samples).square().mean())
    assert error < 0.6 * float((samples - samples.mean(0)).square().mean())


def test_a_study_of_a_small_run(digits, tmp_path):
    changes = {"map__epochs": 4, "encoder__width": 8, "encoder__dim": 8, "train__evaluate_epochs": 0}
    train(small("deep", digits, **changes), tmp_path / "run")
    results = study(tmp_path / "run", 300, True, lambda line: None)
    assert set(results) == {"samples", "deep map", "labels alone"}
    for values in results.values():
        assert all(-1 <= value <= 1 for name, value in values.items() if not name.startswith("path"))
        assert 1 <= values["path_jump"] < 16 and values["path_distance"] > 0
    assert results["samples"]["path_jump"] == pytest.approx(1.0, abs=1e-3)  # a blend changes evenly
    assert results["samples"]["linear_probe"] > 0.85  # what logistic regression on these pixels gives
    assert results["samples"]["trustworthiness"] == pytest.approx(1.0, abs=1e-4)
    text = markdown(results, "digits", "the command")
    assert "| linear probe | " in text and "| overlap between | – |" in text
