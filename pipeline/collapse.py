"""Is the representation still alive? Shares of nodes and rank of the features, from merged counts, every round.

K nodes, D features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pipeline.deep_plan import DeepPlan
from pipeline.errors import Collapsed
from pipeline.network import NetworkState
from somcore.latent import LatentMoments
from somcore.statistics import BatchStatistics

_FEWEST_NODES, _LOWEST_RANK, _LEAST_SPREAD = 2.0, 2.0, 1e-3
_REPORTED = ("largest_share", "effective_nodes", "embedding_rank", "mean_std")


def is_collapsed(measures: Mapping[str, float], collapse_share: float) -> bool:
    """Whether the representation says nothing of the samples any more.

    It does not if one node wins more than `collapse_share` of them, if fewer than two nodes are in effective use, if
    the features have fewer than two effective dimensions, or if they deviate by less than a thousandth on average.
    """
    return (
        measures["largest_share"] > collapse_share
        or measures["effective_nodes"] < _FEWEST_NODES
        or measures["embedding_rank"] < _LOWEST_RANK
        or measures["mean_std"] < _LEAST_SPREAD
    )


def monitored(
    network: NetworkState,
    statistics: BatchStatistics,
    moments: LatentMoments,
    round_index: int,
    plan: DeepPlan,
    rank: int,
) -> tuple[NetworkState, dict[str, float]]:
    """Counts alarming rounds in a row, and ends a training that has collapsed.

    A round alarms if `is_collapsed`, but not during relevance warm-up.

    Returns:
        The network with its count of alarms, and what was measured.

    Raises:
        Collapsed: `collapse_patience` alarming rounds in a row.
    """
    summary = statistics.summary()
    names = ("largest_share", "effective_nodes", "matched_share", "rerouted_share", "misplaced_share")
    measures = {name: summary[name] for name in names} | moments.summary()
    losses = plan.losses
    alarming = is_collapsed(measures, losses.collapse_share)
    warm = round_index < (losses.relevance_warmup_rounds or 0) or measures["largest_share"] == 0  # no map yet
    alarms = network.alarms + 1 if alarming and not warm else 0
    if alarms >= losses.collapse_patience and plan.deep.on_collapse == "stop":
        raise Collapsed(
            f"The representation collapsed in round {round_index}: largest node {measures['largest_share']:.3f} of the "
            f"samples, {measures['effective_nodes']:.2f} effective nodes, embedding rank "
            f"{measures['embedding_rank']:.2f}, deviation {measures['mean_std']:.4f}, {alarms} rounds in a row. "
            "Give an anchor more weight (loss.reconstruction_weight, loss.variance_weight) or lower "
            "deep.learning_rate.",
            round=round_index,
            **{name: measures[name] for name in _REPORTED},
        )
    return dataclasses.replace(network, alarms=alarms), measures
