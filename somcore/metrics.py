"""How good a map is: every measure comes from counts and sums that merge over tiles and workers.

Axes: N samples, K nodes, C classes, D features. A contingency table is (K + 1, C): row j counts the samples
of node j by class, the last row those that belong to no node. Samples without a class are not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.distance import Tile, approximate, project
from somcore.matching import nearest
from somcore.state import MapState

_UNITS = 2**32  # distances are summed as whole multiples of 2**-32 feature units: sums merge in any order
_FAR, _FARTHEST = 2.0**30, 2.0**960


@dataclass(frozen=True)
class MapQuality:
    """Sums behind quantization and topographic error: add up with `merge`, divide once.

    Attributes:
        sample_count: samples looked at.
        distance_units: sum of the distances to the BMU, in 2**-32 feature units.
        torn_count: samples whose first and second BMU are not adjacent.
    """

    sample_count: int = 0
    distance_units: int = 0
    torn_count: int = 0

    def merge(self, other: MapQuality) -> MapQuality:
        """The quality over both parts."""
        return MapQuality(
            self.sample_count + other.sample_count,
            self.distance_units + other.distance_units,
            self.torn_count + other.torn_count,
        )

    @property
    def quantization_error(self) -> float:
        """Mean distance of a sample to its BMU, feature units; NaN without samples."""
        return self.distance_units / _UNITS / self.sample_count if self.sample_count else math.nan

    @property
    def topographic_error(self) -> float:
        """Share of samples whose first and second BMU are not adjacent; NaN without samples."""
        return self.torn_count / self.sample_count if self.sample_count else math.nan


def map_quality(state: MapState, features: Tensor, config: MapConfig) -> MapQuality:
    """Quality of a map on a tile of samples.

    Args:
        state: the map, with at least one node; one of a single node tears nothing.
        features: (n, D), feature units.
        config: its hyper-parameters.

    Returns:
        A `MapQuality`.

    Source: Kiviluoto 1996 for the topographic error; docs/concepts.md (scores).
    """
    distances, torn = sample_quality(state, features, config)
    return MapQuality(len(features), _sum_units(distances), int(torn.sum()))


def sample_quality(state: MapState, features: Tensor, config: MapConfig) -> tuple[Tensor, Tensor]:
    """(n,) distance of each sample to its BMU, and (n,) bool, whether its second BMU is not adjacent to that."""
    if not bool(state.alive.any()):
        raise ValueError("The map must have at least one node to measure its quality. Got an empty map.")
    tile = Tile.of(features, config.missing)
    projection = project(state, config)
    scores = approximate(projection, tile)
    first, rho = nearest(state, tile, projection, scores)
    others = projection.nodes != first.unsqueeze(1)
    second, _ = nearest(state, tile, projection, scores, others)
    relevances = state.relevances[first]
    if tile.observed is not None:
        relevances = relevances * tile.observed
    torn = (second >= 0) & ~state.neighbours[first, second]
    return (rho * relevances.sum(1)).sqrt().clamp_max(_FARTHEST), torn


def _sum_units(distances: Tensor) -> int:
    """Exact sum of distances rounded to whole units; split in halves so that int64 cannot overflow.

    Distances from 2**30 on, of samples far outside the training range, are added one by one.

    Raises:
        ValueError: a distance is NaN.
    """
    if bool(distances.isnan().any()):
        raise ValueError("The map and the samples must be finite to measure its quality. Got a distance that is NaN.")
    far = distances >= _FAR
    whole = (distances.masked_fill(far, 0.0) * _UNITS).round().to(torch.int64)
    beyond = sum(map(int, (distances[far] * _UNITS).tolist()))
    return beyond + (int((whole >> 31).sum()) << 31) + int((whole & (2**31 - 1)).sum())


def contingency(nodes: Tensor, classes: Tensor, num_nodes: int, num_classes: int) -> Tensor:
    """Samples by node and class; add tables of several tiles to merge them.

    Args:
        nodes: (n,) int64, -1 = no node.
        classes: (n,) int64, -1 = no class.
        num_nodes: K.
        num_classes: C.

    Returns:
        (K + 1, C) int64; the last row counts samples without a node.

    Example:
        >>> contingency(torch.tensor([0, 1, -1]), torch.tensor([0, 0, 1]), 2, 2).tolist()
        [[1, 0], [1, 0], [0, 1]]
    """
    counted = classes >= 0
    rows = torch.where(nodes >= 0, nodes, num_nodes)[counted]
    cells = torch.bincount(rows * num_classes + classes[counted], minlength=(num_nodes + 1) * num_classes)
    return cells.reshape(num_nodes + 1, num_classes)


def confusion(classes: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Samples by true and predicted class: (C, C + 1) int64, last column = predicted no class."""
    return contingency(predicted, classes, num_classes, num_classes).T.contiguous()


def accuracy(table: Tensor) -> float:
    """Share of right predictions of a `confusion` table; "no class" is an error; NaN without samples."""
    total = int(table.sum())
    return int(table.diagonal().sum()) / total if total else math.nan


def balanced_accuracy(table: Tensor) -> float:
    """Mean over the classes that have samples of the share that is right, of a `confusion` table; NaN without samples.

    Source: Brodersen et al., ICPR 2010.
    """
    sizes = table.sum(1)
    there = sizes > 0
    return float((table.diagonal()[there].to(torch.float64) / sizes[there]).mean())


def purity(table: Tensor) -> float:
    """Share of samples in the majority class of their node; samples without a node are errors."""
    total = int(table.sum())
    return int(table[:-1].amax(dim=1).sum()) / total if total and table.shape[0] > 1 else math.nan


def clustering_accuracy(table: Tensor) -> float:
    """Agreement under the best one-to-one matching of nodes and classes; all other samples are errors.

    Source: docs/concepts.md (scores). Comparable only between clusterings with a like number of nodes.
    """
    from scipy.optimize import linear_sum_assignment

    total = int(table.sum())
    if not total:
        return math.nan
    counts = table[:-1].cpu().numpy()
    return int(counts[linear_sum_assignment(counts, maximize=True)].sum()) / total


def normalized_mutual_information(table: Tensor) -> float:
    """Mutual information of nodes and classes over the mean of their entropies, in [0, 1].

    Samples without a node form a group of their own. Two groupings of one group each agree: 1.
    """
    total = int(table.sum())
    if not total:
        return math.nan
    joint = table.to(torch.float64) / total
    of_nodes, of_classes = joint.sum(dim=1), joint.sum(dim=0)
    mean_entropy = (_entropy(of_nodes) + _entropy(of_classes)) / 2
    if mean_entropy == 0:
        return 1.0
    information = _entropy(of_nodes) + _entropy(of_classes) - _entropy(joint.reshape(-1))
    return min(1.0, max(0.0, information / mean_entropy))


def _entropy(shares: Tensor) -> float:
    return float(-torch.special.xlogy(shares, shares).sum())


def adjusted_rand_index(table: Tensor) -> float:
    """Agreement of pairs corrected for chance; 1 = equal groupings, 0 = chance. Exact in integers.

    Source: Hubert & Arabie, Journal of Classification 2, 1985.
    """
    total = int(table.sum())
    if not total:
        return math.nan

    def pairs(counts: Tensor) -> int:
        return sum(n * (n - 1) // 2 for n in counts.reshape(-1).tolist())

    together, in_nodes, in_classes = pairs(table), pairs(table.sum(dim=1)), pairs(table.sum(dim=0))
    every = total * (total - 1) // 2
    # (together - expected) / (mean - expected), expected = in_nodes * in_classes / every, times 2 * every
    above = 2 * (together * every - in_nodes * in_classes)
    below = (in_nodes + in_classes) * every - 2 * in_nodes * in_classes
    return above / below if below else 1.0


def trustworthiness(features: Tensor, embedding: Tensor, num_neighbours: int = 5) -> float:
    """Are neighbours in the embedding neighbours in the data? 1 = all of them. Costs O(N^2).

    Args:
        features: (N, D) samples.
        embedding: (N, E) their places, such as lattice positions of their BMUs.
        num_neighbours: k, less than N / 2.

    Returns:
        Trustworthiness in [0, 1]; ties go to the lowest index.

    Source: Venna & Kaski, Neural Networks 19, 2006.
    """
    size, k = features.shape[0], num_neighbours
    if not 1 <= k < size / 2:
        raise ValueError(f"num_neighbours must be in [1, N / 2) with N = {size}. Got {k}.")
    for name, points in (("features", features), ("embedding", embedding)):
        if not bool(points.isfinite().all()):
            raise ValueError(f"{name} must be finite to be compared. Got a value that is NaN or infinite.")
    penalty = 0
    for start in range(0, size, 256):
        rows = torch.arange(start, min(start + 256, size))
        ranks = _order(features, rows).argsort(dim=1)  # 0 = nearest other sample
        near = _order(embedding, rows)[:, :k]
        penalty += int((ranks.gather(1, near) + 1 - k).clamp_min(0).sum())
    return 1.0 - 2.0 / (size * k * (2 * size - 3 * k - 1)) * penalty


def continuity(features: Tensor, embedding: Tensor, num_neighbours: int = 5) -> float:
    """Are neighbours in the data neighbours in the embedding? Trustworthiness with the roles exchanged."""
    return trustworthiness(embedding, features, num_neighbours)


def _order(points: Tensor, rows: Tensor) -> Tensor:
    """(n, N) samples by increasing distance from each of the given rows, the row itself last."""
    points = points.to(torch.float64)
    distances = torch.cdist(points[rows], points, compute_mode="donot_use_mm_for_euclid_dist")
    distances[torch.arange(len(rows)), rows] = torch.inf
    return distances.argsort(dim=1, stable=True)


def u_matrix(prototypes: Tensor, adjacent: Tensor) -> Tensor:
    """Mean distance of each prototype to the prototypes of its adjacent nodes; 0 for a node without any.

    Args:
        prototypes: (K, D).
        adjacent: (K, K) bool.

    Returns:
        (K,) float64, feature units.

    Source: Ultsch & Siemon 1990.
    """
    prototypes = prototypes.to(torch.float64)
    gaps = torch.cdist(prototypes, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.where(adjacent, gaps, 0.0).sum(dim=1) / adjacent.sum(dim=1).clamp_min(1)


def full_u_matrix(
    prototypes: Tensor, rows: int, columns: int, adjacent: Tensor, lattice: str, toroidal: bool
) -> Tensor:
    """The U-matrix with the values of edges between those of nodes.

    Nodes are at even places. Rectangular: edges between them, the mean of both diagonals at odd places.
    Hexagonal: the two edges that lead down from each node.

    Args:
        prototypes: (K, D).
        rows: R.
        columns: Q.
        adjacent: (K, K) bool.
        lattice: "rectangular" or "hexagonal".
        toroidal: edges wrap, the result is (2R, 2Q).

    Returns:
        (2R - 1, 2Q - 1) float64.
    """
    grid = prototypes.to(torch.float64).reshape(rows, columns, -1)
    below, beside = grid.roll(-1, 0), grid.roll(-1, 1)
    falling = (grid - below.roll(-1, 1)).norm(dim=2)  # (r, c) to (r + 1, c + 1)
    rising = (beside - below).norm(dim=2)  # (r, c + 1) to (r + 1, c)
    corner = (falling + rising) / 2
    if lattice == "hexagonal":
        corner = torch.where((torch.arange(rows) % 2 == 0).unsqueeze(1), rising, falling)
    full = torch.zeros(2 * rows, 2 * columns, dtype=torch.float64)
    full[::2, ::2] = u_matrix(prototypes, adjacent).reshape(rows, columns)
    full[::2, 1::2] = (grid - beside).norm(dim=2)
    full[1::2, ::2] = (grid - below).norm(dim=2)
    full[1::2, 1::2] = corner
    return full if toroidal else full[: 2 * rows - 1, : 2 * columns - 1]
