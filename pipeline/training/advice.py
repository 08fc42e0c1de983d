"""What a user is advised: of missing labels and slow precision before a training, of capacity and classes after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.config import RunConfig
from pipeline.deep.plan import DeepPlan
from pipeline.errors import some
from pipeline.prepared.manifest import Manifest
from somcore.config import LABEL_AWARE, UNLABELLED, MapConfig
from somcore.state import MapState

_OFTEN = 0.1  # share of the rounds
_NAMED = 5  # classes in a line
_WITHOUT_BFLOAT16 = ("DEFAULT", "NO AVX", "AVX2")  # processors, as torch names them


def early_advice(run: RunConfig, deep: DeepPlan | None, device: torch.device | str, manifest: Manifest) -> list[str]:
    """What to tell before a training, a line each: no labels, slow precision, what gets no turn."""
    lines = unlabelled(run, manifest), slow_here(run.deep.precision, device), deep and too_short(deep)
    return [line for line in lines if line]


def unlabelled(run: RunConfig, manifest: Manifest) -> str | None:
    """That there are no labels, where some are asked for: by a share of them, or a model that learns from them."""
    asked = {0.0: False, 1.0: run.train.model in LABEL_AWARE}.get(run.train.labelled_fraction, True)
    rows = manifest.splits["train"]
    if not asked or rows.unlabelled_count < rows.num_samples:
        return None
    place = (
        " If a column has the labels, name it by --label-column of jobs.prepare." if manifest.kind == "table" else ""
    )
    return f"No training row has a label: the groups will have no classes.{place}"


def slow_here(precision: str, device: torch.device | str) -> str | None:
    """What to tell where the precision costs time instead of saving it: processors that only imitate bfloat16."""
    imitated = torch.device(device).type == "cpu" and torch.backends.cpu.get_cpu_capability() in _WITHOUT_BFLOAT16
    if precision != "bfloat16" or not imitated:
        return None
    return (
        "deep.precision=bfloat16 is slow on this processor, which has no instructions for it (ten times slower than "
        "float32 was measured). --set deep.precision=float32 trains as well, with other bits."
    )


def too_short(plan: DeepPlan) -> str | None:
    """What gets no turn in a deep training or that of a rival, in one line; None if everything does."""
    losses, asked = plan.losses, []
    if plan.rival is None:
        if (losses.relevance_warmup_rounds or 0) >= plan.rounds and plan.settings.variant != "kohonen":
            asked.append(f"relevances (loss.relevance_warmup_rounds={losses.relevance_warmup_rounds})")
        waiting = losses.agreement_weight + losses.balance_weight
        waiting += losses.consistency_weight if plan.num_classes else 0
        if waiting > 0 and (losses.consistency_start or 0) >= plan.rounds:
            asked.append(f"consistency (loss.consistency_start={losses.consistency_start})")
    if asked:
        return (
            f"The training ends after {plan.rounds} rounds, before {' and '.join(asked)}: lower them, or train longer."
        )
    rising = plan.settings.rate_warmup_rounds
    if plan.rounds > rising or (plan.rival is not None and plan.rival.name == "kmeans"):
        return None
    return (
        f"The training has {plan.rounds} rounds only, and the learning rate rises for the first {rising} "
        "(deep.rate_warmup_rounds): give more --epochs, or rounds of fewer samples (map.batch_size)."
    )


def lost_classes(state: MapState, names: Sequence[str], labels: Tensor) -> str | None:
    """Classes that a map which has learned others can never say, in one line; None if it can say all.

    Args:
        state: the finished map.
        names: (C,) of the classes of the data.
        labels: (N,) what the map could read.

    Example:
        >>> from somcore.state import blank_state
        >>> state = blank_state(capacity=2, num_features=3, num_classes=2)
        >>> state.alive[0], state.classes[0] = True, 1
        >>> lost_classes(state, ["cat", "dog"], torch.tensor([0, 1, 1])).split(":")[0]
        'No node has the class cat (1 labelled row)'
    """
    said = state.said_classes
    if not said:
        return None
    known = torch.bincount(labels[labels != UNLABELLED], minlength=len(names)).tolist()
    lost = [
        f"{name} ({count or 'no'} labelled row{'s' * (count != 1)})"
        for number, (name, count) in enumerate(zip(names, known, strict=True))
        if number not in said
    ]
    if not lost:
        return None
    return (
        f"No node has the class {some(lost, _NAMED)}: it is never said. Without labelled rows it cannot be; "
        "where it has some, a lower map.min_win_share, a higher map.capacity or, if few nodes win all rows, a larger "
        "map.relevance_slope (0.3) keeps its nodes."
    )


def capacity_advice(config: MapConfig, given: Mapping[str, Any], full: int, rounds: int) -> str | None:
    """What to do where the capacity, not the data, decided how many nodes there are; None where it did not.

    Args:
        config: resolved hyper-parameters.
        given: those that the user has set.
        full: rounds in which samples asked for a node and none was free.
        rounds: of the whole training.

    Example:
        >>> config = MapConfig(variant="altsssom").resolve(num_samples=100, num_features=4)
        >>> capacity_advice(config, {}, 5, 100) is None
        True
        >>> capacity_advice(config, {}, 80, 100).split(": ")[0]
        'Growth had no free node in 80 of 100 rounds'
    """
    if full < _OFTEN * rounds:
        return None
    if config.has_boxes:  # each node has a threshold of its own
        remedy = "Raise map.capacity"
    elif given.get("activation_threshold", "auto") == "auto":
        remedy = (
            f"Raise map.threshold_quantile ({config.threshold_quantile:g}), so that nodes are larger, or map.capacity"
        )
    else:
        remedy = "Lower map.activation_threshold, so that nodes are larger, or raise map.capacity"
    return (
        f"Growth had no free node in {full:,} of {rounds:,} rounds: map.capacity ({config.capacity}) decided what "
        f"became a node, and another seed may give other nodes. {remedy}."
    )
