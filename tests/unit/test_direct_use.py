"""What a direct caller of the core is told about numbers that cannot be used."""

import math

import pytest
import torch

from somcore import MapConfig, accumulate, initial_state
from somcore.fixed_point import EXACT_ROWS, error_scale, fixed_point_scale

CONFIG = MapConfig(variant="sssom", activation_threshold=0.9)


def statistics(features: list[list[float]], scale: int = 40, **settings):
    config = MapConfig(variant="sssom", activation_threshold=0.9, **settings)
    config = config.resolve(num_samples=len(features), num_features=2, num_classes=2)
    return accumulate(initial_state(config, 2, 2), torch.tensor(features), None, config, scale=scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_named(value):
    with pytest.raises(ValueError, match=r"must be finite. Row 1 of the tile, feature 0 is"):
        statistics([[0.1, 0.2], [value, 0.3]])


def test_an_infinite_value_is_not_a_missing_one():
    with pytest.raises(ValueError, match="must be finite"):
        statistics([[0.1, float("inf")]], missing="mask")


def test_a_sample_without_any_value_is_named():
    with pytest.raises(ValueError, match="Row 1 of the tile has none"):
        statistics([[0.1, 0.2], [float("nan")] * 2], missing="mask")


@pytest.mark.parametrize("value", [3, -3])
def test_a_sample_beyond_the_bound_of_the_scale_is_named(value):
    with pytest.raises(ValueError, match=rf"within the bound that the sums are made for \(1\). Got {value} in row 0"):
        statistics([[float(value), 0.2]])


@pytest.mark.parametrize("num_features", [1, 3, 64, 1000])
@pytest.mark.parametrize("num_samples", [1, 512, 2**30])
def test_sums_of_the_largest_values_and_distances_fit(num_samples, num_features):
    scale = fixed_point_scale(1.0, num_samples)
    of_errors = error_scale(scale, num_features)
    for largest, bits in ((1.0, scale), (2 * math.sqrt(num_features), of_errors)):
        assert EXACT_ROWS * largest * 2.0**bits <= 2**53 and num_samples * largest * 2.0**bits <= 2**62
    assert of_errors > scale - math.log2(2 * math.sqrt(num_features)) - 1, "and no bit is given away"
