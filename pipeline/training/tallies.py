"""The tallies of a round: what adds up over the rounds of an epoch, and what tracking reads from the sums.

A checkpoint holds them, so an epoch that was interrupted is told as a whole; no map depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import RoundFailed
from pipeline.training.checkpoint import Snapshot
from somcore.state import MapState
from somcore.statistics import BatchStatistics

_MEASURE, _SUM, _COUNT = "measure.", "sum.", "count."


def check_counted(round_index: int, merged: BatchStatistics, num_samples: int) -> None:
    """No sample of a round is left out, none is counted twice.

    Raises:
        RoundFailed: another number of samples was counted.
    """
    counted = merged.tally("samples")
    if counted != num_samples:
        raise RoundFailed(f"Round {round_index} must count each of its {num_samples} samples once. Got {counted}.")


def map_tallies(before: MapState, after: MapState, statistics: BatchStatistics) -> dict[str, float]:
    """Of a round that moved a map."""
    newborn = after.alive & (after.deviations == 0).all(1) & (after.prototypes != before.prototypes).any(1)
    reused = before.alive & newborn & (after.clock == 0)
    return {
        "rounds": 1.0,
        "samples": float(statistics.tally("samples")),
        "labelled": float(statistics.tally("labelled")),
        "unmatched": float(statistics.tally("unmatched")),
        "error_sum": statistics.quantization_error_sum,
        "inserted": float(int((after.alive & ~before.alive).sum() + reused.sum())),
        "pruned": float(int((before.alive & ~after.alive).sum() + reused.sum())),
        "full": float(
            before.growing and bool((before.alive & after.alive).all()) and statistics.tally("unmatched") > 0
        ),
    }


def deep_tallies(terms: Mapping[str, tuple[float, int]], measures: Mapping[str, float]) -> dict[str, float]:
    """Of a round that trained a network.

    Args:
        terms: of the loss: sum and count of the samples that contributed.
        measures: numbers of which the mean over the rounds is told.
    """
    tallies = {f"{_MEASURE}{name}": value for name, value in measures.items()}
    for name, (total, count) in terms.items():
        tallies |= {f"{_SUM}{name}": total, f"{_COUNT}{name}": float(count)}
    return tallies


def running(snapshot: Snapshot, rounds_per_epoch: int) -> dict[str, float]:
    """What was tallied in the epoch of the coming round; nothing where that is its first."""
    return {} if snapshot.state.round % rounds_per_epoch == 0 else snapshot.tallies


def added(tallies: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """Tallies with those of one more round; what it says nothing of stays."""
    return {**tallies, **{name: tallies.get(name, 0.0) + value for name, value in new.items()}}


def map_metrics(tallies: Mapping[str, float]) -> dict[str, float]:
    """What the rounds of an epoch say of a map that is being trained; nothing where there is none."""
    if "error_sum" not in tallies:
        return {}
    samples = max(1.0, tallies["samples"])
    shares = {"quantization_error": tallies["error_sum"] / samples, "unmatched_share": tallies["unmatched"] / samples}
    told = {name: tallies[name] for name in ("inserted", "pruned")}
    return shares | told | ({"full_rounds": tallies["full"]} if "full" in tallies else {})


def deep_metrics(tallies: Mapping[str, float]) -> dict[str, float]:
    """Of the rounds of an epoch: means of the measures, and of each loss term per contributing sample."""
    rounds = max(1.0, tallies.get("rounds", 0.0))
    metrics = {name.removeprefix(_MEASURE): v / rounds for name, v in tallies.items() if name.startswith(_MEASURE)}
    for name in (key.removeprefix(_SUM) for key in tallies if key.startswith(_SUM)):
        count = tallies.get(f"{_COUNT}{name}", 0.0)
        if count:
            metrics[f"loss_{name}"] = tallies[f"{_SUM}{name}"] / count
            metrics[f"count_{name}"] = count / rounds
    return metrics
