"""What is said of a growing map that had no room to grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from somcore.config import MapConfig

_OFTEN = 0.1  # share of the rounds


def capacity_advice(config: MapConfig, given: Mapping[str, Any], full: int, rounds: int) -> str | None:
    """What to do where the capacity, not the data, decided how many nodes there are; None where it did not.

    Args:
        config: resolved hyper-parameters.
        given: those that the user has set.
        full: rounds in which samples asked for a node and none was free.
        rounds: of the whole training.

    Example:
        >>> config = MapConfig(variant="altsssom").resolve(num_samples=100, num_features=4)
        >>> capacity_advice(config, {}, 5, 100) is None
        True
        >>> capacity_advice(config, {}, 80, 100).split(": ")[0]
        'Growth had no free node in 80 of 100 rounds'
    """
    if full < _OFTEN * rounds:
        return None
    if config.has_boxes:  # each node has a threshold of its own
        remedy = "Raise map.capacity"
    elif given.get("activation_threshold", "auto") == "auto":
        remedy = (
            f"Raise map.threshold_quantile ({config.threshold_quantile:g}), so that nodes are larger, or map.capacity"
        )
    else:
        remedy = "Lower map.activation_threshold, so that nodes are larger, or raise map.capacity"
    return (
        f"Growth had no free node in {full:,} of {rounds:,} rounds: map.capacity ({config.capacity}) decided what "
        f"became a node, and another seed may give other nodes. {remedy}."
    )
