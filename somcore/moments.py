"""Moment rows of samples seen from nodes: number, x, |x − c|.

Axes: n samples of a tile, K nodes, D features, M columns of a moment row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore import device
from somcore.distance import Tile, rows_where
from somcore.fixed_point import as_sums, check_range, to_fixed
from somcore.state import MapState

_DENSE_ELEMENTS = 2**24  # at most 128 MB at a time


@dataclass(frozen=True)
class Moments:
    """Moment rows (number, x, |x − c|) of a tile: whole numbers in float64, exact while a tile lasts."""

    features: Tensor  # (n, D) float64
    prototypes: Tensor  # (K, D) float64
    observed: Tensor | None  # (n, D) float64, 1 or 0
    weights: Tensor | None  # (n,) float64
    scale: int | None

    @classmethod
    def of(cls, state: MapState, tile: Tile, weights: Tensor | None, scale: int | None) -> Moments:
        """Round features and prototypes to the scale of the round.

        Raises:
            ValueError: a sample lies beyond the bound that the scale was made for (checked on a CPU).
        """
        features = to_fixed(tile.features, scale)
        check_range(features, scale)
        observed = None if tile.observed is None else tile.observed.to(torch.float64)
        weights = None if weights is None else weights.to(torch.float64)
        return cls(features, to_fixed(state.prototypes, scale), observed, weights, scale)

    @property
    def columns(self) -> int:
        """M: 1 + 2D, or 3D with missing values."""
        return self.features.shape[1] * (2 if self.observed is None else 3) + (self.observed is None)

    def rows(self, samples: Tensor, nodes: Tensor, mask: Tensor | None = None) -> Tensor:
        """(r, M): moments of samples seen from nodes; zero where the mask does not hold."""
        x = self.features[samples]
        deviations = (x - self.prototypes[nodes]).abs_()
        if self.observed is None:
            parts = [x.new_ones(len(samples), 1), x, deviations]
        else:
            seen = self.observed[samples]
            parts = [seen, x, deviations * seen]
        rows = torch.cat(parts, dim=1)
        if self.weights is not None:
            rows *= self.weights[samples].unsqueeze(1)
        if mask is not None and not device.asking_is_free(samples):
            rows *= mask[samples].unsqueeze(1)
        return rows

    def won(self, nodes: Tensor, num_nodes: int) -> Tensor:
        """(K, M − D): number and Σx of every sample, by its winner."""
        number = self.features.new_ones(len(nodes), 1) if self.observed is None else self.observed
        parts = [number, self.features]
        if self.weights is not None:
            parts = [part * self.weights.unsqueeze(1) for part in parts]
        sums = [part.new_zeros(num_nodes, part.shape[1]).index_add_(0, nodes, part) for part in parts]
        return as_sums(torch.cat(sums, dim=1), self.scale)

    def table(self, nodes: Tensor, mask: Tensor, num_nodes: int) -> Tensor:
        """(K, M): moments of the masked samples added up by node."""
        samples = rows_where(mask)
        owners = nodes[samples].clamp_min(0)
        table = self.features.new_zeros(num_nodes, self.columns)
        return as_sums(table.index_add_(0, owners, self.rows(samples, owners, mask)), self.scale)

    def pairs(self, rows: Tensor, links: Tensor) -> Tensor:
        """(K, M): moments of every (sample, node) pair in `links` (r, K), samples at `rows`, added up by node.

        On a CPU the pairs are listed; elsewhere, where listing would stall the queue, everything is computed by
        blocks of nodes and masked. In fixed point both are the same integers.
        """
        num_nodes = links.shape[1]
        if device.asking_is_free(links):
            samples, nodes = links.nonzero(as_tuple=True)
            samples = rows[samples]
            table = self.features.new_zeros(num_nodes, self.columns)
            step = max(1, _DENSE_ELEMENTS // self.columns)
            for i in range(0, len(samples), step):
                part, owners = samples[i : i + step], nodes[i : i + step]
                table.index_add_(0, owners, self.rows(part, owners))
            return as_sums(table, self.scale)
        weight = links.to(torch.float64)
        if self.weights is not None:
            weight = weight * self.weights.unsqueeze(1)
        return as_sums(torch.cat(self._dense_pairs(weight, num_nodes), dim=1), self.scale)

    def _dense_pairs(self, weight: Tensor, num_nodes: int) -> list[Tensor]:
        """Number, Σx and Σ|x − c| over all pairs; products of whole numbers are exact as long as sums are."""
        seen = weight.new_ones(len(weight), 1) if self.observed is None else self.observed
        counts, features = weight.T @ seen, weight.T @ self.features
        step = max(1, _DENSE_ELEMENTS // max(1, self.features.numel()))
        deviations = []
        for i in range(0, num_nodes, step):
            gap = (self.features.unsqueeze(1) - self.prototypes[i : i + step]).abs_()
            if self.observed is not None:
                gap *= self.observed.unsqueeze(1)
            deviations.append((gap * weight[:, i : i + step].unsqueeze(2)).sum(0))
        return [counts, features, torch.cat(deviations)]
