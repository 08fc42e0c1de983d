"""Relevances of features from deviations.

Axes: K nodes, D features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEAST_SPREAD = 2.0**-1000  # deviations of equal samples fade until they are subnormal: no quotient of them is safe
_LEAST_WIDTH = 2.0**-1022


def logistic_relevances(deviations: Tensor, slope: float, floor: float) -> Tensor:
    """ω = 1 / (1 + exp((δ − mean δ) / (s (max δ − min δ)))): a small deviation gives a large relevance.

    Args:
        deviations: (K, D) float64, feature units.
        slope: s, softness; the exponent lies within ±1/s.
        floor: ω_min, keeps every feature alive.

    Returns:
        (K, D) float64 in [floor, 1]; all ones where the deviations of a node are all equal, to 2^-1000.

    Source: Bassani & Araújo 2015, with the sign of the released programs (the printed equation has it reversed).

    Example:
        >>> logistic_relevances(torch.tensor([[0.0, 0.4]], dtype=torch.float64), 0.1, 1e-6)[0, 0] > 0.99
        tensor(True)
    """
    low, high = deviations.aminmax(dim=1, keepdim=True)
    spread = high - low
    varied = spread > _LEAST_SPREAD
    mean = deviations.mean(dim=1, keepdim=True)
    exponent = (deviations - mean) / (slope * torch.where(varied, spread, 1.0)).clamp_min(_LEAST_WIDTH)
    relevances = (1 / (1 + torch.exp(exponent))).clamp_min(floor)
    return torch.where(varied, relevances, 1.0)


def linear_relevances(deviations: Tensor, floor: float) -> Tensor:
    """ω = max(ω_min, 1 − δ / max δ), all ones if the maximum is 0 (DSSOM).

    Args:
        deviations: (K, D) float64, feature units.
        floor: ω_min.

    Returns:
        (K, D) float64 in [floor, 1].

    Source: Bassani & Araújo, IJCNN 2012.
    """
    high = deviations.amax(dim=1, keepdim=True)
    relevances = (1 - deviations / torch.where(high > 0, high, 1.0)).clamp_min(floor)
    return torch.where(high > 0, relevances, 1.0)


def corrected_deviations(deviations: Tensor, updates: Tensor, decay: float) -> Tensor:
    """δ̂ = δ / (1 − κ^t): the moving mean without its start at 0; 0 where a node was never updated.

    Args:
        deviations: (K, D) float64.
        updates: (K,) int64, t.
        decay: κ, share kept per update.

    Returns:
        (K, D) float64.

    Source: Braga & Bassani, IJCNN 2019.
    """
    number = updates.unsqueeze(1)
    return torch.where(number > 0, deviations / torch.where(number > 0, 1 - kept_share(number, decay), 1.0), 0.0)


def kept_share(number: Tensor, decay: float) -> Tensor:
    """κⁿ, and κ itself for n = 1; by exp, whose bits do not depend on the place in the vector (pow's do)."""
    power = torch.exp(number.to(torch.float64) * (math.log(decay) if decay > 0 else -math.inf))
    return torch.where(number == 1, decay, power)
