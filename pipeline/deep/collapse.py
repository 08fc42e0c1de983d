"""Is the representation still alive? Shares of nodes and rank of the features, from merged counts, every round.

K nodes, D features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pipeline.deep.network import NetworkState
from pipeline.deep.plan import DeepPlan
from pipeline.errors import Collapsed
from somcore.config import UNLABELLED
from somcore.latent import LatentMoments
from somcore.loss_config import LossConfig
from somcore.statistics import BatchStatistics

_LOWEST_RANK, _LEAST_SPREAD = 2.0, 1e-3
_LABELLED_SHARE, _LARGEST_SHARE = 1.5, 0.95
MEASURES = ("largest_share", "effective_nodes", "embedding_rank", "mean_std")


@dataclass(frozen=True)
class Limits:
    """Beyond which a representation says nothing of the samples any more.

    Attributes:
        share: the most that one node may win of the samples. As long as that is a half, two nodes are in effective use.
        rank: the fewest effective dimensions of the features. Features that are not constant have at least 1.
    """

    share: float = 0.5
    rank: float = _LOWEST_RANK

    @classmethod
    def of(cls, losses: LossConfig, labels: Tensor, num_values: int, dim: int) -> Limits:
        """Those of a run, as far as its samples, features and labels agree with them.

        Where labels say that a class has a third of the samples or more, one node may rightly win so many, and half
        as many again. C classes are best told apart in C - 1 dimensions, samples of few values have few, D features
        have D: half of the first and the last and a quarter of the second is enough.

        Args:
            losses: has `collapse_share`.
            labels: (n,) of the training rows, UNLABELLED where unknown.
            num_values: of a sample.
            dim: D.
        """
        counts = labels[labels != UNLABELLED].bincount()
        classes = int((counts > 0).sum())
        rank = max(1.0, min(_LOWEST_RANK, num_values / 4, dim / 2))
        if classes < 2:
            return cls(losses.collapse_share, rank)
        most = float(counts.max()) / float(counts.sum())
        share = max(losses.collapse_share, min(_LARGEST_SHARE, _LABELLED_SHARE * most))
        return cls(share, max(1.0, min(rank, (classes - 1) / 2)))

    def passed(self, measures: Mapping[str, float]) -> list[str]:
        """What says that the representation has collapsed; empty where nothing does."""
        share, rank, deviation = (measures[name] for name in ("largest_share", "embedding_rank", "mean_std"))
        alarms = {
            f"largest node {share:.3f} of the samples (limit {self.share:g})": share > self.share,
            f"embedding rank {rank:.2f} (at least {self.rank:g})": rank < self.rank,
            f"deviation {deviation:.4f} (at least {_LEAST_SPREAD:g})": deviation < _LEAST_SPREAD,
        }
        return [alarm for alarm, is_on in alarms.items() if is_on]


def measures_of(statistics: BatchStatistics, moments: LatentMoments) -> dict[str, float]:
    """What is watched of a deep run, from merged statistics and moments."""
    summary = statistics.summary()
    names = ("largest_share", "effective_nodes", "matched_share", "rerouted_share", "misplaced_share")
    return {name: summary[name] for name in names} | moments.summary()


def monitored(
    network: NetworkState,
    measures: Mapping[str, float],
    limits: Limits,
    round_index: int,
    plan: DeepPlan,
) -> NetworkState:
    """Counts alarming rounds in a row, and ends a training that has collapsed.

    Rounds of relevance warm-up do not count: there the map is being made. What it is in the end is judged by
    `judged`.

    Returns:
        The network with its count of alarms.

    Raises:
        Collapsed: `collapse_patience` alarming rounds in a row.
    """
    losses = plan.losses
    warm = round_index < (losses.relevance_warmup_rounds or 0) or measures["largest_share"] == 0  # no map yet
    alarms = network.alarms + 1 if limits.passed(measures) and not warm else 0
    if alarms >= losses.collapse_patience and plan.settings.on_collapse == "stop":
        raise _collapsed(measures, limits, round_index, f"in round {round_index}", f", {alarms} rounds in a row")
    return dataclasses.replace(network, alarms=alarms)


def judged(
    network: NetworkState, measures: Mapping[str, float], limits: Limits, round_index: int, plan: DeepPlan
) -> NetworkState:
    """The last word on the finished encoder, however short its training was; a map that no sample falls on is none.

    Returns:
        The network with as many alarms as make a collapse, or none.

    Raises:
        Collapsed: it has collapsed.
    """
    if measures["largest_share"] > 0 and not limits.passed(measures):
        return dataclasses.replace(network, alarms=0)
    if plan.settings.on_collapse == "stop":
        raise _collapsed(measures, limits, round_index, "by the end of the training")
    return dataclasses.replace(network, alarms=plan.losses.collapse_patience)


def verdict(plan: DeepPlan | None, network: NetworkState | None) -> dict[str, bool]:
    """Whether a deep map has collapsed in the end: possible with deep.on_collapse=go_on only."""
    if plan is None or plan.rival is not None or network is None:
        return {}
    return {"collapsed": network.alarms >= plan.losses.collapse_patience}


def _collapsed(
    measures: Mapping[str, float], limits: Limits, round_index: int, when: str, repeated: str = ""
) -> Collapsed:
    alarms = limits.passed(measures) or ["no sample falls on the map"]
    raised = "raise loss.collapse_share or " if measures["largest_share"] > limits.share else ""
    return Collapsed(
        f"The representation collapsed {when}{repeated}: {', '.join(alarms)}; {measures['effective_nodes']:.2f} "
        "effective nodes. Lower deep.learning_rate or loss.pull_weight, or give an anchor more weight "
        "(loss.reconstruction_weight, loss.variance_weight); if the data are like that, "
        f"{raised}set deep.on_collapse=go_on.",
        round=round_index,
        **{name: measures[name] for name in MEASURES},
    )
