"""Prototypes that decide: the slope of the class cross-entropy in the prototypes, on fixed features.

Axes: n samples, K nodes, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from somcore.latent import errors_to
from somcore.losses import class_logits
from somcore.state import MapState


def prototype_slope(state: MapState, features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Σ over samples of the derivative of −log softmax_y(−ρ̃/ϑ) in the prototypes; adds up over tiles.

    Each class is represented by its nearest node, as in `somcore.losses.cross_entropy`: of the K nodes at most C per
    sample have a slope. Attraction to the own class and repulsion from the others are those of learning vector
    quantization, in soft form.

    Args:
        state: the map; relevances stay as they are.
        features: (n, D).
        labels: (n,) int64, all known. Samples of a class without a node have no slope.
        temperature: ϑ.

    Returns:
        (K, D) float64, 0 for nodes that represent nobody.

    Source: Seo & Obermayer 2003 (soft learning vector quantization), with the relevance-weighted error.

    Example:
        >>> from somcore import SSSOM
        >>> state = SSSOM(seed=0).fit([[0.1], [0.9]], [0, 1]).state_
        >>> prototype_slope(state, torch.tensor([[0.1]]), torch.tensor([0]), 0.5).shape[1]
        1
    """
    z = features.to(torch.float64)
    errors = errors_to(state, z)
    owned = state.alive & (state.classes >= 0)
    known = torch.isfinite(errors.classes.gather(1, labels.unsqueeze(1))) if len(labels) else labels.unsqueeze(1) >= 0
    share = torch.softmax(class_logits(errors, temperature), dim=1)
    wanted = torch.zeros_like(share).scatter_(1, labels.unsqueeze(1), 1.0)
    per_class = torch.where(known, (wanted - share) / temperature, 0.0)
    owner = torch.where(owned, state.classes, 0)
    of_class = errors.nodes.masked_fill(~owned, torch.inf)
    slots = torch.arange(state.capacity, device=z.device)
    places = torch.where(of_class == errors.classes[:, owner], slots, state.capacity)
    first = torch.full_like(share, state.capacity, dtype=torch.int64)
    first = first.scatter_reduce(1, owner.expand(len(z), -1), places, "amin")
    represents = owned & (first[:, owner] == slots)
    weight = torch.where(represents, per_class[:, owner], 0.0)
    gap = state.prototypes * weight.sum(0).unsqueeze(1) - weight.T @ z
    scale = torch.where(owned, 2 / state.relevances.sum(1).clamp_min(1e-12), 0.0).unsqueeze(1)
    return torch.where(owned.unsqueeze(1), scale * state.relevances * gap, 0.0)
