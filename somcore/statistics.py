"""What a round learns from its samples: integer sums that merge in any order.

A tile's statistics are fixed-point int64, so that adding them is associative: the merged sums, and with them
the next map, are the same to the bit for any number of workers. Division happens once, in `advance`.

Axes: n samples of a tile, K nodes, D features, C classes, M columns of a moment row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from somcore import device
from somcore.fixed_point import error_scale, from_fixed

TALLIES = ("samples", "labelled", "unmatched", "rerouted", "misplaced")


@dataclass(frozen=True)
class Candidates:
    """Samples that no node accepts: proposals for new nodes, in one total order without ties.

    Order: labelled first, then worst represented (rho descending), then place in the round.

    Attributes:
        valid: (n,) bool, the row is a candidate (padding otherwise).
        rho: (n,) float64, error at the best compatible node, +inf if there is none.
        position: (n,) int64, place in the round, unique.
        bmu: (n,) int64, BMU on the frozen map, −1 on an empty map.
        label: (n,) int64.
        weight: (n,) int64, a candidate of weight m takes m places.
        features: (n, D) float64, NaN where not observed.
    """

    valid: Tensor
    rho: Tensor
    position: Tensor
    bmu: Tensor
    label: Tensor
    weight: Tensor
    features: Tensor

    def take(self, rows: Tensor) -> Candidates:
        """The candidates at these rows."""
        return Candidates(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def merge(self, other: Candidates) -> Candidates:
        """The union, unordered and uncut."""
        names = self.__dataclass_fields__
        return Candidates(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in names))

    def first(self, per_group: int, limit: int) -> Candidates:
        """The first `per_group` of each group (bmu, label), of those the first `limit`, in order.

        Both cuts count weights, so that a sample of weight m and m equal samples leave the same proposals.
        """
        if self.position.shape[0] == 0:
            return self
        order = self.position.argsort(stable=True)
        order = order[self.rho[order].argsort(stable=True, descending=True)]
        rank = torch.where(self.valid, torch.where(self.label >= 0, 0, 1), 2)
        order = order[rank[order].argsort(stable=True)]
        ordered = self.take(order)
        group = torch.where(ordered.valid, (ordered.bmu + 1) * (2**31) + ordered.label + 1, -1)
        by_group = group.argsort(stable=True)
        sorted_group, weight = group[by_group], ordered.weight[by_group]
        before = weight.cumsum(0) - weight
        start = torch.searchsorted(sorted_group, sorted_group)
        place = torch.empty_like(before)
        place[by_group] = before - before[start]
        kept = ordered.valid & (place < per_group)
        weight = torch.where(kept, torch.minimum(ordered.weight, per_group - place), 0)
        ordered = replace(ordered, weight=weight)
        kept = kept & (weight.cumsum(0) - weight < limit)
        first = (~kept).to(torch.int8).argsort(stable=True)[:limit]
        result = replace(ordered.take(first), valid=kept[first])
        if device.asking_is_free(kept):
            result = result.take(result.valid.nonzero().squeeze(1))
        return result


@dataclass(frozen=True)
class Contested:
    """Moments of samples keyed by (node, class): what a clone takes along.

    Attributes:
        key: (r,) int64, node · C + class, −1 for padding.
        moments: (r, M) rows of moments.
        updates: (r,) int64 samples (weights included).
    """

    key: Tensor
    moments: Tensor
    updates: Tensor

    def merge(self, other: Contested) -> Contested:
        """The union; equal keys may repeat until `compact`."""
        return Contested(
            torch.cat([self.key, other.key]),
            torch.cat([self.moments, other.moments]),
            torch.cat([self.updates, other.updates]),
        )

    def compact(self) -> Contested:
        """One row per key, by ascending key."""
        if self.key.shape[0] == 0:
            return self
        key, index = self.key.unique(sorted=True, return_inverse=True)
        moments = self.moments.new_zeros(len(key), self.moments.shape[1]).index_add_(0, index, self.moments)
        updates = self.updates.new_zeros(len(key)).index_add_(0, index, self.updates)
        real = (key >= 0).nonzero().squeeze(1)
        return Contested(key[real], moments[real], updates[real])


@dataclass(frozen=True, eq=False)
class BatchStatistics:
    """Statistics of samples on a frozen map; a commutative monoid under `merge`.

    A moment row is (number, Σx, Σ|x − c|): M = 1 + 2D columns, or 3D where values may be missing and every
    feature has a number of its own.

    Attributes:
        scale: fixed-point scale q; None = plain float64 sums, which depend on the order of addition.
        num_features: D.
        sums: additive tensors by name: moment tables (K, M), tallies, histograms.
        contested: moments by (node, class).
        candidates: proposals for new nodes, at most K.
        per_group: candidates kept per group (BMU, label).
        round: of the map they were taken on.
    """

    scale: int | None
    num_features: int
    sums: dict[str, Tensor]
    contested: Contested
    candidates: Candidates
    per_group: int
    round: int

    def merge(self, other: BatchStatistics) -> BatchStatistics:
        """Join the statistics of two disjoint sets of samples of the same round.

        Raises:
            ValueError: they are of another round, or of sums of another kind.
        """
        if self.round != other.round:
            raise ValueError(
                f"Statistics to merge must be of one round. Got those of rounds {self.round} and {other.round}; "
                "install the next map after the last tile."
            )
        if self.sums.keys() != other.sums.keys():
            raise ValueError("Statistics to merge must be of one map. Got sums of two kinds of maps.")
        if self.scale != other.scale:
            raise ValueError(
                f"Statistics to merge must have one scale. Got {self.scale} and {other.scale} (None: of exact=False)."
            )
        return replace(
            self,
            sums={name: value + other.sums[name] for name, value in self.sums.items()},
            contested=self.contested.merge(other.contested),
            candidates=self.candidates.merge(other.candidates),
        ).canonical()

    def canonical(self) -> BatchStatistics:
        """Rows in their canonical order, cut to what can matter; does not change what is meant."""
        candidates = self.candidates
        if candidates.position.shape[0]:
            candidates = candidates.first(self.per_group, self.sums["hits"].shape[0])
        contested = self.contested.compact() if device.asking_is_free(self.contested.key) else self.contested
        return replace(self, contested=contested, candidates=candidates)

    def __eq__(self, other: object) -> bool:
        """Exact equality of everything."""
        if not isinstance(other, BatchStatistics):
            return NotImplemented
        (a, rows_a), (b, rows_b) = self.pack(), other.pack()
        same = (self.scale, self.round) == (other.scale, other.round)
        return same and torch.equal(a, b) and torch.equal(rows_a, rows_b)

    __hash__ = None  # type: ignore[assignment]

    def tally(self, name: str) -> int:
        """One of the counts in TALLIES (reads the device once)."""
        return int(self.sums["tally"][TALLIES.index(name)])

    def split(self, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Number, Σx and Σ|x − c| of a moment table, as float64 values."""
        features = self.num_features
        number, feature_sum, deviation_sum = table.split([table.shape[1] - 2 * features, features, features], dim=1)
        return number.to(torch.float64), from_fixed(feature_sum, self.scale), from_fixed(deviation_sum, self.scale)

    @property
    def quantization_error_sum(self) -> float:
        """Σ d over all samples, feature units."""
        total = self.sums["error_sum"].sum()
        return float(from_fixed(total, error_scale(self.scale, self.num_features)))

    def summary(self) -> dict[str, float]:
        """Monitoring values: samples, shares, quantization error, balance of the nodes (not reduced further)."""
        tally = dict(zip(TALLIES, self.sums["tally"].tolist(), strict=True))
        samples = max(1, tally["samples"])
        share = self.sums["hits"].to(torch.float64) / max(1, int(self.sums["hits"].sum()))
        entropy = -float(torch.special.xlogy(share, share).sum())
        return {
            "samples": float(tally["samples"]),
            "labelled": float(tally["labelled"]),
            "matched_share": 1 - tally["unmatched"] / samples,
            "rerouted_share": tally["rerouted"] / samples,
            "misplaced_share": tally["misplaced"] / max(1, tally["labelled"]),
            "quantization_error": self.quantization_error_sum / samples,
            "largest_share": float(share.max()),
            "effective_nodes": math.exp(entropy),
        }

    def pack(self) -> tuple[Tensor, Tensor]:
        """For the wire: one flat vector of additive sums, and rows that are gathered.

        Returns:
            flat: 1-D int64 (float64 without a scale), the same length for every tile of a map.
            rows: (r, columns) int64, as of `packed_rows`.
        """
        return torch.cat([value.flatten() for value in self.wire_sums().values()]), self.packed_rows()

    def wire_sums(self) -> dict[str, Tensor]:
        """`sums`, all of one type: int64, or float64 without a scale."""
        dtype = torch.float64 if self.scale is None else torch.int64
        return {name: value.to(dtype) for name, value in self.sums.items()}

    def packed_rows(self) -> Tensor:
        """(r, columns) int64: candidates and contested moments, floats by their bits.

        Any order and any split of them means the same.
        """
        own = self.canonical()
        c, k = own.candidates, own.contested.compact()
        c = c.take(c.valid.nonzero().squeeze(1))
        moments = k.moments if self.scale is not None else k.moments.view(torch.int64)
        fields = [torch.zeros_like(c.position), c.position, c.bmu, c.label, c.weight, c.rho.view(torch.int64)]
        head = torch.stack(fields, dim=1)
        proposals = torch.cat([head, c.features.contiguous().view(torch.int64)], dim=1)
        clones = torch.cat([torch.ones_like(k.key).unsqueeze(1), torch.stack([k.key, k.updates], 1), moments], dim=1)
        width = max(proposals.shape[1], clones.shape[1])
        pad = torch.nn.functional.pad
        return torch.cat([pad(part, (0, width - part.shape[1])) for part in (proposals, clones)])

    @classmethod
    def joined(cls, template: BatchStatistics, sums: dict[str, Tensor], rows: Tensor) -> BatchStatistics:
        """Of summed `wire_sums` and concatenated `packed_rows` of several parts."""
        sums = {name: sums[name].to(value.dtype) for name, value in template.sums.items()}
        proposals, clones = rows[rows[:, 0] == 0], rows[rows[:, 0] == 1]
        features = template.num_features
        label = proposals[:, 3]
        candidates = Candidates(
            valid=torch.ones_like(label, dtype=torch.bool),
            rho=proposals[:, 5].contiguous().view(torch.float64),
            position=proposals[:, 1],
            bmu=proposals[:, 2],
            label=label,
            weight=proposals[:, 4],
            features=proposals[:, 6 : 6 + features].contiguous().view(torch.float64),
        )
        moments = clones[:, 3 : 3 + template.contested.moments.shape[1]].contiguous()
        if template.scale is None:
            moments = moments.view(torch.float64)
        contested = Contested(key=clones[:, 1], moments=moments, updates=clones[:, 2])
        return replace(template, sums=sums, contested=contested, candidates=candidates).canonical()
