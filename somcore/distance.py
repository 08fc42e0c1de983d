"""Relevance-weighted errors between samples and nodes: fast with a proven bound, or exact.

The matrix product in float32 only narrows the choice; every decision is taken on float64 values.

Axes: n samples of a tile, K nodes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.state import MapState

_UNIT_ROUNDOFF = 2.0**-24  # of float32


@dataclass(frozen=True)
class Tile:
    """One tile of samples in the form that the mathematics uses.

    Attributes:
        features: (n, D) float64; 0 where a value is missing.
        observed: (n, D) bool, or None if every value is there.
    """

    features: Tensor
    observed: Tensor | None

    @classmethod
    def of(cls, features: Tensor, missing: str) -> Tile:
        """Read samples; with missing="mask", NaN means "not observed"."""
        features = features.to(torch.float64)
        if missing != "mask":
            return cls(features, None)
        observed = ~features.isnan()
        return cls(torch.where(observed, features, 0.0), observed)

    def take(self, rows: Tensor) -> Tile:
        """The samples at these rows."""
        return Tile(self.features[rows], None if self.observed is None else self.observed[rows])


@dataclass(frozen=True)
class Projection:
    """A map prepared for `bounds`: what depends on the state alone, computed once per round."""

    centre: Tensor  # (D,) mean of the alive prototypes: distances do not change, cancellation shrinks
    weights: Tensor  # (K, 2D or 3D) float32, factors of [x², x, observed]
    offsets: Tensor  # (K,) float32, Σ ω c²
    mass: Tensor  # (K,) float32, Ω = Σ ω
    reach: Tensor  # () largest centred prototype norm
    dead: Tensor  # (K,) 0 for alive nodes, +inf for dead ones


def project(state: MapState, masked: bool) -> Projection:
    """Prepare a map for distance products; `masked` if samples may have missing values."""
    alive = state.alive.unsqueeze(1)
    centre = torch.where(alive, state.prototypes, 0.0).sum(0) / state.alive.sum().clamp_min(1)
    centred = torch.where(alive, state.prototypes - centre, 0.0)
    weighted = state.relevances * centred
    squares = weighted * centred
    factors = [state.relevances, -2 * weighted] + ([squares] if masked else [])
    return Projection(
        centre=centre,
        weights=torch.cat(factors, dim=1).to(torch.float32),
        offsets=squares.sum(1).to(torch.float32),
        mass=state.relevances.sum(1).to(torch.float32),
        reach=centred.square().sum(1).max().sqrt().to(torch.float32),
        dead=torch.where(state.alive, 0.0, torch.inf).to(torch.float32),
    )


def bounds(projection: Projection, tile: Tile) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of ρ for every sample and node, by one float32 matrix product.

    d² = (x∘x) Ωᵀ − 2 x (ω∘c)ᵀ + Σ ω c², ρ = d² / Ω. The bound is the classical one for a dot product of m
    terms, m·u·Σ|aᵢbᵢ| with Σ|aᵢbᵢ| ≤ (‖x‖ + max‖c‖)², doubled to cover the rounding of its factors.

    Args:
        projection: the prepared map.
        tile: (n, D) samples.

    Returns:
        lower, upper: (n, K) float32; +inf for dead nodes.
    """
    centred = tile.features - projection.centre
    if tile.observed is not None:
        centred = torch.where(tile.observed, centred, 0.0)
    x = centred.to(torch.float32)
    squares = x * x
    if tile.observed is None:
        squared = torch.addmm(projection.offsets, torch.cat([squares, x], 1), projection.weights.T)
        inverse_mass = 1 / projection.mass
    else:
        observed = tile.observed.to(torch.float32)
        squared = torch.cat([squares, x, observed], 1) @ projection.weights.T
        inverse_mass = 1 / (observed @ projection.weights[:, : x.shape[1]].T)
    norm = squares.sum(1, keepdim=True).sqrt() + projection.reach
    slack = (2 * _UNIT_ROUNDOFF * (projection.weights.shape[1] + 8)) * norm * norm
    lower = (squared - slack) * inverse_mass + projection.dead
    return lower, lower + (2 * slack) * inverse_mass


def exact_errors(state: MapState, tile: Tile, nodes: Tensor) -> Tensor:
    """ρ = Σ ω (x − c)² / Σ ω in float64, for given nodes; sums over observed features only.

    Args:
        state: the map.
        tile: (n, D) samples.
        nodes: (n, m) int64 node indices.

    Returns:
        (n, m) float64; +inf for dead nodes.
    """
    relevances = state.relevances[nodes]
    if tile.observed is not None:
        relevances = relevances * tile.observed.unsqueeze(1)
    residual = tile.features.unsqueeze(1) - state.prototypes[nodes]
    errors = (relevances * residual.square_()).sum(2) / relevances.sum(2)
    return torch.where(state.alive[nodes], errors, torch.inf)


def squared_errors(state: MapState, tile: Tile) -> Tensor:
    """Exact ρ between every sample and every node: (n, K) float64, +inf for dead nodes."""
    every = torch.arange(state.capacity, device=tile.features.device).expand(tile.features.shape[0], -1)
    step = max(1, 2**24 // max(1, state.capacity * state.num_features))  # at most 128 MB at a time
    parts = [
        exact_errors(state, tile.take(torch.arange(i, min(i + step, len(every)), device=every.device)), every[i : i + step])
        for i in range(0, len(every), step)
    ]
    return torch.cat(parts) if parts else every.to(torch.float64)
