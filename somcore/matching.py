"""Who wins a sample: the BMU, the best compatible node, prediction.

Ties go to the lowest index. Axes: n samples of a tile, K nodes, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from somcore import device
from somcore.config import UNLABELLED, MapConfig
from somcore.distance import (
    CACHED,
    Projection,
    Scores,
    Tile,
    approximate,
    exact_errors,
    project,
    rows_where,
    squared_errors,
)
from somcore.relevance import corrected_deviations
from somcore.state import MapState

_AT_ONCE = 2**22  # numbers of the exact errors that are held at once, in each of a few tensors: 32 MB
_RESOLUTION = 2.0**-32
_TELLING = 2.0**80  # bound of an approximate error beyond which float32 may overflow
_COLDEST = 2.0**-500  # no error divided by it is infinite
_STEPS = 2.0**-38  # four of the steps in which features up to 1 are summed


@dataclass(frozen=True)
class Match:
    """What a frozen map says of a tile of samples.

    Attributes:
        bmu: (n,) int64, best matching unit, −1 on an empty map.
        rho: (n,) float64, its mean squared error per unit of relevance, +inf on an empty map.
        compatible_bmu: (n,) int64, best node whose class is the sample's or none; −1 if there is no such node.
        compatible_rho: (n,) float64, its error, +inf if there is none.
        matched: (n,) bool, the sample is accepted by `compatible_bmu`.
    """

    bmu: Tensor
    rho: Tensor
    compatible_bmu: Tensor
    compatible_rho: Tensor
    matched: Tensor

    def take(self, rows: slice) -> Match:
        """Of these samples."""
        return Match(*(getattr(self, field.name)[rows] for field in fields(self)))


def nearest(
    state: MapState, tile: Tile, projection: Projection, scores: Scores, allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The node of least error for each sample, decided in float64.

    Args:
        state: the map.
        tile: (n, D) samples.
        projection: the prepared map, A nodes.
        scores: approximate errors of the samples.
        allowed: (n, A) bool, nodes that may win; None = all alive ones.

    Returns:
        node: (n,) int64, −1 if no node may win.
        rho: (n,) float64, +inf if no node may win.
    """
    values = _where_told(state, projection, scores, allowed)
    if values.shape[1] == 0:
        nobody = torch.full((values.shape[0],), -1, dtype=torch.int64, device=values.device)
        return nobody, torch.full_like(nobody, torch.inf, dtype=torch.float64)
    least, place = values.min(dim=1)
    node = projection.nodes[place]
    exists = torch.isfinite(least)
    rivals = (values <= (least + 2 * scores.margin).unsqueeze(1)).sum(1)
    rows = rows_where(exists & (rivals > 1))
    for part in _portions(rows, rivals, values.shape[1] * state.num_features):
        node = node.index_copy(0, part, _decide(state, tile.take(part), projection, values[part], rivals[part]))
    rho = exact_errors(state, tile, node.unsqueeze(1)).squeeze(1)
    return torch.where(exists, node, -1), torch.where(exists, rho, torch.inf)


def _where_told(state: MapState, projection: Projection, scores: Scores, allowed: Tensor | None) -> Tensor:
    """Scores of the nodes that may win; those of samples so far away that they may overflow say nothing: all 0."""
    values = scores.values if allowed is None else scores.values.masked_fill(~allowed, torch.inf)
    untold = ~(scores.margin <= _TELLING)
    if device.asking_is_free(values) and not bool(untold.any()):
        return values
    may_win = state.alive[projection.nodes] if allowed is None else allowed & state.alive[projection.nodes]
    return torch.where(untold.unsqueeze(1), torch.where(may_win, 0.0, torch.inf), values)


def _portions(rows: Tensor, rivals: Tensor, size: int) -> Sequence[Tensor]:
    """Rows to be decided together: some megabytes at once, and those with few rivals apart from those with many.

    Where asking is not free in the order that they have; all at once where a graph for any number of rows is recorded.
    """
    if rows.shape[0] == 0:
        return ()
    most = max(1, _AT_ONCE // max(1, size))
    if device.is_recorded() or rows.shape[0] <= most:
        return (rows,)
    if device.asking_is_free(rows):
        rows = rows[rivals[rows].argsort(stable=True)]
    return list(rows.split(most))


def _decide(state: MapState, tile: Tile, projection: Projection, values: Tensor, rivals: Tensor) -> Tensor:
    """Exact winners among the nodes whose errors are too close to call; (n,) int64 slots.

    Where asking is not free, how many those are is not known: it is decided among all nodes.
    """
    places = torch.arange(values.shape[1], device=values.device).expand(values.shape)
    if device.asking_is_free(values):
        places = values.topk(int(rivals.max()), dim=1, largest=False).indices.sort(dim=1).values
    shortlist = projection.nodes[places]
    errors = exact_errors(state, tile, shortlist)
    errors = torch.where(torch.isfinite(values.gather(1, places)), errors, torch.inf)
    return shortlist.gather(1, errors.argmin(dim=1, keepdim=True)).squeeze(1)


def compatible(ours: Tensor, theirs: Tensor) -> Tensor:
    """Whether classes agree, elementwise: they are the same, or one of them is UNLABELLED."""
    return (ours == theirs) | (ours == UNLABELLED) | (theirs == UNLABELLED)


def match(
    state: MapState,
    features: Tensor | Tile,
    labels: Tensor | None = None,
    *,
    config: MapConfig,
    projection: Projection | None = None,
) -> Match:
    """Match samples against a frozen map.

    Args:
        state: the map.
        features: (n, D) floating point; NaN only with missing="mask".
        labels: (n,) int64 classes, UNLABELLED where unknown; None = all unknown.
        config: resolved hyper-parameters.
        projection: `project(state, ...)` if it is at hand.

    Returns:
        A `Match`.

    Source: Braga & Bassani, IJCNN 2018 (next right-class winner); 2019 (local boxes).

    Example:
        >>> from somcore import MapConfig, SSSOM
        >>> som = SSSOM(seed=0).fit([[0.0, 0.1], [0.9, 1.0]], [0, 1])
        >>> match(som.state_, torch.tensor([[0.0, 0.1]]), config=som.config_).matched
        tensor([True])
    """
    tile = features if isinstance(features, Tile) else Tile.of(features, config.missing)
    projection = projection or project(state, config)
    scores = approximate(projection, tile)
    bmu, rho = nearest(state, tile, projection, scores)
    if labels is None or state.num_classes == 0:
        best, best_rho = bmu, rho
    else:
        best, best_rho = _best_compatible(state, tile, labels, projection, scores, bmu, rho)
    if config.has_boxes:
        matched = (best >= 0) & ((best != bmu) | inside_box(state, tile, bmu, config))
    elif config.is_growing:
        matched = best_rho <= config.error_threshold
    else:
        matched = torch.isfinite(best_rho)
    return Match(bmu, rho, best, best_rho, matched)


def _best_compatible(
    state: MapState,
    tile: Tile,
    labels: Tensor,
    projection: Projection,
    scores: Scores,
    bmu: Tensor,
    rho: Tensor,
) -> tuple[Tensor, Tensor]:
    """b*: the BMU where its class fits, else the nearest node whose class does."""
    foreign = (bmu >= 0) & ~compatible(state.classes[bmu], labels)
    rows = rows_where(foreign)
    if rows.shape[0] == 0:
        return bmu, rho
    allowed = compatible(state.classes[projection.nodes], labels[rows].unsqueeze(1))
    node, error = nearest(state, tile.take(rows), projection, scores.take(rows), allowed)
    best = bmu.index_copy(0, rows, torch.where(foreign[rows], node, bmu[rows]))
    return best, rho.index_copy(0, rows, torch.where(foreign[rows], error, rho[rows]))


def box(state: MapState, config: MapConfig) -> Tensor:
    """(K, D) float64: how far a sample may lie from each prototype, δ̂ / ω (ALTSS-SOM).

    The closed box of a feature that never varied would reject its own value after rounding: hence the last term,
    far below any feature's scale, above the resolution of the sums.
    """
    own = corrected_deviations(state.deviations, state.updates, config.deviation_decay) / state.relevances
    return own + (_RESOLUTION * state.prototypes.abs().max()).clamp_min(_STEPS)


def inside_box(state: MapState, tile: Tile, nodes: Tensor, config: MapConfig) -> Tensor:
    """(n,) bool: |x − c| ≤ δ̂ / ω in every observed feature of the given node (closed box)."""
    within = (tile.features - state.prototypes[nodes]).abs() <= box(state, config)[nodes]
    if tile.observed is not None:
        within |= ~tile.observed
    return within.all(dim=1)


def box_ratios(state: MapState, features: Tensor, config: MapConfig) -> Tensor:
    """How far each sample lies from its BMU, in parts of the way to the border of its box (ALTSS-SOM).

    A quotient of two numbers is rounded to the right side of 1, so it is above 1 exactly where `inside_box` is False.

    Args:
        state: the map.
        features: (n, D) floating point; NaN only with missing="mask".
        config: resolved hyper-parameters.

    Returns:
        (n,) float64, the largest |x − c| / (δ̂ / ω) of an observed feature; 0 at the prototype, +inf on an empty map.
    """
    tile = Tile.of(features, config.missing)
    bmu = match(state, tile, config=config).bmu
    gap = (tile.features - state.prototypes[bmu]).abs()
    ratio = torch.where(gap > 0, gap / box(state, config)[bmu], 0.0)  # 0 / 0 is at the prototype
    if tile.observed is not None:
        ratio = torch.where(tile.observed, ratio, 0.0)
    return torch.where(bmu >= 0, ratio.amax(dim=1), torch.inf)


def activations(state: MapState, features: Tensor, config: MapConfig) -> Tensor:
    """a = 1 / (1 + ρ) for every sample and node: (n, K) float64, 0 for dead nodes."""
    return 1 / (1 + squared_errors(state, Tile.of(features, config.missing)))


def predict_nodes(state: MapState, features: Tensor, config: MapConfig) -> tuple[Tensor, Tensor]:
    """BMU and its error for each sample; with `noise_filter`, −1 for samples that no node accepts.

    Returns:
        nodes: (n,) int64.
        rho: (n,) float64.
    """
    tile = Tile.of(features, config.missing)
    found = match(state, tile, config=config)
    if not config.noise_filter:
        return found.bmu, found.rho
    accepted = found.matched
    if config.variant == "dssom":
        accepted = 1 / (1 + found.rho) >= config.outlier_threshold
    return torch.where(accepted, found.bmu, -1), found.rho


def predict_classes(state: MapState, features: Tensor, config: MapConfig) -> Tensor:
    """Class of each sample's BMU; where it has none, of the nearest node that has one.

    With fallback="threshold" such a node must reach the activation threshold (the published rule); with
    `noise_filter`, samples that no node accepts get no class.

    Returns:
        (n,) int64, UNLABELLED where no class can be said.
    """
    tile = Tile.of(features, config.missing)
    nodes, _ = predict_nodes(state, features, config)
    classes = torch.where(nodes >= 0, state.classes[nodes], UNLABELLED)
    lacking = (nodes >= 0) & (classes == UNLABELLED)
    rows = rows_where(lacking)
    if device.asking_is_free(rows) and (rows.shape[0] == 0 or not bool((state.classes >= 0).any())):
        return classes
    part = tile.take(rows)
    projection = project(state, config)
    allowed = (state.classes[projection.nodes] >= 0).expand(rows.shape[0], -1)
    node, rho = nearest(state, part, projection, approximate(projection, part), allowed)
    found = state.classes[node]
    if config.fallback == "threshold":
        accepted = inside_box(state, part, node, config) if config.has_boxes else rho <= config.error_threshold
        found = torch.where(accepted, found, UNLABELLED)
    return classes.index_copy(0, rows, torch.where(lacking[rows], found, classes[rows]))


def class_errors(state: MapState, features: Tensor, config: MapConfig) -> Tensor:
    """Least ρ over the nodes of each class: (n, C) float64, +inf for a class without a node."""
    errors = squared_errors(state, Tile.of(features, config.missing))
    best = torch.full((errors.shape[0], state.num_classes), torch.inf, dtype=torch.float64, device=errors.device)
    owners = torch.where(state.classes >= 0, state.classes, 0).expand(errors.shape[0], -1)
    return best.scatter_reduce(1, owners, errors.masked_fill(state.classes < 0, torch.inf), "amin")


def class_probabilities(
    state: MapState, features: Tensor, config: MapConfig, temperature: float | None = None
) -> Tensor:
    """softmax over classes of −min ρ / ϑ.

    Args:
        state: the map.
        features: (n, D).
        config: resolved hyper-parameters.
        temperature: ϑ; None = ρ_t (ALTSS-SOM: the mean of δ̂² over alive nodes and features). A deep map was trained
            with one of its own (`LossConfig.decisions`), with which these are the probabilities that it learned.

    Returns:
        (n, C) float64; uniform if no class has a node.
    """
    if state.num_classes == 0:
        return torch.zeros(features.shape[0], 0, dtype=torch.float64, device=features.device)
    errors = class_errors(state, features, config)
    temperature = _temperature(state, config) if temperature is None else temperature
    known = torch.isfinite(errors).any(dim=1, keepdim=True)
    return torch.softmax(torch.where(known, -errors / temperature, 0.0), dim=1)


def _temperature(state: MapState, config: MapConfig) -> float:
    if not config.has_boxes:
        return config.error_threshold
    spread = corrected_deviations(state.deviations, state.updates, config.deviation_decay)[state.alive]
    mean = float(spread.square().mean()) if spread.numel() else 1.0
    return max(mean, _COLDEST) if mean > 0 else 1.0


def subspace_members(state: MapState, features: Tensor, config: MapConfig) -> Tensor:
    """Every node that a sample belongs to: (n, K) bool.

    LARFDSSOM and its kin: the BMU and every node whose error reaches the threshold (local box for ALTSS-SOM); none with
    `noise_filter`, where the BMU does not accept the sample.
    DSSOM: winners found one after another, each depleting the relevances it explains. Kohonen's map: the BMU.
    """
    tile = Tile.of(features, config.missing)
    if config.variant == "dssom":
        return _depleted_members(state, tile, config)
    if config.variant == "kohonen":
        nodes, _ = predict_nodes(state, features, config)
        return torch.nn.functional.one_hot(nodes, state.capacity).bool()
    errors = squared_errors(state, tile)
    if config.has_boxes:
        every = torch.arange(state.capacity, device=errors.device)
        inside = [inside_box(state, tile, node.expand(errors.shape[0]), config) for node in every]
        members = torch.stack(inside, dim=1) & state.alive
    else:
        members = errors <= config.error_threshold
    bmu = torch.nn.functional.one_hot(errors.argmin(dim=1), state.capacity).bool() & state.alive
    return members & (members & bmu).any(dim=1, keepdim=True) if config.noise_filter else members | bmu


def _depleted_members(state: MapState, tile: Tile, config: MapConfig) -> Tensor:
    rows = torch.arange(len(tile.features), device=tile.features.device)
    step = max(1, CACHED // state.prototypes.numel())
    return torch.cat([_depleted(state, tile.take(part), config) for part in rows.split(step)])


def _depleted(state: MapState, tile: Tile, config: MapConfig) -> Tensor:
    residual = torch.ones_like(tile.features) if tile.observed is None else tile.observed.to(tile.features.dtype)
    members = torch.zeros(tile.features.shape[0], state.capacity, dtype=torch.bool, device=residual.device)
    squared = (tile.features.unsqueeze(1) - state.prototypes).square()
    active = torch.ones_like(members[:, 0])  # every sample has a winner, whatever is left of it afterwards
    for _ in range(config.max_members):
        rows = rows_where(active)
        weights = state.relevances * residual[rows].unsqueeze(1)
        errors = (weights * squared[rows]).sum(2) / weights.sum(2).clamp_min(1e-300)
        winner = errors.argmin(dim=1)
        members[rows, winner] |= active[rows]
        left = residual[rows] * (1 - state.relevances[winner])
        residual[rows] = torch.where(active[rows].unsqueeze(1), left, residual[rows])
        active = residual.amax(dim=1) > config.residual_threshold
    if config.noise_filter:
        rho = exact_errors(state, tile, squared_errors(state, tile).argmin(1, keepdim=True)).squeeze(1)
        members &= (1 / (1 + rho) >= config.outlier_threshold).unsqueeze(1)
    return members
