"""The calibrated threshold against exact quantiles over all pairs."""

import pytest
import torch

from somcore.config import MapConfig
from somcore.threshold import (
    DEFAULT_THRESHOLD,
    NUM_TILES,
    TILE_ROWS,
    calibrated,
    calibration_tiles,
    pair_histogram,
    threshold_from_histogram,
)


def _rho(threshold: float) -> float:
    return (1 - threshold) / threshold


@pytest.mark.parametrize("quantile", [0.02, 0.05, 0.25, 0.5])
def test_close_to_the_exact_quantile_of_all_pairs(quantile: float) -> None:
    features = torch.rand(300, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = torch.quantile(torch.pdist(features).square() / 5, quantile)
    found = _rho(threshold_from_histogram(pair_histogram(features), quantile))
    assert found == pytest.approx(float(exact), rel=0.05)


def test_every_pair_of_a_small_tile_is_counted_once() -> None:
    assert int(pair_histogram(torch.rand(65, 2)).sum()) == 65 * 64 // 2
    features = torch.tensor([[0.0], [1.0], [3.0]])  # squares 1, 4, 9: bins 4 * (32 + log2)
    assert pair_histogram(features).nonzero().squeeze(1).tolist() == [128, 136, 140]


def test_histograms_add_up_and_order_of_tiles_is_irrelevant() -> None:
    parts = torch.rand(3, 40, 4, generator=torch.Generator().manual_seed(1))
    forward = sum((pair_histogram(part) for part in parts), torch.zeros(256, dtype=torch.int64))
    backward = sum((pair_histogram(part) for part in parts.flip(0)), torch.zeros(256, dtype=torch.int64))
    assert torch.equal(forward, backward)
    half = threshold_from_histogram(pair_histogram(parts[0]), 0.1)
    assert threshold_from_histogram(forward, 0.1) != half


def test_scaling_features_scales_the_threshold() -> None:
    features = torch.rand(100, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one = _rho(threshold_from_histogram(pair_histogram(features), 0.1))
    two = _rho(threshold_from_histogram(pair_histogram(features * 2), 0.1))
    assert two == pytest.approx(4 * one, rel=1e-9)


def test_missing_values_take_no_part() -> None:
    features = torch.rand(50, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    padded = torch.cat([features, torch.full((50, 2), torch.nan, dtype=torch.float64)], dim=1)
    assert torch.equal(pair_histogram(features), pair_histogram(padded))
    features[7] = torch.nan
    assert int(pair_histogram(features).sum()) == 50 * 49 // 2 - 49


def test_equal_samples_take_no_part() -> None:
    features = torch.rand(60, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    blank = torch.zeros(30, 3, dtype=torch.float64)
    assert int(pair_histogram(torch.cat([features, blank])).sum()) < 90 * 89 // 2 - 30 * 29 // 2
    assert pair_histogram(blank).sum() == 0
    among = _rho(threshold_from_histogram(pair_histogram(torch.cat([features, blank])), 0.05))
    assert among > 0.2 * _rho(threshold_from_histogram(pair_histogram(features), 0.05))


def test_degenerate_data_gives_a_valid_threshold() -> None:
    assert threshold_from_histogram(pair_histogram(torch.zeros(1, 3)), 0.05) == DEFAULT_THRESHOLD
    assert threshold_from_histogram(pair_histogram(torch.zeros(0, 3)), 0.05) == DEFAULT_THRESHOLD
    assert threshold_from_histogram(pair_histogram(torch.ones(20, 3)), 0.05) == DEFAULT_THRESHOLD
    large = threshold_from_histogram(pair_histogram(torch.arange(20.0).reshape(20, 1) * 1e9), 0.05)
    assert 0 < large < 1e-9


def test_calibration_tiles_are_the_start_of_the_epoch() -> None:
    assert torch.equal(torch.cat(calibration_tiles(1000)), torch.arange(1000))
    tiles = calibration_tiles(1_000_000)
    assert len(tiles) == NUM_TILES and torch.equal(torch.cat(tiles), torch.arange(NUM_TILES * TILE_ROWS))


def test_calibrated_replaces_auto_only() -> None:
    histogram = pair_histogram(torch.rand(50, 3))
    auto = MapConfig(variant="sssom").resolve(num_samples=50, num_features=3, num_classes=2)
    expected = threshold_from_histogram(histogram, 0.25)
    assert calibrated(auto, histogram).activation_threshold == expected
    for fixed in (MapConfig(variant="sssom", activation_threshold=0.8), MapConfig(variant="altsssom")):
        resolved = fixed.resolve(num_samples=50, num_features=3, num_classes=2)
        assert calibrated(resolved, histogram) == resolved


def test_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"threshold_quantile must be in \(0, 1\)\. Got 1\.0\."):
        threshold_from_histogram(torch.ones(256, dtype=torch.int64), 1.0)
    with pytest.raises(ValueError, match="histogram must have shape"):
        threshold_from_histogram(torch.ones(10, dtype=torch.int64), 0.5)
