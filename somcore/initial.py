"""Where a map starts: empty, on samples, or on the principal plane of the data.

Axes: N samples, K nodes, D features.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.device import one_thread
from somcore.sampling import sample_indices
from somcore.state import MapState, blank_state
from somcore.topology import adjacency

_INITIALISATION_EPOCH = -1


def initial_indices(config: MapConfig, num_samples: int) -> Tensor | None:
    """Rows that a lattice starts from: K distinct ones chosen by seed (repeated if K > N); None if it needs none."""
    if config.is_growing or config.initialisation == "linear":
        return None
    assert config.rows is not None and config.columns is not None
    positions = torch.arange(config.rows * config.columns) % num_samples
    return sample_indices(config.seed, _INITIALISATION_EPOCH, positions, num_samples, "permutation")


def initial_state(
    config: MapConfig,
    num_features: int,
    num_classes: int = 0,
    *,
    samples: Tensor | None = None,
    moments: tuple[Tensor, Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> MapState:
    """The map before its first round.

    Args:
        config: resolved hyper-parameters.
        num_features: D.
        num_classes: C, 0 without labels.
        samples: (K, D), the rows of `initial_indices`; lattices with initialisation="sample".
        moments: mean (D,) and covariance (D, D) of the data; lattices with initialisation="linear".
        device: where the state lives.

    Returns:
        An empty map for growing variants; a full lattice otherwise.
    """
    if config.is_growing:
        assert config.capacity is not None
        return blank_state(config.capacity, num_features, num_classes, device)
    assert config.rows is not None and config.columns is not None
    size = config.rows * config.columns
    if config.initialisation == "linear":
        if moments is None:
            raise ValueError("moments must be given for initialisation='linear'. Got None.")
        prototypes = _plane(config.rows, config.columns, *moments)
    else:
        if samples is None or samples.shape != (size, num_features):
            got = None if samples is None else tuple(samples.shape)
            raise ValueError(f"samples must have shape {(size, num_features)} for initialisation='sample'. Got {got}.")
        prototypes = samples.to(torch.float64)
        column_mean = prototypes.nanmean(0).nan_to_num(0.0)
        prototypes = torch.where(prototypes.isnan(), column_mean, prototypes)
    state = blank_state(size, num_features, num_classes, device)
    return dataclasses.replace(
        state,
        prototypes=prototypes.to(device),
        alive=torch.ones_like(state.alive),
        neighbours=adjacency(config.rows, config.columns, config.lattice, config.toroidal).to(device),
        growing=False,
    )


@one_thread()
def _plane(rows: int, columns: int, mean: Tensor, covariance: Tensor) -> Tensor:
    """(K, D): the plane of the two leading principal axes, ± 1 standard deviation.

    The longer side of the lattice lies along the first axis. Signs: the component of largest magnitude is positive.
    """
    values, vectors = torch.linalg.eigh(covariance.to(torch.float64))
    axes = []
    for i in range(1, 3):
        if i > values.shape[0]:
            axes.append(torch.zeros_like(mean, dtype=torch.float64))
            continue
        axis = vectors[:, -i]
        axes.append(axis * torch.sign(axis[axis.abs().argmax()]) * values[-i].clamp_min(0).sqrt())
    if rows > columns:
        axes.reverse()
    across = torch.linspace(-1, 1, columns, dtype=torch.float64) if columns > 1 else torch.zeros(1, dtype=torch.float64)
    down = torch.linspace(-1, 1, rows, dtype=torch.float64) if rows > 1 else torch.zeros(1, dtype=torch.float64)
    grid = across.repeat(rows).unsqueeze(1) * axes[0] + down.repeat_interleave(columns).unsqueeze(1) * axes[1]
    return mean.to(torch.float64) + grid
