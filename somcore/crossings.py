"""Nodes connected by what crosses between them: how often the view of a sample falls on another node than the sample.

A network that learned little of a difference lets views cross it, wherever prototypes lie. So crossings say which nodes
belong together better than distances do: they join nodes into groups, and carry classes to nodes without a label.

Axes: K nodes, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from somcore.config import UNLABELLED

_REACH = 0.9  # share of a class that a node passes on
_STEPS = 60  # 0.9^60 = 0.002 of it is left then


def crossings_of(nodes: Tensor, others: Tensor, capacity: int) -> Tensor:
    """(K, K) int64 table of n pairs of nodes, symmetric; pairs with a node below 0 are left out.

    Args:
        nodes: (n,) int64, where samples fall.
        others: (n,) int64, where their views do.
        capacity: K.

    Example:
        >>> crossings_of(torch.tensor([0, 0, 1]), torch.tensor([0, 1, -1]), 2)
        tensor([[2, 1],
                [1, 0]])
    """
    both = (nodes >= 0) & (others >= 0)
    table = torch.bincount(nodes[both] * capacity + others[both], minlength=capacity * capacity)
    table = table.view(capacity, capacity)
    return table + table.T


def group_by_crossings(crossings: Tensor, num_groups: int) -> Tensor:
    """Joins nodes into groups such that the group of a sample says most of the group of its view.

    That is the mutual information of both: always the two groups are joined whose union loses least of it (ties: lowest
    numbers); their crossings add up. Reads no label. O(K^3).

    Args:
        crossings: (K, K) int64, symmetric.
        num_groups: groups wanted, at least 1; fewer nodes are as many groups.

    Returns:
        (K,) int64 group of each node, numbered by its lowest node; UNLABELLED for nodes that nothing falls on.

    Raises:
        ValueError: fewer than one group is asked for.

    Source: Slonim & Tishby 1999 (agglomerative information bottleneck), here both sides joined alike; decision 0026.

    Example:
        >>> group_by_crossings(torch.tensor([[80, 1, 9], [1, 80, 0], [9, 0, 80]]), 2).tolist()
        [0, 1, 0]
    """
    if num_groups < 1:
        raise ValueError(f"num_groups must be at least 1. Got {num_groups}.")
    members = (crossings.sum(1) > 0).nonzero().squeeze(1)
    table = crossings[members][:, members].to(torch.float64)
    owner = torch.arange(len(members), device=crossings.device)
    lost = torch.stack([_lost(table, one) for one in range(len(table))]) if len(table) else table
    while len(table) > num_groups:
        kept, joined = sorted(divmod(int(lost.argmin()), len(table)))
        union = table[:, kept] + table[:, joined]
        lost += _lost_of(union) - _lost_of(table[:, kept]) - _lost_of(table[:, joined])
        table[:, kept] = union
        table[kept] += table[joined]
        rest = torch.arange(len(table), device=table.device) != joined
        table, lost = table[rest][:, rest], lost[rest][:, rest]
        lost[kept] = lost[:, kept] = _lost(table, kept)
        owner = torch.where(owner == joined, kept, owner - (owner > joined).to(torch.int64))
    groups = torch.full((len(crossings),), UNLABELLED, dtype=torch.int64, device=crossings.device)
    groups[members] = owner
    return groups


def _lost(table: Tensor, one: int) -> Tensor:
    """(G,) mutual information, times all crossings, lost by joining one group with each other; infinite with itself.

    With h(x) = x log x the information is Σ h(c_ab) − 2 Σ h(s_a), up to a constant.
    """
    row, own, sums = table[one], table.diagonal(), table.sum(1)
    before = 2 * (_h(row).sum() + _h(table).sum(1)) - _h(own[one]) - _h(own) - 2 * _h(row)
    elsewhere = _h(table + row).sum(1) - _h(own[one] + row) - _h(own + row)
    after = 2 * elsewhere + _h(own[one] + own + 2 * row)
    margins = _h(sums[one]) + _h(sums) - _h(sums[one] + sums)
    lost = before - after - 2 * margins
    lost[one] = torch.inf
    return lost


def _lost_of(column: Tensor) -> Tensor:
    """(G, G) what one other group (G,) adds to the loss of each pair."""
    return 2 * (_h(column)[:, None] + _h(column) - _h(column[:, None] + column))


def _h(values: Tensor) -> Tensor:
    return torch.xlogy(values, values)


def spread_classes(classes: Tensor, crossings: Tensor, num_classes: int) -> Tensor:
    """Classes for nodes that have none, from those that have one, along crossings.

    Every node with a class passes it on; what arrives is weighed so that each class arrives alike in all, because few
    labels say little of how common classes are. Nodes that nothing arrives at stay without.

    Args:
        classes: (K,) int64, UNLABELLED where there is none.
        crossings: (K, K) int64, symmetric.
        num_classes: C.

    Returns:
        (K,) int64; nodes that had a class keep it.

    Source: Zhou et al. 2004 (local and global consistency), on nodes instead of samples; weights of classes are a
        decision of this project.

    Example:
        >>> spread_classes(torch.tensor([1, -1, 0]), torch.tensor([[80, 9, 1], [9, 80, 0], [1, 0, 80]]), 2).tolist()
        [1, 1, 0]
    """
    table = crossings.to(torch.float64)
    sums = table.sum(1)
    scale = sums.clamp_min(1).rsqrt()
    links = table * scale * scale[:, None]
    known = classes != UNLABELLED
    seeds = one_hot(classes.clamp_min(0), num_classes).to(torch.float64) * known.unsqueeze(1)
    arrived = seeds
    for _ in range(_STEPS):
        arrived = seeds + _REACH * (links @ arrived)
    even = arrived / arrived.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    best, found = even.max(1)
    return torch.where(known | (best == 0), classes, found)
