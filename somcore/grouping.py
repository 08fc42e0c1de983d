"""Nodes joined into groups: a map of many nodes read as a clustering of few.

Axes: K nodes, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from somcore.config import UNLABELLED
from somcore.state import MapState


def group_nodes(state: MapState, counts: Tensor, num_groups: int) -> Tensor:
    """Joins nodes by Ward's method, each weighing as many samples as it won.

    Two groups of sizes n and m whose means lie d apart cost n·m/(n + m)·d²; the cheapest pair is joined until
    `num_groups` are left (ties: lowest indices). Reads prototypes and counts, no label.

    Args:
        state: the map.
        counts: (K,) samples won by each node; nodes without any belong to no group.
        num_groups: groups wanted, at least 1; fewer nodes are as many groups.

    Returns:
        (K,) int64 group of each node, numbered by its lowest node; UNLABELLED for nodes without a sample.

    Raises:
        ValueError: fewer than one group is asked for.

    Source: Ward 1963, with weights.

    Example:
        >>> from somcore import MapConfig
        >>> from somcore.initial import initial_state
        >>> import dataclasses
        >>> state = initial_state(MapConfig(capacity=3), 1, 0)
        >>> points = torch.tensor([[0.0], [1.0], [0.1]], dtype=torch.float64)
        >>> state = dataclasses.replace(state, prototypes=points, alive=torch.ones(3, dtype=torch.bool))
        >>> group_nodes(state, torch.tensor([5, 5, 5]), 2).tolist()
        [0, 1, 0]
    """
    if num_groups < 1:
        raise ValueError(f"num_groups must be at least 1. Got {num_groups}.")
    members = (state.alive & (counts > 0)).nonzero().squeeze(1)
    groups = torch.full((state.capacity,), UNLABELLED, dtype=torch.int64, device=state.device)
    if len(members) == 0:
        return groups
    means, sizes = state.prototypes[members].clone(), counts[members].to(torch.float64)
    owner = torch.arange(len(members), device=state.device)
    apart = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").square()
    cost = apart * (sizes[:, None] * sizes / (sizes[:, None] + sizes))
    cost.fill_diagonal_(torch.inf)
    for _ in range(len(members) - num_groups):
        kept, joined = sorted(divmod(int(cost.argmin()), len(members)))
        size = sizes[kept] + sizes[joined]
        means[kept] = (sizes[kept] * means[kept] + sizes[joined] * means[joined]) / size
        sizes[kept] = size
        owner[owner == joined] = kept
        cost[joined, :] = cost[:, joined] = torch.inf
        anew = (means - means[kept]).square().sum(1) * sizes * size / (sizes + size)
        cost[kept, :] = cost[:, kept] = torch.where(torch.isinf(cost[kept]), torch.inf, anew)
    groups[members] = torch.unique(owner, return_inverse=True)[1]
    return groups
