"""The specification as code: every map in plain NumPy loops and floats, written to be read, not to be fast.

`online_step` and `lattice_online_step` follow the step descriptions; `superstep` and `lattice_superstep` the
batch form. `train_round` picks the one a configuration asks for: anything with the fields of a resolved
`somcore.MapConfig`. Nothing here imports somcore.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import Map, empty_map
from .lattice import lattice_online_step, lattice_superstep
from .online import online_step
from .superstep import superstep

__all__ = [
    "Map",
    "empty_map",
    "lattice_online_step",
    "lattice_superstep",
    "online_step",
    "superstep",
    "train_round",
]


def train_round(
    m: Map,
    samples: np.ndarray,
    labels: np.ndarray,
    config: Any,
    weights: np.ndarray | None = None,
    positions: np.ndarray | None = None,
) -> Map:
    """One round of any variant, in its batch form."""
    if config.variant in ("kohonen", "dssom"):
        return lattice_superstep(m, samples, config, weights)
    return superstep(m, samples, labels, config, weights, positions)
