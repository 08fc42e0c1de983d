"""What a direct caller of the core is told about numbers that cannot be used."""

import json
import math

import numpy as np
import pytest
import torch

from somcore import LossConfig, MapConfig, accumulate, initial_state
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


def test_numbers_of_numpy_and_torch_are_those_of_python():
    given = {"capacity": np.int64(5), "bmu_rate": np.float32(0.1), "relevance_slope": torch.tensor(0.25)}
    config = MapConfig(**given, noise_filter=np.True_, fallback=np.str_("threshold"))
    same = MapConfig(
        capacity=5, bmu_rate=float(np.float32(0.1)), relevance_slope=0.25, noise_filter=True, fallback="threshold"
    )
    assert config == same and json.dumps(config.to_dict()) == json.dumps(same.to_dict()) and repr(config) == repr(same)
    assert repr(LossConfig(pull_weight=np.float64(0.5))) == repr(LossConfig(pull_weight=0.5))
    for wrong in (np.float64(5.0), np.True_, np.array([5, 6]), np.array([5]), torch.ones(2)):
        with pytest.raises(ValueError, match=r"^capacity must be a whole number in \[1, 16384\]"):
            MapConfig(capacity=wrong)
    for wrong in (np.float32("nan"), np.int8(-1), np.array([0.1, 0.2]), torch.zeros(2)):
        with pytest.raises(ValueError, match=r"^pull_weight must be a number in \[0, inf\)"):
            LossConfig(pull_weight=wrong)
    with pytest.raises(ValueError, match=r"^activation_threshold must be a number in \(0, 1\) \| auto"):
        MapConfig(activation_threshold=np.array([0.5, 0.9]))
