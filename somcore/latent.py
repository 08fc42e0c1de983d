"""Latent features seen from the map: differentiable errors, and the moments that tell a collapse.

Axes: n samples of a tile, K nodes, D features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.device import unnarrowed
from somcore.state import MapState

_MOMENT_BITS = 20  # products of 2^20 · z, summed over 4096 rows, are exact in float64
MOST_MOMENTS = 2**22
"""Samples whose squares, 2^40 each at most, surely fit into 64 bits together."""


@dataclass(frozen=True)
class Errors:
    """Differentiable ρ of a tile's features to the frozen map.

    Attributes:
        nodes: (n, K), ρ to every node; meaningless for dead ones.
        classes: (n, C), least (or soft least) ρ over the nodes of each class, +inf for a class without a node.
    """

    nodes: Tensor
    classes: Tensor


def node_errors(state: MapState, features: Tensor) -> Tensor:
    """ρ = Σ ω (z − c)² / Σ ω to every node, as a differentiable function of z: (n, K).

    Two matrix products in the precision of the features (at least float32, under autocast too), centred on the alive
    nodes. Map values are constants: ∂ρ/∂z = 2 ω (z − c) / Ω.
    """
    wide = features if features.dtype == torch.float64 else features.to(torch.float32)
    alive = state.alive.unsqueeze(1)
    centre = torch.where(alive, state.prototypes, 0.0).sum(0) / state.alive.sum().clamp_min(1)
    prototypes = torch.where(alive, state.prototypes - centre, 0.0)
    mass = state.relevances.sum(1)
    weighted = state.relevances * prototypes
    offsets = ((weighted * prototypes).sum(1) / mass).to(wide.dtype)
    factors = torch.cat([state.relevances, -2 * weighted], dim=1) / mass.unsqueeze(1)
    z = wide - centre.to(wide.dtype)
    with unnarrowed(z):
        squared = torch.addmm(offsets, torch.cat([z * z, z], dim=1), factors.to(wide.dtype).T)
    return squared.clamp_min(0)


def errors_to(state: MapState, features: Tensor, *, soft: float | None = None) -> Errors:
    """ρ to every node and to every class.

    Args:
        state: the frozen map.
        features: (n, D).
        soft: temperature of a soft minimum −ϑ·logsumexp(−ρ/ϑ) over the nodes of a class; None = the minimum.
    """
    errors = node_errors(state, features)
    if state.num_classes == 0:
        return Errors(errors, errors[:, :0])
    owned = state.alive & (state.classes >= 0)
    owner = torch.where(owned, state.classes, 0)
    absent = torch.full_like(errors[:, :1], torch.inf).expand(-1, state.num_classes)
    masked = errors.masked_fill(~owned, torch.inf)
    least = absent.scatter_reduce(1, owner.expand(errors.shape[0], -1), masked, "amin")
    if soft is not None:
        low = least.detach()
        known = torch.isfinite(low)
        shift = torch.where(known, low, 0.0)
        excess = torch.where(owned, shift[:, owner] - errors, 0.0) / soft
        total = excess.new_zeros(least.shape).index_add(1, owner, torch.exp(excess) * owned)
        least = torch.where(known, shift - soft * torch.log(torch.where(known, total, 1.0)), torch.inf)
    return Errors(errors, least)


@dataclass(frozen=True, eq=False)
class LatentMoments:
    """Number, Σz and Σzzᵀ as integers (units of 2⁻²⁰ and 2⁻⁴⁰): they merge in any order.

    Of more than `MOST_MOMENTS` samples the sums may leave 64 bits.

    Attributes:
        table: (1 + D, 1 + D) int64, moments of (1, z); entry (0, 0) is the number of samples.
    """

    table: Tensor

    @classmethod
    def of(cls, features: Tensor) -> LatentMoments:
        """Moments of a tile of at most 4096 rows with |z| at most 1."""
        z = torch.round(features.detach().to(torch.float64) * 2.0**_MOMENT_BITS)
        rows = torch.cat([torch.ones_like(z[:, :1]), z], dim=1)
        return cls((rows.T @ rows).to(torch.int64))

    @classmethod
    def zero(cls, num_features: int, device: torch.device | str = "cpu") -> LatentMoments:
        """Moments of no sample."""
        size = 1 + num_features
        return cls(torch.zeros(size, size, dtype=torch.int64, device=device))

    def merge(self, other: LatentMoments) -> LatentMoments:
        """Moments of the union."""
        return LatentMoments(self.table + other.table)

    def covariance(self) -> Tensor:
        """(D, D) float64 covariance of z."""
        table = self.table.to(torch.float64)
        number = table[0, 0].clamp_min(1)
        mean = table[0, 1:] / number * 2.0**-_MOMENT_BITS
        return table[1:, 1:] / number * 4.0**-_MOMENT_BITS - torch.outer(mean, mean)

    def summary(self) -> dict[str, float]:
        """Embedding rank exp(entropy of the eigenvalues' shares), smallest and mean standard deviation."""
        table = self.covariance().cpu()
        deviations = table.diagonal().clamp_min(0).sqrt()
        values = torch.linalg.eigvalsh(table).clamp_min(0)
        total = float(values.sum())
        share = values / total if total > 0 else values
        rank = math.exp(-float(torch.special.xlogy(share, share).sum())) if total > 0 else 0.0
        return {
            "embedding_rank": rank,
            "smallest_std": float(deviations.min()),
            "mean_std": float(deviations.mean()),
        }
