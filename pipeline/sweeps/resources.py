"""What a trial of a sweep asks of the cluster. Axes: W workers of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError


def trial_resources(
    settings: Mapping[str, Any], workers: int, concurrent: int | None, cpus: float
) -> tuple[list[dict[str, float]], int, float]:
    """Bundles of a trial, trials at the same time, CPUs of a worker; of the trial where it has none.

    With `cluster.cpus_per_worker` that is asked of the cluster, whatever it has now: a cluster that grows on demand
    grows. Without it, the CPUs that are there now are shared. `cluster.gpus_per_worker` is asked for in both cases.

    Args:
        settings: flat keys that all trials share.
        workers: W; 0 = each trial in one process.
        concurrent: trials at the same time; None = as many as there are CPUs for now.
        cpus: what the cluster has now.

    Raises:
        UserError: so many trials leave no CPU for one.

    Example:
        >>> trial_resources({"cluster.cpus_per_worker": 2.0}, 0, 16, cpus=0.0)
        ([{'CPU': 2.0}], 16, 2.0)
    """
    gpus = {"GPU": settings["cluster.gpus_per_worker"]} if settings.get("cluster.gpus_per_worker") else {}
    asked = settings.get("cluster.cpus_per_worker")
    if asked is not None:
        each = float(asked)
        concurrent = concurrent or max(1, int(cpus // (each * max(1, workers))))
    elif workers == 0:
        concurrent = concurrent or max(1, int(cpus))
        each = min(1.0, _floor(cpus / concurrent))
    else:
        concurrent = concurrent or max(1, int(cpus // workers))
        each = min(1.0, _floor((cpus - 0.01 * concurrent) / (concurrent * workers)))
    if each <= 0:
        raise UserError(f"The cluster must have room for {concurrent} trials. It has {cpus:g} CPUs; ask for fewer.")
    worker = {"CPU": each, **gpus}
    return [worker] if workers == 0 else [{"CPU": 0.01}, *([worker] * workers)], concurrent, each


def _floor(number: float) -> float:
    return math.floor(number * 100) / 100
