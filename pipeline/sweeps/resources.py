"""What a trial of a sweep asks of the cluster. Axes: W workers of a trial."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.cluster.room import even_share
from pipeline.errors import UserError, must


def refuse_client(address: str | None) -> None:
    """Ray Client puts Tune's own process on the cluster, where it cannot ask this one for trials.

    Raises:
        UserError: the cluster is named by ray://.
    """
    named = address or os.environ.get("RAY_ADDRESS", "")
    if named.startswith("ray://"):
        field = "--address" if address else "RAY_ADDRESS"
        raise must(field, "HOST:PORT or auto for a sweep", named, remedy="From outside of the cluster: somgrad submit.")


def trial_resources(
    settings: Mapping[str, Any], workers: int, concurrent: int | None, nodes: Sequence[float]
) -> tuple[list[dict[str, float]], int, float]:
    """Bundles of a trial, trials at the same time, CPUs of a worker; of the trial where it has none.

    With `cluster.cpus_per_worker` that is asked of the cluster, whatever it has now: a cluster that grows on demand
    grows. Without it, the CPUs that are there now are shared. `cluster.gpus_per_worker` is asked for in both cases.

    Args:
        settings: flat keys that all trials share.
        workers: W; 0 = each trial in one process.
        concurrent: trials at the same time; None = as many as there are CPUs for now.
        nodes: CPUs of each node that the cluster has now.

    Raises:
        UserError: so many trials leave no CPU for one.

    Example:
        >>> trial_resources({"cluster.cpus_per_worker": 2.0}, 0, 16, nodes=[])
        ([{'CPU': 2.0}], 16, 2.0)
    """
    gpus = {"GPU": settings["cluster.gpus_per_worker"]} if settings.get("cluster.gpus_per_worker") else {}
    asked, cpus, own = settings.get("cluster.cpus_per_worker"), sum(nodes), 0.01 if workers else 0.0
    if asked is not None:
        each = float(asked)
        concurrent = concurrent or max(1, int(cpus // (each * max(1, workers))))
    else:
        concurrent = concurrent or max(1, int(cpus // max(1, workers)))
        # beside the workers each node has room for its part of the trials themselves, and for one at least
        rooms = [{"CPU": max(0.0, node - own * math.ceil(concurrent * node / cpus))} for node in nodes]
        each = even_share(rooms, concurrent * max(1, workers), most=1.0)
    if each <= 0:
        raise UserError(f"The cluster must have room for {concurrent} trials. It has {cpus:g} CPUs; ask for fewer.")
    worker = {"CPU": each, **gpus}
    return [worker] if workers == 0 else [{"CPU": own}, *([worker] * workers)], concurrent, each


class Room:
    """Says once that no trial has begun for long, as the cluster has no room: one that grows may take its time.

    Args:
        bundles: what a trial asks for.
        patience_s: what is long.
        say: told in one line.
    """

    def __init__(self, bundles: Sequence[Mapping[str, float]], patience_s: float, say: Callable[[str], None]) -> None:
        self._bundles, self._patience_s, self._say = bundles, patience_s, say
        self._since = time.monotonic()
        self._said = False

    def running(self, count: int) -> None:
        """Told every moment how many trials have a process."""
        now = time.monotonic()
        if count:
            self._since = now
        if self._said or now - self._since < self._patience_s:
            return
        self._said = True
        *first, last = (" and ".join(f"{amount:g} {name}" for name, amount in b.items()) for b in self._bundles)
        wanted = f"{last} per worker, W = {len(first)}" if first else last
        self._say(
            f"No trial has begun for {self._patience_s:g} s: the cluster seems to have no room for one ({wanted}). "
            "The sweep waits; Ctrl-C ends it, and --resume goes on, with less by --workers or cluster.cpus_per_worker."
        )
