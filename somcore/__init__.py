"""Growing, relevance-learning self-organizing maps: the mathematics, alone or as the last layer of a network."""

from importlib import import_module
from typing import Any

from somcore.config import UNLABELLED, MapConfig
from somcore.fixed_point import fixed_point_scale
from somcore.initial import initial_indices, initial_state
from somcore.matching import (
    Match,
    activations,
    class_probabilities,
    match,
    predict_classes,
    predict_nodes,
    subspace_members,
)
from somcore.sampling import hash_uniform, sample_indices
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.threshold import pair_histogram, threshold_from_histogram
from somcore.update import accumulate, advance, empty_statistics, round_scale

__version__ = "0.1.0"

# Loaded on first use: the estimators bring scikit-learn with them, the layer is for networks only.
_LAZY = dict.fromkeys(("KohonenSOM", "DSSOM", "LARFDSSOM", "SSSOM", "ALTSSSOM"), "somcore.estimators")
_LAZY |= {"LossConfig": "somcore.loss_config", "SOMLayer": "somcore.layer"}

__all__ = [
    "UNLABELLED",
    "BatchStatistics",
    "MapConfig",
    "MapState",
    "Match",
    "accumulate",
    "activations",
    "advance",
    "class_probabilities",
    "empty_statistics",
    "fixed_point_scale",
    "hash_uniform",
    "initial_indices",
    "initial_state",
    "match",
    "pair_histogram",
    "predict_classes",
    "predict_nodes",
    "round_scale",
    "sample_indices",
    "subspace_members",
    "threshold_from_histogram",
    *sorted(_LAZY),
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'somcore' has no attribute '{name}'")
