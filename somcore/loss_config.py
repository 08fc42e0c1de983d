"""Every hyper-parameter of the deep layer's loss, in one frozen value.

Axes: D features, C classes. Values of None are derived from the map: the margin is then ρ_t, the temperature a share
of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from somcore.config import LABEL_AWARE, MapConfig
from somcore.parameters import Parameters, parameter


@dataclass(frozen=True, kw_only=True)
class LossConfig(Parameters):
    """The terms of the deep layer's loss: a weight of 0 leaves a term out.

    `unsupervised`, `semi_supervised` and `supervised` give the usual compositions; `LossConfig()` is the
    semi-supervised one. `LossConfig.describe()` gives the table of symbols, ranges, units and defaults.

    Raises:
        ValueError: a value is out of its range.

    Source: this project, docs/deep.md (loss); consistency after Sohn et al. 2020 (FixMatch),
        covariance after Bardes et al. 2022 (VICReg).

    Example:
        >>> LossConfig.unsupervised().cross_entropy_weight
        0.0
    """

    OWNER: ClassVar[str] = "the loss"

    pull_weight: float = parameter(1.0, "λ_u", "[0, inf)", "accepted unlabelled samples towards their BMU")
    labelled_pull_weight: float = parameter(1.0, "λ_l", "[0, inf)", "labelled samples towards a node of their class")
    push_weight: float = parameter(1.0, "λ_p", "[0, inf)", "hinge between own and nearest wrong class")
    margin: float | None = parameter(None, "μ", "[0, inf)", "distance kept between own and wrong class", "ρ")
    cross_entropy_weight: float = parameter(1.0, "λ_ce", "[0, inf)", "cross-entropy over prototype distances")
    temperature: float | None = parameter(None, "ϑ", "(0, inf)", "softness of class decisions", "ρ")
    temperature_share: float = parameter(0.2, "ϑ/ρ_t", "(0, inf)", "temperature where none is given", "× ρ_t")
    class_error: str = parameter("minimum", "ρ̃", "minimum | soft", "how the nodes of a class join in its error")
    reconstruction_weight: float = parameter(4.0, "λ_r", "[0, inf)", "squared error of the decoder")
    variance_weight: float = parameter(1.0, "λ_v", "[0, inf)", "features must vary within a tile")
    variance_floor: float = parameter(0.1, "γ", "[0, inf)", "standard deviation each feature must have", "fu")
    covariance_weight: float = parameter(0.0, "λ_cov", "[0, inf)", "features must not repeat each other")
    consistency_weight: float = parameter(1.0, "λ_c", "[0, inf)", "strong view agrees with a confident weak view")
    confidence: float = parameter(0.95, "κ_c", "(0, 1)", "probability that makes a pseudo-label", "probability")
    strong_cross_entropy_weight: float = parameter(1.0, "λ_s", "[0, inf)", "cross-entropy of labelled strong views")
    classifier_weight: float = parameter(0.0, "λ_k", "[0, inf)", "a linear classifier beside the map learns with it")
    agreement_weight: float = parameter(0.0, "λ_a", "[0, inf)", "strong view falls on the weak view's BMU")
    balance_weight: float = parameter(0.0, "λ_b", "[0, inf)", "nodes are used alike within a tile")
    consistency_start: int | None = parameter(
        None, "–", ">= 0", "first round of consistency, agreement and balance", "rounds"
    )
    relevance_warmup_rounds: int | None = parameter(
        None, "–", ">= 0", "relevances are held at 1 until this round, but not in refreshes", "rounds"
    )
    collapse_share: float = parameter(0.5, "–", "(0, 1]", "largest node's share of samples that is alarming", "share")
    collapse_patience: int = parameter(3, "–", ">= 1", "alarming rounds in a row that end a training", "rounds")

    @classmethod
    def unsupervised(cls, **changes: Any) -> LossConfig:
        """No term that reads a label: pull, reconstruction, variance floor."""
        off = (
            "labelled_pull_weight", "push_weight", "cross_entropy_weight", "consistency_weight",
            "strong_cross_entropy_weight",
        )  # fmt: skip
        return cls(**(dict.fromkeys(off, 0.0) | changes))

    @classmethod
    def semi_supervised(cls, **changes: Any) -> LossConfig:
        """Labelled terms for the labelled samples, pull and consistency for the others."""
        return cls(**changes)

    @classmethod
    def supervised(cls, **changes: Any) -> LossConfig:
        """Labelled terms only."""
        off = ("pull_weight", "reconstruction_weight", "consistency_weight")
        return cls(**(dict.fromkeys(off, 0.0) | changes))

    def decisions(self, error_threshold: float) -> tuple[float, float]:
        """Temperature and margin at a threshold ρ_t.

        A share of ρ_t, which grows as features spread, keeps decisions equally hard through a training.
        """
        temperature = self.temperature_share * error_threshold if self.temperature is None else self.temperature
        return temperature, error_threshold if self.margin is None else self.margin

    def started(self, round_index: int) -> bool:
        """Whether consistency, agreement and balance take part in a round."""
        return self.consistency_start is None or round_index >= self.consistency_start

    def resolve(self, rounds_per_epoch: int) -> LossConfig:
        """Fill the round numbers: warm-up lasts one epoch, consistency starts after it."""
        warmup = rounds_per_epoch if self.relevance_warmup_rounds is None else self.relevance_warmup_rounds
        start = warmup if self.consistency_start is None else self.consistency_start
        return dataclasses.replace(self, relevance_warmup_rounds=warmup, consistency_start=start)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return dataclasses.asdict(self)


def check_decisions(config: MapConfig, losses: LossConfig, prefix: str = "") -> None:
    """Maps whose nodes share no threshold cannot lend it to margin and temperature.

    Args:
        config: of the map.
        losses: resolved weights.
        prefix: of the names in an error.

    Raises:
        ValueError: a term needs one of them, and it is not given.
    """
    if config.has_threshold:
        return
    labels = config.variant in LABEL_AWARE
    needed = {
        "temperature": labels or losses.agreement_weight > 0 or losses.balance_weight > 0,
        "margin": labels,
    }
    for name in needed:
        if needed[name] and getattr(losses, name) is None:
            raise ValueError(
                f"{prefix}{name} must be given for {config.variant}: its nodes share no threshold. Got None."
            )
