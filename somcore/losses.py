"""What a network minimises on a frozen map: sums over samples, with the gradient to the features only.

Each term is a function that gives a sum and the number of samples (or tiles) that contributed. Nothing is
divided here: sums of tiles add up to the sum of the round, whose sizes the plan knows beforehand.
Nothing in here waits for the device.

Axes: n samples of a tile, K nodes, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import UNLABELLED
from somcore.latent import Errors, errors_to
from somcore.loss_config import LossConfig
from somcore.matching import Match
from somcore.state import MapState

_NEVER = -1e30  # a logit: finite, so that no gradient becomes NaN
_SMALLEST = 1e-12  # a probability: keeps the derivative of p·log p finite
_STD_FLOOR = 1e-8  # keeps the derivative of the root finite for a constant feature

WEIGHTS = {
    "pull": "pull_weight",
    "labelled_pull": "labelled_pull_weight",
    "push": "push_weight",
    "cross_entropy": "cross_entropy_weight",
    "consistency": "consistency_weight",
    "strong_cross_entropy": "strong_cross_entropy_weight",
    "agreement": "agreement_weight",
    "balance": "balance_weight",
    "reconstruction": "reconstruction_weight",
    "variance": "variance_weight",
    "covariance": "covariance_weight",
}
"""Terms, and the field of `LossConfig` that weighs each."""

_DIVISORS = {
    "pull": "unlabelled",
    "labelled_pull": "labelled",
    "push": "labelled",
    "cross_entropy": "labelled",
    "consistency": "unlabelled",
    "strong_cross_entropy": "labelled",
    "agreement": "samples",
    "balance": "tiles",
    "reconstruction": "samples",
    "variance": "tiles",
    "covariance": "tiles",
}


@dataclass(frozen=True)
class Term:
    """One term of the loss on one tile.

    Attributes:
        sum: () floating point, with a gradient to the features.
        count: () int64, samples (tiles for variance and covariance) that contributed.
    """

    sum: Tensor
    count: Tensor


@dataclass(frozen=True)
class RoundTotals:
    """Sizes of a whole round, known from its plan: what the sums are divided by.

    Attributes:
        samples: N, labelled and unlabelled.
        labelled: N_l.
        tiles: tiles of the round.
    """

    samples: int
    labelled: int
    tiles: int = 1

    def divisor(self, term: str) -> int:
        """N_l, N_u, N or the number of tiles; 1 where there is nothing to divide."""
        sizes = {
            "samples": self.samples,
            "labelled": self.labelled,
            "unlabelled": self.samples - self.labelled,
            "tiles": self.tiles,
        }
        return max(1, sizes[_DIVISORS[term]])


def _at(table: Tensor, columns: Tensor) -> Tensor:
    """(n,) one entry of each row; anything where the column is −1."""
    return table.gather(1, columns.clamp_min(0).unsqueeze(1)).squeeze(1)


def _masked(values: Tensor, mask: Tensor) -> Term:
    """Σ over the mask; values outside it may be infinite, no gradient goes there."""
    return Term(torch.where(mask, values, 0.0).sum(), mask.sum())


def pull(errors: Errors, found: Match, labels: Tensor) -> Term:
    """Unlabelled samples that a node accepts: ρ to that node. The others wait to become nodes."""
    return _masked(_at(errors.nodes, found.compatible_bmu), found.matched & (labels == UNLABELLED))


def own_errors(errors: Errors, found: Match, labels: Tensor) -> tuple[Tensor, Tensor]:
    """ρ of labelled samples to their own node, and which samples have one.

    Own is the accepting node b*, else the nearest node of the sample's class, also when the map is full.

    Returns:
        rho: (n,).
        exists: (n,) bool.
    """
    labelled = labels != UNLABELLED
    accepted = found.matched & labelled
    if errors.classes.shape[1] == 0:
        return _at(errors.nodes, found.compatible_bmu), accepted
    of_class = _at(errors.classes, labels)
    rho = torch.where(accepted, _at(errors.nodes, found.compatible_bmu), of_class)
    return rho, accepted | (labelled & torch.isfinite(of_class))


def labelled_pull(errors: Errors, found: Match, labels: Tensor) -> Term:
    """Labelled samples towards their own node: ρ_own."""
    return _masked(*own_errors(errors, found, labels))


def push(errors: Errors, found: Match, labels: Tensor, margin: float) -> Term:
    """max(0, μ + ρ_own − ρ_wrong), wrong = the nearest node of another class."""
    if errors.classes.shape[1] == 0:
        return _masked(errors.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    own, exists = own_errors(errors, found, labels)
    others = torch.arange(errors.classes.shape[1], device=labels.device) != labels.unsqueeze(1)
    wrong = errors.classes.masked_fill(~others, torch.inf).amin(1)
    exists = exists & torch.isfinite(wrong)
    gap = margin + torch.where(exists, own, 0.0) - torch.where(exists, wrong, 0.0)
    return _masked(gap.clamp_min(0), exists)


def class_logits(errors: Errors, temperature: float) -> Tensor:
    """(n, C) −ρ̃/ϑ; a very small finite number for classes without a node."""
    known = torch.isfinite(errors.classes)
    return torch.where(known, -torch.where(known, errors.classes, 0.0) / temperature, _NEVER)


def cross_entropy(errors: Errors, labels: Tensor, temperature: float) -> Term:
    """−log softmax_y(−ρ̃/ϑ) of labelled samples; classes without a node take no part.

    Source: prototype distances as logits, after Snell et al. 2017.
    """
    if errors.classes.shape[1] == 0:
        return _masked(errors.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    valid = (labels != UNLABELLED) & torch.isfinite(_at(errors.classes, labels))
    likelihood = torch.log_softmax(class_logits(errors, temperature), dim=1)
    return _masked(-_at(likelihood, labels), valid)


def consistency(weak: Errors, strong: Errors, labels: Tensor, temperature: float, confidence: float) -> Term:
    """Unlabelled samples whose weak view is sure of a class: −log p of that class on the strong view.

    The weak view is detached: it says what to predict, only the strong view learns.
    """
    if weak.classes.shape[1] == 0:
        return _masked(strong.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    with torch.no_grad():
        sure, guess = torch.softmax(class_logits(weak, temperature), dim=1).max(1)
        valid = (labels == UNLABELLED) & (sure >= confidence) & torch.isfinite(weak.classes).any(1)
    likelihood = torch.log_softmax(class_logits(strong, temperature), dim=1)
    return _masked(-_at(likelihood, guess), valid)


def node_logits(state: MapState, errors: Errors, temperature: float) -> Tensor:
    """(n, K) −ρ/ϑ; a very small finite number for dead nodes."""
    return torch.where(state.alive, -errors.nodes / temperature, _NEVER)


def agreement(state: MapState, weak: Errors, strong: Errors, temperature: float) -> Term:
    """−log p of the weak view's BMU on the strong view, p = softmax over nodes of −ρ/ϑ; reads no label.

    The BMU is detached: the strong view learns to fall on the node of the weak one.

    Source: decision 0013; assignments as targets after Caron et al. 2018 (DeepCluster), views after Hu et al. 2017
        (IMSAT).
    """
    with torch.no_grad():
        bmu = node_logits(state, weak, temperature).argmax(1)
    likelihood = torch.log_softmax(node_logits(state, strong, temperature), dim=1)
    return _masked(-_at(likelihood, bmu), state.alive.any().expand(len(bmu)))


def balance(state: MapState, errors: Errors, temperature: float) -> Term:
    """log K − H(p̄) over the K alive nodes, p̄ = mean of p over the tile: 0 when all nodes are used alike.

    Within the tile only, so no tile is tied to another. Keeps agreement from sending everything to one node.

    Source: decision 0013; marginal entropy after Krause et al. 2010 (RIM).
    """
    one = state.alive.any().to(torch.int64)
    if len(errors.nodes) == 0:  # a mean of nothing is no number
        return Term(errors.nodes.sum(), torch.zeros_like(one))
    mean = torch.softmax(node_logits(state, errors, temperature), dim=1).mean(0)
    entropy = -torch.xlogy(mean, mean.clamp_min(_SMALLEST)).sum()
    largest = torch.log(state.alive.sum().clamp_min(1).to(entropy.dtype))
    return Term((largest - entropy) * one, one)


def reconstruction(inputs: Tensor, decoded: Tensor) -> Term:
    """Mean over pixels of (x − g(z))², summed over all samples."""
    gap = (decoded - inputs.to(decoded.dtype)).flatten(1)
    return Term(gap.square().mean(1).sum(), torch.full((), len(gap), dtype=torch.int64, device=gap.device))


def variance(features: Tensor, floor: float) -> Term:
    """Mean over features of max(0, γ − std), the deviation within the tile; no coupling between tiles.

    A tile of one sample has no deviation and contributes nothing.
    """
    one = torch.full((), int(len(features) > 1), dtype=torch.int64, device=features.device)
    if len(features) < 2:
        return Term(features.sum() * 0, one)
    spread = (features.var(0, correction=0) + _STD_FLOOR).sqrt()
    return Term((floor - spread).clamp_min(0).mean(), one)


def covariance(features: Tensor) -> Term:
    """Σ over pairs of features of their squared covariance within the tile, divided by D."""
    one = torch.full((), int(len(features) > 1), dtype=torch.int64, device=features.device)
    if len(features) < 2:
        return Term(features.sum() * 0, one)
    centred = features - features.mean(0)
    table = centred.T @ centred / (len(features) - 1)
    return Term((table.square().sum() - table.diagonal().square().sum()) / features.shape[1], one)


@dataclass(frozen=True)
class Views:
    """What the loss may look at beside the features of the weak view.

    Attributes:
        strong: (n, D) features of the strong view; None = no consistency.
        inputs: (n, ...) what the decoder must give back; None = no reconstruction.
        decoded: (n, ...) what it gave.
    """

    strong: Tensor | None = None
    inputs: Tensor | None = None
    decoded: Tensor | None = None


def loss_terms(
    state: MapState,
    features: Tensor,
    labels: Tensor,
    found: Match,
    losses: LossConfig,
    *,
    error_threshold: float,
    views: Views | None = None,
) -> dict[str, Term]:
    """Every term that has a weight and something to look at, by name.

    Args:
        state: the frozen map.
        features: (n, D), with a gradient.
        labels: (n,) int64.
        found: the tile's match on the frozen map.
        losses: weights and constants.
        error_threshold: ρ_t, from which margin and temperature follow if they are not given.
        views: strong view and reconstruction.
    """
    views = views or Views()
    temperature, margin = losses.decisions(error_threshold)
    soft = temperature if losses.class_error == "soft" else None
    errors = errors_to(state, features, soft=soft)
    offered = {
        "pull": lambda: pull(errors, found, labels),
        "labelled_pull": lambda: labelled_pull(errors, found, labels),
        "push": lambda: push(errors, found, labels, margin),
        "cross_entropy": lambda: cross_entropy(errors, labels, temperature),
        "variance": lambda: variance(features, losses.variance_floor),
        "covariance": lambda: covariance(features),
    }
    started = losses.consistency_start is None or state.round >= losses.consistency_start
    if started:
        offered["balance"] = lambda: balance(state, errors, temperature)
    if views.strong is not None:
        strong = errors_to(state, views.strong, soft=soft)
        offered["strong_cross_entropy"] = lambda: cross_entropy(strong, labels, temperature)
        if started:
            offered["consistency"] = lambda: consistency(errors, strong, labels, temperature, losses.confidence)
            offered["agreement"] = lambda: agreement(state, errors, strong, temperature)
    if views.inputs is not None and views.decoded is not None:
        inputs, decoded = views.inputs, views.decoded
        offered["reconstruction"] = lambda: reconstruction(inputs, decoded)
    return {name: offered[name]() for name in WEIGHTS if name in offered and getattr(losses, WEIGHTS[name]) > 0}


def weighted_sum(terms: dict[str, Term], losses: LossConfig, totals: RoundTotals | None = None) -> Tensor:
    """Σ λ·sum, or Σ λ·sum/divisor with the sizes of the round; adds up over the tiles of a round.

    Returns:
        () 0 without any term.
    """
    total = torch.zeros(())
    for name, term in terms.items():
        weight = float(getattr(losses, WEIGHTS[name]))
        total = total.to(term.sum.device) + term.sum * (weight if totals is None else weight / totals.divisor(name))
    return total
