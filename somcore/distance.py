"""Relevance-weighted errors between samples and nodes: fast with a proven bound, or exact.

The matrix product in float32 only narrows the choice; every decision is taken on float64 values.

Axes: n samples of a tile, K nodes, D features.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore import device
from somcore.config import MapConfig
from somcore.state import MapState

_UNIT_ROUNDOFF = 2.0**-24  # of float32
CACHED = 2**18  # values of a block of differences, 2 MB: what a processor keeps near
_AT_ONCE = 2**24  # elsewhere, where few large steps are quickest: 128 MB
_SHARED = 2**15  # values of a single sum from which on torch shares it among threads, with other bits


def rows_where(mask: Tensor) -> Tensor:
    """Rows that need work: on a CPU those where the mask holds, elsewhere all of them.

    Asking an accelerator which rows are true would stall its queue, so there the work is done for every row and
    the mask applied to the result. Both give the same bits wherever results are integers or row-wise.
    """
    if device.asking_is_free(mask):
        return mask.nonzero().squeeze(1)
    return torch.arange(mask.shape[0], device=mask.device)


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
        """Read samples, without their gradient: a map never gets one; with missing="mask", NaN is "not observed".

        Raises:
            ValueError: a value is not finite, or nothing of a sample is observed. Checked on a CPU only:
                asking an accelerator would stall its queue, so its data are checked before they go there.
        """
        features = features.detach().to(torch.float64)
        observed = ~features.isnan() if missing == "mask" else None
        values = features if observed is None else torch.where(observed, features, 0.0)
        if device.asking_is_free(values):
            if not math.isfinite(float(values.sum())) and not bool(values.isfinite().all()):
                row, column = (~values.isfinite()).nonzero()[0].tolist()
                raise ValueError(
                    f"Features must be finite. Row {row} of the tile, feature {column} is "
                    f"{float(features[row, column])}; clean it or, for NaN, use missing='mask'."
                )
            if observed is not None and not bool(observed.any(1).all()):
                row = int((~observed.any(1)).nonzero()[0])
                raise ValueError(f"Every sample must have an observed feature. Row {row} of the tile has none.")
        return cls(values, observed)

    def take(self, rows: Tensor) -> Tile:
        """The samples at these rows."""
        return Tile(self.features[rows], None if self.observed is None else self.observed[rows])


@dataclass(frozen=True)
class Projection:
    """A map prepared for `approximate`: what depends on the state alone, computed once per round.

    On a CPU it holds the A alive nodes only; elsewhere, where asking for them would stall the queue, all K.
    """

    nodes: Tensor  # (A,) int64, the slots of the nodes below
    centre: Tensor  # (D,) mean of the alive prototypes: distances do not change, cancellation shrinks
    weights: Tensor  # (A, D to 3D) float32, factors of [x², x, observed]; of [x] for a plain map
    offsets: Tensor  # (A,) float32, Σ ω c²; +inf for dead nodes
    inverse_mass: Tensor | None  # (A,) float32, 1 / Ω; None for a plain map: the same for every node
    reach: Tensor  # () largest centred prototype norm


@dataclass(frozen=True)
class Scores:
    """Errors that may be off by `margin`: enough to tell which few nodes can be the nearest."""

    values: Tensor  # (n, A) float32, ρ up to terms that are the same for every node; +inf for dead nodes
    margin: Tensor  # (n,) float32, bound of their error

    def take(self, rows: Tensor) -> Scores:
        """The scores of the samples at these rows."""
        return Scores(self.values[rows], self.margin[rows])


def project(state: MapState, config: MapConfig) -> Projection:
    """Prepare a map for distance products.

    Args:
        state: the map.
        config: its configuration: where samples may have missing values, products are longer; where all relevances are
            1 and stay so (Kohonen's map), one product of half the size is enough.
    """
    masked = config.missing == "mask"
    nodes = rows_where(state.alive)
    alive = state.alive[nodes]
    prototypes, relevances = state.prototypes[nodes], state.relevances[nodes]
    centre = torch.where(alive.unsqueeze(1), prototypes, 0.0).sum(0) / alive.sum().clamp_min(1)
    centred = torch.where(alive.unsqueeze(1), prototypes - centre, 0.0)
    weighted = relevances * centred
    squares = weighted * centred
    norms = centred.square().sum(1)
    plain = config.variant == "kohonen" and not masked
    factors = [-2 * weighted] if plain else [relevances, -2 * weighted] + ([squares] if masked else [])
    return Projection(
        nodes=nodes,
        centre=centre,
        weights=torch.cat(factors, dim=1).to(torch.float32),
        offsets=torch.where(alive, squares.sum(1), torch.inf).to(torch.float32),
        inverse_mass=None if plain else (1 / relevances.sum(1)).to(torch.float32),
        reach=torch.cat([norms, norms.new_zeros(1)]).max().sqrt().to(torch.float32),
    )


def approximate(projection: Projection, tile: Tile) -> Scores:
    """Errors of every sample and node by one float32 matrix product, with a bound of what they are off.

    d² = (x∘x) Ωᵀ − 2 x (ω∘c)ᵀ + Σ ω c², ρ = d² / Ω. The bound is the classical one for a dot product of m
    terms, m·u·Σ|aᵢbᵢ| with Σ|aᵢbᵢ| ≤ (‖x‖ + max‖c‖)², doubled to cover the rounding of its factors, and more
    where torch is allowed to round them further.

    Args:
        projection: the prepared map.
        tile: (n, D) samples.
    """
    centred = tile.features - projection.centre
    if tile.observed is not None:
        centred = torch.where(tile.observed, centred, 0.0)
    x = centred.to(torch.float32)
    reach = torch.linalg.vector_norm(x, dim=1) + projection.reach
    terms = 2 * x.shape[1] + projection.weights.shape[1] + 8
    slack = 2 * (_UNIT_ROUNDOFF * terms + 4 * device.factor_roundoff(x)) * reach * reach
    with device.unnarrowed(x):
        return _scored(projection, tile, x, slack)


def _scored(projection: Projection, tile: Tile, x: Tensor, slack: Tensor) -> Scores:
    """The products, in float32."""
    if tile.observed is not None:
        observed = tile.observed.to(torch.float32)
        inverse_mass = 1 / (observed @ projection.weights[:, : x.shape[1]].T)
        values = torch.cat([x * x, x, observed], 1) @ projection.weights.T * inverse_mass
        values = torch.where(torch.isinf(projection.offsets), torch.inf, values)
        return Scores(values, slack * inverse_mass.amax(1) if len(projection.nodes) else slack)
    if projection.inverse_mass is None:
        return Scores(torch.addmm(projection.offsets, x, projection.weights.T), slack)
    values = torch.addmm(projection.offsets, torch.cat([x * x, x], 1), projection.weights.T)
    scale = projection.inverse_mass
    return Scores(values.mul_(scale), slack * scale.max() if len(projection.nodes) else slack)


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
    with _unshared(nodes.numel(), state.num_features):
        errors = torch.linalg.vecdot(relevances * residual, residual) / relevances.sum(2)
    return torch.where(state.alive[nodes], errors, torch.inf)


def _unshared(num_sums: int, num_features: int) -> AbstractContextManager[object]:
    """One thread where there is a single long sum."""
    return device.one_thread() if num_sums == 1 and num_features >= _SHARED else nullcontext()


def squared_errors(state: MapState, tile: Tile) -> Tensor:
    """Exact ρ between every sample and every node: (n, K) float64, +inf for dead nodes; the bits of `exact_errors`."""
    if device.is_recorded():
        every = torch.arange(state.capacity, device=tile.features.device).expand(tile.features.shape[0], -1)
        return exact_errors(state, tile, every)
    nodes = rows_where(state.alive)
    prototypes, relevances = state.prototypes[nodes], state.relevances[nodes]
    with _unshared(len(nodes), state.num_features):
        mass = relevances.sum(1)
    errors = mass.new_full((tile.features.shape[0], state.capacity), torch.inf)
    rows = torch.arange(errors.shape[0], device=errors.device)
    at_once = CACHED if device.asking_is_free(rows) else _AT_ONCE
    for part in rows.split(max(1, at_once // max(1, prototypes.numel()))):
        residual = tile.features[part].unsqueeze(1) - prototypes
        weights = relevances if tile.observed is None else relevances * tile.observed[part].unsqueeze(1)
        with _unshared(len(part) * len(nodes), state.num_features):
            sums = mass if tile.observed is None else weights.sum(2)
            found = torch.linalg.vecdot(weights * residual, residual) / sums
        errors[part.unsqueeze(1), nodes] = torch.where(state.alive[nodes], found, torch.inf)
    return errors
