"""What a direct caller of the core is told about numbers that cannot be used."""

import pytest
import torch

from somcore import MapConfig, accumulate, initial_state

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
    with pytest.raises(ValueError, match=rf"within the bound given to the scale \(1\). Got {value} in row 0"):
        statistics([[float(value), 0.2]])
