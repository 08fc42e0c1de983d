"""The exact all-reduce: what every worker counted becomes the same sum on every worker.

Two classes, one interface: `reduce(statistics)`, `max(value)` and `sum(values)`. Statistics are int64 (or
float64 sums for reduction="fast", which takes the same road), so the order and the number of workers cannot be
seen in the result. W workers.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
from datetime import timedelta
from typing import Protocol

import torch
from torch import Tensor

from pipeline.prepared.scaling import MAX_ABS
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.update import round_scale

_DENSE = 2**15  # numbers: below, one message costs less than finding out what can be left out of it

_BITS = 61  # of an int64 sum: a sign, and one bit to spare


def scale_of(state: MapState, num_samples: int, reduction: str) -> int | None:
    """Fixed-point scale of a round, None for float sums: from state, plan and data, so the same on every worker."""
    return round_scale(state, MAX_ABS, num_samples) if reduction == "exact" else None


class ReductionBroken(RuntimeError):
    """A collective did not complete: a peer is gone, or the group was aborted."""


def dealt(count: int, rank: int, world_size: int) -> slice:
    """Which of so many tiles a worker computes: consecutive ones, as even as whole tiles allow, each with one worker.

    Example:
        >>> [dealt(5, rank, 3) for rank in range(3)]
        [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


class Reduction(Protocol):
    """Joins the statistics of all workers of a round."""

    rank: int
    world_size: int

    def reduce(self, statistics: BatchStatistics) -> BatchStatistics:
        """The merged statistics of all workers, identical on each of them."""

    def max(self, value: float) -> float:
        """The largest value of all workers."""

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all workers; exact for integers."""


class LocalReduction:
    """A world of one: nothing to join."""

    rank = 0
    world_size = 1

    def reduce(self, statistics: BatchStatistics) -> BatchStatistics:
        """Returns the statistics unchanged."""
        return statistics

    def max(self, value: float) -> float:
        """Returns the value unchanged."""
        return value

    def sum(self, values: Tensor) -> Tensor:
        """Returns the values unchanged."""
        return values


class ProcessGroupReduction:
    """Joins through the default torch.distributed group of this process (gloo on CPU, NCCL on GPU).

    Args:
        rank: of this worker, in [0, world_size).
        world_size: number of workers W.
        device: where the collective runs.
    """

    def __init__(self, rank: int, world_size: int, device: str = "cpu") -> None:
        self.rank = rank
        self.world_size = world_size
        self.device = device
        self.sent_bytes = 0  # handed to collectives so far

    def reduce(self, statistics: BatchStatistics) -> BatchStatistics:
        """One all-reduce of counts, one of the tables, one all-gather of the rows when any worker has some.

        Large tables travel without the nodes that no worker has anything for: which those are goes ahead with the
        counts, as does how many rows each worker brings, so no message is needed to learn it. Integers add up to the
        same whichever way they travel. Small tables go along with the counts.
        """
        own, rows = statistics.wire_sums(), statistics.packed_rows()
        tables = {name: value for name, value in own.items() if value.dim() == 2 and value.shape[1] > 1}
        if sum(table.numel() for table in tables.values()) <= _DENSE:
            tables = {}
        ahead = own | {name: table.any(dim=1).to(table.dtype) for name, table in tables.items()}
        row_counts = rows.new_zeros(self.world_size, dtype=next(iter(own.values())).dtype)
        row_counts[self.rank] = rows.shape[0]
        flat = self._sum_in_place(torch.cat([*(value.flatten() for value in ahead.values()), row_counts]))
        *parts, counts = flat.split([*(value.numel() for value in ahead.values()), self.world_size])
        sums = {name: part.view(ahead[name].shape) for name, part in zip(ahead, parts, strict=True)}
        if tables:
            sums |= self._sum_touched(tables, {name: sums[name] > 0 for name in tables})
        counted = [int(n) for n in counts.tolist()]
        merged = self._gather(rows, counted) if any(counted) else rows
        return BatchStatistics.joined(statistics, sums, merged)

    def _sum_touched(self, tables: dict[str, Tensor], touched: dict[str, Tensor]) -> dict[str, Tensor]:
        """The summed tables, of which only the rows travel that some worker has something for."""
        rows = {name: mask.nonzero().squeeze(1) for name, mask in touched.items()}
        sizes = [len(rows[name]) * table.shape[1] for name, table in tables.items()]
        message = next(iter(tables.values())).new_empty(sum(sizes))
        for (name, table), part in zip(tables.items(), message.split(sizes), strict=True):
            torch.index_select(table, 0, rows[name], out=part.view(-1, table.shape[1]))
        parts = self._sum_in_place(message).split(sizes)
        return {
            name: torch.zeros_like(table).index_copy_(0, rows[name], part.view(-1, table.shape[1]))
            for (name, table), part in zip(tables.items(), parts, strict=True)
        }

    def max(self, value: float) -> float:
        """The largest value of all workers."""
        buffer = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _collective():
            torch.distributed.all_reduce(buffer, op=torch.distributed.ReduceOp.MAX)
        return float(buffer.item())

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum over all workers; exact for integers."""
        return self._sum_in_place(values.clone())

    def _sum_in_place(self, values: Tensor) -> Tensor:
        """The sum; on the device of the collective `values` are overwritten with it."""
        buffer = values.to(self.device)
        self.sent_bytes += buffer.numel() * buffer.element_size()
        with _collective():
            torch.distributed.all_reduce(buffer)
        return buffer.to(values.device)

    def _gather(self, rows: Tensor, row_counts: list[int]) -> Tensor:
        most = max(row_counts)
        padded = torch.zeros(most, rows.shape[1], dtype=rows.dtype, device=self.device)
        padded[: rows.shape[0]] = rows
        gathered = [torch.empty_like(padded) for _ in row_counts]
        self.sent_bytes += padded.numel() * padded.element_size()
        with _collective():
            torch.distributed.all_gather(gathered, padded)
        kept = [part[:count] for part, count in zip(gathered, row_counts, strict=True)]
        return torch.cat(kept).to(rows.device)


@contextlib.contextmanager
def _collective():  # type: ignore[no-untyped-def]
    """Names the failure of a collective: torch raises a bare RuntimeError or ValueError (group destroyed)."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ReductionBroken(" ".join(str(error).split())[:200]) from error


class Rendezvous:
    """Forms and leaves the default process group of this process.

    Rank 0 listens on a port the system chooses; the others get its address from the driver. A broken group is
    left by destroying it, from any thread: that frees a thread which waits in a collective.
    """

    def __init__(self) -> None:
        self._store: torch.distributed.TCPStore | None = None

    def listen(self, reachable: str, timeout_s: float) -> str:
        """Opens the meeting point on this machine; returns its "host:port".

        Args:
            reachable: an address of the driver; the interface that leads there is the one to listen on.
            timeout_s: seconds that the others have to come.
        """
        host = address_towards(reachable)
        self._store = torch.distributed.TCPStore(
            host, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout_s)
        )
        return f"{host}:{self._store.port}"

    def join(self, address: str, rank: int, world_size: int, *, join_s: float, collective_s: float,
             device: str = "cpu") -> ProcessGroupReduction:  # fmt: skip
        """Meets the others at `address`; returns the reduction over all of them."""
        host, port = address.rsplit(":", 1)
        _choose_interface(address_towards(host))
        store = self._store
        with _collective():
            if rank != 0 or store is None:
                store = torch.distributed.TCPStore(
                    host,
                    int(port),
                    is_master=False,
                    wait_for_workers=False,
                    timeout=timedelta(seconds=join_s),
                )
            torch.distributed.init_process_group(
                "nccl" if device == "cuda" else "gloo",
                store=store,
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=collective_s),
            )
        self._store = store
        return ProcessGroupReduction(rank, world_size, device)

    def leave(self) -> None:
        """Leaves the group, broken or whole; a second call does nothing."""
        if torch.distributed.is_initialized():
            with contextlib.suppress(RuntimeError, ValueError, AssertionError):
                torch.distributed.destroy_process_group()
        self._store = None


def address_towards(host: str) -> str:
    """The address of this machine on the interface that leads to `host` (no packet is sent)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])


def _choose_interface(address: str) -> None:
    """Tells gloo which interface to use, unless the user did: its own guess is the host name, often wrong."""
    import psutil  # not where a trained model is only served

    if "GLOO_SOCKET_IFNAME" in os.environ:
        return
    with contextlib.suppress(OSError):  # what cannot be listed is left to gloo
        for name, found in psutil.net_if_addrs().items():
            if any(one.address == address for one in found):
                os.environ["GLOO_SOCKET_IFNAME"] = name


def exact_sum(
    gradients: list[Tensor], size: int, num_tiles: int, reduction: Reduction, parts: list[Tensor]
) -> tuple[list[Tensor], int]:
    """Σ of the tiles' gradients over all workers as integers, in one message with other integers.

    Args: as of `sum_gradients`.

    Returns:
        The summed gradient as int64 and the summed parts, and the bits of its scale: value = integer / 2^bits.
    """
    own = max((float(gradient.abs().max()) for gradient in gradients), default=0.0)
    largest = reduction.max(own)
    exponent = math.ceil(math.log2(largest)) if largest > 0 else 0
    bits = min(_BITS - exponent - math.ceil(math.log2(max(1, num_tiles))), 1000)
    total = torch.zeros(size, dtype=torch.int64, device=parts[0].device)
    for gradient in gradients:
        total += torch.round(gradient.to(torch.float64) * 2.0**bits).to(torch.int64)
    summed = reduction.sum(torch.cat([total, *parts]))
    return list(summed.split([size, *(len(part) for part in parts)])), bits


def sum_gradients(
    gradients: list[Tensor], size: int, num_tiles: int, reduction: Reduction, parts: list[Tensor], exact: bool
) -> tuple[Tensor, list[Tensor]]:
    """Σ of the tiles' gradients over all workers, and of integers along with them.

    Args:
        gradients: (P,) float32 of each own tile.
        size: P.
        num_tiles: tiles of the round, over all workers.
        reduction: joins the workers.
        parts: int64 vectors to be summed along.
        exact: the same bits for any number of workers, or floats as they come.

    Returns:
        The gradient (P,) float64 and the summed parts.
    """
    if exact:
        whole, bits = exact_sum(gradients, size, num_tiles, reduction, parts)
        return whole[0].to(torch.float64) * 2.0**-bits, whole[1:]
    total = torch.stack(gradients).sum(0) if gradients else torch.zeros(size, device=parts[0].device)
    gradient = reduction.sum(total).to(torch.float64)
    return gradient, list(reduction.sum(torch.cat(parts)).split([len(part) for part in parts]))
