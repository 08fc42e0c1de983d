"""Prototypes move to where they decide best, on an encoder that stands still: at a refresh, and at the end of a run.

Features of the labelled rows are computed once; then every step adds up the slopes of all of them, as integers, so
the map is the same for any number of workers. K nodes, D features, M labelled rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.deep.network import adam_moments
from pipeline.deep.plan import encode
from pipeline.prepared.shards import Dataset
from pipeline.training.reduction import Reduction, dealt, sum_gradients
from somcore.state import MapState
from somcore.tuning import prototype_slope

_TILES = 16  # of the encoder, in one part


def labelled_parts(
    network: torch.nn.Module,
    dataset: Dataset,
    labels: Tensor,
    rows: Tensor,
    tile_size: int,
    reduction: Reduction,
    stay: Callable[[], None],
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Features (n, D) and labels (n,) of the own parts of some rows, and the number of parts over all workers.

    Args:
        network: the encoder.
        dataset: with a training split.
        labels: (all rows,).
        rows: (M,) the labelled ones.
        tile_size: rows that go through the encoder together: a part of the numerics.
        reduction: tells which parts are the own ones.
        stay: called before every part.
    """
    parts = list(rows.split(_TILES * tile_size))
    own = []
    device = next(network.parameters()).device
    for part in parts[dealt(len(parts), reduction.rank, reduction.world_size)]:
        stay()
        tiles = [encode(network, dataset.read("train", tile)[0].to(device)) for tile in part.split(tile_size)]
        own.append((torch.cat(tiles), labels[part].to(device)))
    return own, len(parts)


def tuned(
    state: MapState,
    parts: list[tuple[Tensor, Tensor]],
    total: int,
    temperature: float,
    *,
    steps: int,
    rate: float,
    exact: bool,
    reduction: Reduction,
    stay: Callable[[], None],
) -> MapState:
    """The map after some steps of Adam on the mean cross-entropy; the rate falls to 0 in a straight line.

    Args:
        state: the map.
        parts: features (n, D) and labels (n,) of the own parts of the labelled rows.
        total: number of parts, over all workers.
        temperature: ϑ.
        steps: how many.
        rate: largest step of a coordinate.
        exact: add integers.
        reduction: joins the workers.
        stay: called before every step; may raise to leave early.
    """
    first = second = torch.zeros_like(state.prototypes)
    nothing = torch.zeros(1, dtype=torch.int64, device=state.device)
    for step in range(1, steps + 1):
        stay()
        slopes = [prototype_slope(state, z, y, temperature).flatten().to(torch.float32) for z, y in parts]
        slope, _ = sum_gradients(slopes, state.prototypes.numel(), total, reduction, [nothing], exact)
        slope = slope.view_as(state.prototypes)
        first, second, mean, scale = adam_moments(first, second, slope, step)
        move = rate * (1 - (step - 1) / steps) * mean / scale
        state = dataclasses.replace(state, prototypes=(state.prototypes - move).clamp(0, 1))
    return state
