"""The Ray cluster of a run: connect or start one, place workers on it, let it go."""

from __future__ import annotations

import gc
import os
import re
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pipeline.cluster import token_refused
from pipeline.cluster.room import capacity, even_share
from pipeline.config import ClusterConfig
from pipeline.errors import GroupTimeout, UserError, line_of, must
from pipeline.signals import children_outlive_terminal, sigterm_stays

_ANSWER_S = 10.0
_OBJECT_STORE_BYTES = 256 * 2**20  # maps are small; data sets never pass through the object store
_SESSION_BYTES = 16 * 2**20  # that Ray's own node can surely do with in its temporary folder
_HOST_PORT = re.compile(r"(?:\w+://)?\[?([^\[\]/]+)\]?:(\d+)")


@dataclass(frozen=True)
class Placement:
    """Where workers are put.

    Attributes:
        group: a placement group of Ray.
        ours: made for these workers, to be removed with them, with a bundle for each that must be there.
        cpus: that Ray reserves for a worker.
    """

    group: Any
    ours: bool
    cpus: float


class Session:
    """A connection to Ray, its own cluster on this machine where no other is named.

    Args:
        config: the address is read from it; none = the cluster this process is connected to, else
            RAY_ADDRESS, else a new one on this machine.
    """

    def __init__(self, config: ClusterConfig) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        self._ours = not ray.is_initialized()
        if self._ours:
            with sigterm_stays():
                _connect(ray, config.address)
        elif config.address and names_another(config.address, self.address):
            wanted = f"that of the cluster this process is connected to, {self.address}"
            remedy = "Leave it out, or that cluster first (ray.shutdown())."
            raise must("cluster.address", wanted, config.address, remedy=remedy)
        self.driver = ray.util.get_node_ip_address()

    @property
    def address(self) -> str:
        """Of the cluster, for other processes."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    def place(self, config: ClusterConfig) -> Placement:
        """A placement group with a bundle for each worker that must be there.

        Inside a trial of Tune, or another task or actor in a placement group, that is the one around it, if it has
        room for all workers beside the trial, which is in its first bundle.
        """
        import ray

        current = ray.util.get_current_placement_group()
        if current is not None:
            held, (first, *others) = ray.get_runtime_context().get_assigned_resources(), current.bundle_specs
            rooms = [{name: max(0.0, has - held.get(name, 0.0)) for name, has in first.items()}, *others]
            bundle = _bundle(config, rooms, config.workers)
            if capacity(rooms, bundle) >= config.workers:
                return Placement(current, False, bundle["CPU"])
        wanted_workers = needed(config)
        bundle = _bundle(config, nodes(), wanted_workers)
        group = ray.util.placement_group([bundle] * wanted_workers, strategy="SPREAD")
        if group.wait(config.placement_s):
            return Placement(group, True, bundle["CPU"])
        ray.util.remove_placement_group(group)
        there = nodes()
        total = {name: sum(node.get(name, 0.0) for node in there) for name in ("CPU", "GPU")}
        wanted = f"{wanted_workers} workers of {bundle['CPU']:g} CPUs and {config.gpus_per_worker:g} GPUs"
        has = f"{total['CPU']:g} CPUs and {total['GPU']:g} GPUs"
        if capacity(there, bundle) < wanted_workers:
            on = f"{len(there)} nodes" if len(there) > 1 else "one node"
            raise UserError(
                f"The cluster must have room for {wanted}, each on one node. It has {has} on {on}. Ask for fewer "
                "workers, or for less by cluster.cpus_per_worker and cluster.gpus_per_worker."
            )
        around = "" if current is None else ", or give the placement group around this room for the workers"
        if not around and (own := _own_cpus()):
            held = "1 CPU" if own == 1 else f"{own:g} CPUs"
            around = (
                f". The task or actor that trains here holds {held} itself: give it fewer (num_cpus), or train "
                "in it (cluster.workers=0)"
            )
        raise GroupTimeout(
            f"The cluster ({has}) had no room for {wanted} within {config.placement_s:g} s: others use it. "
            f"Wait, or give cluster.placement_s more{around}."
        )

    def actor(self, config: ClusterConfig, placement: Placement, number: int, kind: Any) -> Any:
        """Starts one actor of a class that `ray.remote` has made; returns its handle at once.

        Those that must be there live in the placement group; those beyond `cluster.min_workers` wherever Ray finds
        room, whenever it does.
        """
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy: Any = "SPREAD"
        if not placement.ours:
            strategy = PlacementGroupSchedulingStrategy(placement.group, -1)
        elif number < needed(config):
            strategy = PlacementGroupSchedulingStrategy(placement.group, number)
        placed = kind.options(
            num_cpus=placement.cpus,
            num_gpus=config.gpus_per_worker,
            max_restarts=config.restarts,
            scheduling_strategy=strategy,
        )
        return placed.remote(config.threads)

    def close(self) -> None:
        """Ends the connection, and the cluster if it was started here."""
        import ray

        if self._ours and ray.is_initialized():
            gc.collect()  # references in cycles: Ray ends the process in which another thread drops one while it ends
            with sigterm_stays():
                ray.shutdown()


def needed(config: ClusterConfig) -> int:
    """Workers that must be there before a run begins."""
    return min(config.min_workers or config.workers, config.workers)


def nodes() -> list[Mapping[str, float]]:
    """What each living node of the connected cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def names_another(address: str, connected: str) -> bool:
    """Whether HOST:PORT is not that of the connected cluster; auto, ray://... and names of this machine may be it.

    Example:
        >>> names_another("192.0.2.1:6379", "192.0.2.2:6379"), names_another("127.0.0.1:6379", "192.0.2.2:6379")
        (True, False)
    """
    named, known = _HOST_PORT.fullmatch(address), _HOST_PORT.fullmatch(connected)
    if named is None or known is None or "://" in address:
        return False
    if int(named[2]) != int(known[2]):
        return True
    one, other = _resolved(named[1]), _resolved(known[1])
    if not one or not other or any(ip_address(host).is_loopback for host in one | other):
        return False
    return one.isdisjoint(other)


def _resolved(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def _own_cpus() -> float:
    """What the task or actor that this is holds; 0 of a driver, of which Ray does not tell."""
    import ray

    try:
        return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))
    except AssertionError:
        return 0.0


def _bundle(config: ClusterConfig, rooms: Sequence[Mapping[str, float]], workers: int) -> dict[str, float]:
    """What Ray reserves for a worker: CPUs as told, else one per thread, or less where the rooms have fewer."""
    cpus = config.cpus_per_worker
    if cpus is None:
        if not any(room.get("CPU") for room in rooms):  # yet: a cluster that grows on demand
            rooms = [{"CPU": 1.0}]
        cpus = even_share(rooms, workers, config.threads) or 0.01
    return {"CPU": cpus} | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {})


def _connect(ray: Any, address: str | None) -> None:
    """Connects without Ray's chatter.

    Without the cluster a state could not be saved: a closed terminal must not end it, only the process that drives it.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    field = "cluster.address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _await(address)
            ray.init(address=address, **quiet)
        else:
            os.environ.setdefault("RAY_preload_python_modules", "torch")  # while the rest of Ray starts
            # "local": without it Ray would join a cluster that `ray start` began on this machine
            with children_outlive_terminal():
                ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet)
    except Exception as error:  # of Ray's own node many kinds, the commonest an Exception as such
        reason = line_of(error)[:200]
        if not address:
            remedy = "Try again when the machine is less busy"
            if full := _lack_of_room(os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", "/tmp"))):
                reason, remedy = full, "Make room there, name another folder by RAY_TMPDIR"
            raise UserError(
                f"Ray must start on this machine for this. It did not ({reason}). {remedy}, do without Ray "
                "(jobs.train --workers 0, jobs.predict --actors 0), or name a running cluster (--address)."
            ) from error
        answer = str(error.__cause__ or error)
        if "AuthenticationError" in answer or isinstance(error, ray.exceptions.AuthenticationError):
            raise token_refused(address, answer) from None
        if not isinstance(error, ConnectionError | RuntimeError | ValueError):
            raise
        raise must(field, "the address of a running Ray cluster", address, remedy=reason) from None


def _lack_of_room(folder: str) -> str | None:
    """That the folder where Ray keeps its session is full; None if it is not, or not there."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    return f"its temporary folder '{folder}' is full: {free / 2**20:.0f} MB are free" if free < _SESSION_BYTES else None


def _await(address: str) -> None:
    """Waits a little for HOST:PORT to answer: Ray itself would ask for ever.

    Raises:
        ConnectionError: nothing answers.
    """
    named = _HOST_PORT.fullmatch(address)
    if named is None:  # auto, local
        return
    until = time.monotonic() + _ANSWER_S
    while True:
        try:
            socket.create_connection((named[1], int(named[2])), timeout=_ANSWER_S).close()
            return
        except (OSError, OverflowError, UnicodeError) as error:
            if time.monotonic() > until or isinstance(error, OverflowError | UnicodeError | socket.gaierror):
                raise ConnectionError(f"Nothing answers there: {error}.") from None
            time.sleep(0.5)
