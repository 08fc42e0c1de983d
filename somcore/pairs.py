"""Pairs of samples and nodes that bounds could not decide between: float32 scores, then float64 errors.

The pairs of a block are two vectors, `owner` (which sample, ascending) and `node`.

Axes: B samples of a block, D features, K nodes, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from somcore.state import MapState

_PAIRS = 256  # pairs at a time that are decided in float64


def taken(pairs: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    """Vectors at these places; faster than indexing each of them."""
    return tuple(value.index_select(0, pairs) for value in values)


def rivals(owner: Tensor, node: Tensor, number: int) -> tuple[Tensor, ...]:
    """Owner and node of the pairs whose sample has several; where it has one there is nothing to decide."""
    counts = torch.bincount(owner, minlength=number)
    return taken((counts.index_select(0, owner) > 1).nonzero().squeeze(1), owner, node)


def dots(x: Tensor, gaps: Tensor, owner: Tensor, node: Tensor) -> Tensor:
    """(P,) float32 products of rows of x (B, D) and gaps (K, D), summed in an order of torch's choice."""
    starts = pad(torch.bincount(owner, minlength=len(x)).cumsum(0), (1, 0))
    size = (len(x), len(gaps))
    pairs = torch.sparse_csr_tensor(starts, node, x.new_zeros(len(node)), size, check_invariants=False)
    result: Tensor = torch.sparse.sampled_addmm(pairs, x, gaps.T, beta=0.0).values()
    return result


def decided(state: MapState, features: Tensor, bmu: Tensor, owner: Tensor, node: Tensor) -> Tensor:
    """BMUs (B,) with those of the given pairs decided as `exact_errors` decides; ties to the lowest index."""
    parts = zip(owner.split(_PAIRS), node.split(_PAIRS), strict=True)
    errors = torch.cat([_squares(state, features, *part) for part in parts]) / features.shape[1]
    best = (errors == least(errors, owner, len(bmu)).index_select(0, owner)).nonzero().squeeze(1)
    owner, node = taken(best, owner, node)
    lowest = torch.full_like(bmu, state.capacity).scatter_reduce_(0, owner, node, "amin")
    return torch.where(lowest < state.capacity, lowest, bmu)


def _squares(state: MapState, features: Tensor, owner: Tensor, node: Tensor) -> Tensor:
    """(P,) float64 squared distances."""
    gap = features.index_select(0, owner).to(torch.float64).sub_(state.prototypes.index_select(0, node))
    squares: Tensor = torch.linalg.vecdot(gap, gap)
    return squares


def least(values: Tensor, owner: Tensor, number: int) -> Tensor:
    """(B,) smallest value of each sample's pairs; +inf for a sample without any."""
    return values.new_full((number,), torch.inf).scatter_reduce_(0, owner, values, "amin")
