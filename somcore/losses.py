"""What a network minimises on a frozen map: sums over samples, with the gradient to the network only.

Each term is a function that gives a sum and the number of samples (or tiles) that contributed. Nothing is
divided here: sums of tiles add up to the sum of the round, whose sizes the plan knows beforehand.
Nothing in here waits for the device.

Axes: n samples of a tile, K nodes, D features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import UNLABELLED
from somcore.latent import Errors, errors_to
from somcore.loss_config import LossConfig
from somcore.matching import Match
from somcore.state import MapState
from somcore.terms import Term, at, classifier, covariance, masked, negative_log_likelihood, reconstruction, variance

_NEVER = -1e30  # a logit: finite, so that no gradient becomes NaN
_SMALLEST = 1e-12  # a probability: keeps the derivative of p·log p finite

TERMS = {
    "pull": ("unlabelled", "pull_weight"),
    "labelled_pull": ("labelled", "labelled_pull_weight"),
    "push": ("labelled", "push_weight"),
    "cross_entropy": ("labelled", "cross_entropy_weight"),
    "consistency": ("guessed", "consistency_weight"),
    "strong_cross_entropy": ("labelled", "strong_cross_entropy_weight"),
    "classifier": ("labelled", "classifier_weight"),
    "strong_classifier": ("labelled", "classifier_weight", "strong_cross_entropy_weight"),
    "classifier_consistency": ("guessed", "classifier_weight", "consistency_weight"),
    "agreement": ("samples", "agreement_weight"),
    "balance": ("tiles", "balance_weight"),
    "reconstruction": ("samples", "reconstruction_weight"),
    "variance": ("tiles", "variance_weight"),
    "covariance": ("tiles", "covariance_weight"),
}
"""Terms: the size of the round that divides each, then the fields of `LossConfig` whose product weighs it."""


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
        """N_l, N_u, N or the number of tiles; 1 where there is nothing to divide.

        Terms that learn from pseudo-labels divide by N_l where it is more than N_u: a guess never weighs more than a
        label.

        Source: decision 0031.
        """
        unlabelled = self.samples - self.labelled
        sizes = {
            "samples": self.samples,
            "labelled": self.labelled,
            "unlabelled": unlabelled,
            "guessed": max(unlabelled, self.labelled),
            "tiles": self.tiles,
        }
        return max(1, sizes[TERMS[term][0]])


def pull(errors: Errors, found: Match, labels: Tensor) -> Term:
    """Unlabelled samples that a node accepts: ρ to that node. The others wait to become nodes."""
    return masked(at(errors.nodes, found.compatible_bmu), found.matched & (labels == UNLABELLED))


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
        return at(errors.nodes, found.compatible_bmu), accepted
    of_class = at(errors.classes, labels)
    rho = torch.where(accepted, at(errors.nodes, found.compatible_bmu), of_class)
    return rho, accepted | (labelled & torch.isfinite(of_class))


def labelled_pull(errors: Errors, found: Match, labels: Tensor) -> Term:
    """Labelled samples towards their own node: ρ_own."""
    return masked(*own_errors(errors, found, labels))


def push(errors: Errors, found: Match, labels: Tensor, margin: float) -> Term:
    """max(0, μ + ρ_own − ρ_wrong), wrong = the nearest node of another class."""
    if errors.classes.shape[1] == 0:
        return masked(errors.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    own, exists = own_errors(errors, found, labels)
    others = torch.arange(errors.classes.shape[1], device=labels.device) != labels.unsqueeze(1)
    wrong = errors.classes.masked_fill(~others, torch.inf).amin(1)
    exists = exists & torch.isfinite(wrong)
    gap = margin + torch.where(exists, own, 0.0) - torch.where(exists, wrong, 0.0)
    return masked(gap.clamp_min(0), exists)


def class_logits(errors: Errors, temperature: float) -> Tensor:
    """(n, C) −ρ̃/ϑ; a very small finite number for classes without a node."""
    known = torch.isfinite(errors.classes)
    return torch.where(known, -torch.where(known, errors.classes, 0.0) / temperature, _NEVER)


def cross_entropy(errors: Errors, labels: Tensor, temperature: float) -> Term:
    """−log softmax_y(−ρ̃/ϑ) of labelled samples; classes without a node take no part.

    Source: prototype distances as logits, after Snell et al. 2017.
    """
    if errors.classes.shape[1] == 0:
        return masked(errors.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    valid = (labels != UNLABELLED) & torch.isfinite(at(errors.classes, labels))
    return negative_log_likelihood(class_logits(errors, temperature), labels, valid)


def pseudo_labels(weak: Errors, labels: Tensor, temperature: float, confidence: float) -> tuple[Tensor, Tensor]:
    """(n,) likeliest class of the weak view, and (n,) bool: the sample has no label, and the map is sure."""
    with torch.no_grad():
        sure, guess = torch.softmax(class_logits(weak, temperature), dim=1).max(1)
        return guess, (labels == UNLABELLED) & (sure >= confidence) & torch.isfinite(weak.classes).any(1)


def consistency(weak: Errors, strong: Errors, labels: Tensor, temperature: float, confidence: float) -> Term:
    """Unlabelled samples whose weak view is sure of a class: −log p of that class on the strong view.

    The weak view is detached: it says what to predict, only the strong view learns.
    """
    if weak.classes.shape[1] == 0:
        return masked(strong.nodes.sum(1), torch.zeros_like(labels, dtype=torch.bool))
    guess, valid = pseudo_labels(weak, labels, temperature, confidence)
    return negative_log_likelihood(class_logits(strong, temperature), guess, valid)


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
    return negative_log_likelihood(node_logits(state, strong, temperature), bmu, state.alive.any().expand(len(bmu)))


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


@dataclass(frozen=True)
class Views:
    """What the loss may look at beside the features of the weak view.

    Attributes:
        strong: (n, D) features of the strong view; None = no consistency.
        inputs: (n, ...) what the decoder must give back; None = no reconstruction.
        decoded: (n, ...) what it gave.
        scores: (n, C) what a classifier beside the map says of the weak view; None = there is none.
        strong_scores: (n, C) of the strong view.
    """

    strong: Tensor | None = None
    inputs: Tensor | None = None
    decoded: Tensor | None = None
    scores: Tensor | None = None
    strong_scores: Tensor | None = None


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
        views: strong view, reconstruction, and scores of a classifier.
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
    started = losses.started(state.round)
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
    if views.scores is not None and state.num_classes:
        scores = views.scores
        offered["classifier"] = lambda: classifier(scores, labels)
    if views.strong_scores is not None and state.num_classes:
        strong_scores = views.strong_scores
        offered["strong_classifier"] = lambda: classifier(strong_scores, labels)
        if started:
            offered["classifier_consistency"] = lambda: negative_log_likelihood(
                strong_scores, *pseudo_labels(errors, labels, temperature, losses.confidence)
            )
    return {name: offered[name]() for name in TERMS if name in offered and weight_of(name, losses) > 0}


def weight_of(term: str, losses: LossConfig) -> float:
    """λ of a term: the product of its weights."""
    return math.prod(float(getattr(losses, name)) for name in TERMS[term][1:])


def learns(losses: LossConfig, labelled: bool) -> bool:
    """Whether a term weighs something, with labels or without."""
    lacking = () if labelled else ("labelled", "guessed")
    return any(weight_of(term, losses) > 0 for term, (size, *_) in TERMS.items() if size not in lacking)


def weighted_sum(terms: dict[str, Term], losses: LossConfig, totals: RoundTotals | None = None) -> Tensor:
    """Σ λ·sum, or Σ λ·sum/divisor with the sizes of the round; adds up over the tiles of a round.

    Returns:
        () 0 without any term.
    """
    total = torch.zeros(())
    for name, term in terms.items():
        weight = weight_of(name, losses)
        total = total.to(term.sum.device) + term.sum * (weight if totals is None else weight / totals.divisor(name))
    return total
