"""A model of the exact reduction in larger worlds, and the page of what was measured.

A ring all-reduce of B bytes over W workers takes 2 (W - 1) steps; each costs a latency and moves B / W bytes:
    t = 2 (W - 1) (latency + B / W / bandwidth)
W workers, B bytes.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from pipeline.benchmarks.shared import in_words, spread, table

_MESSAGES = 2  # all-reduces of a round: counts, then tables
_WORLDS = (2, 4, 16, 64, 256, 1024)


@dataclass(frozen=True)
class Link:
    """What joins two workers.

    Attributes:
        name: for the table.
        latency_s: of one step of a ring.
        bandwidth: bytes per second.
    """

    name: str
    latency_s: float
    bandwidth: float


# Assumed, not measured: what such links are known to reach with gloo over TCP and NCCL over InfiniBand.
LINKS = (
    Link("gloo, 10 Gbit/s Ethernet", 50e-6, 1.0e9),
    Link("gloo, 100 Gbit/s Ethernet", 30e-6, 6.0e9),
    Link("NCCL, 200 Gbit/s InfiniBand", 10e-6, 20.0e9),
)


def ring(link: Link, workers: int, size: float) -> float:
    """Seconds of one all-reduce."""
    return 2 * (workers - 1) * (link.latency_s + size / workers / link.bandwidth) if workers > 1 else 0.0


def predicted(model: dict[str, float], workers: int, size: float) -> float:
    """Seconds of the collectives of a round on the machine that was measured."""
    link = Link("here", model["latency_s"], model["bandwidth"])
    return ring(link, workers, size) + (_MESSAGES - 1) * ring(link, workers, 0.0)


def fitted(bare: dict[int, dict[int, float]]) -> dict[str, float]:
    """Latency and bandwidth of this machine: the smallest message gives the one, the largest the other."""
    latencies, bandwidths = [], []
    for workers, times in bare.items():
        small, large = min(times), max(times)
        latencies.append(times[small] / (2 * (workers - 1)))
        rest = times[large] - times[small]
        bandwidths.append(2 * (workers - 1) / workers * 8 * (large - small) / rest)
    return {"latency_s": statistics.median(latencies), "bandwidth": statistics.median(bandwidths)}


def markdown(result: dict[str, Any], command: str) -> str:
    """The section of the page."""
    parts = ["## Scaling", f"`{command}`", _head(result), _measured(result), _shares(result), _model(result)]
    return "\n\n".join(part.strip() for part in parts)


def _head(result: dict[str, Any]) -> str:
    about = result["machine"]
    return (
        f"Random tables, tiles of {result['tile_size']:,} rows, workers of one thread on {about['cpus']} CPUs, "
        f"load {about['load']}. "
        "Bytes are what one worker hands to collectives in a round: only nodes that have news travel, which are most "
        "of a lattice; maps of sssom are growing, and samples that may become nodes travel too. Share: the exact "
        "reduction (packing, collectives, unpacking) in a round without the time that a worker waits for the "
        "slowest.\n\n"
        "Weak scaling at K=400, D=784: samples per second of 2 workers over those of 1, measured in turns; target 1.8. "
        + "; ".join(f"{tiles} tiles each: {in_words(spread(found))}" for tiles, found in result["weak"].items())
        + "."
    )


def _measured(result: dict[str, Any]) -> str:
    rows = []
    workers = sorted({one["workers"] for one in result["cases"]})
    key = lambda one: tuple(one[name] for name in ("model", "nodes", "features", "classes"))  # noqa: E731
    for case in dict.fromkeys(key(one) for one in result["cases"]):
        of_case = {one["workers"]: one for one in result["cases"] if key(one) == case}
        sent = of_case[workers[-1]]["bytes"] / 1e6
        rates = [f"{1 / of_case[w]['seconds']:.1f}" for w in workers]
        rows.append([case[0], *map(str, case[1:]), f"{sent:.2f}", *rates])
    head = ["model", "K", "D", "C", "MB", *(f"rounds/s, W={w}" for w in workers)]
    return "Rounds of 4 tiles, shared by W workers:\n\n" + table(head, rows)


def _shares(result: dict[str, Any]) -> str:
    rows = [
        [one["model"], str(one["tiles"] // 2), f"{1000 * one['seconds']:.0f}", f"{one['bytes'] / 1e6:.1f}",
         f"{1000 * one['took']:.1f}", f"{100 * one['share']:.1f} %"]
        for one in result["shares"]
    ]  # fmt: skip
    head = ["model", "tiles per worker", "round, ms", "MB", "reduction, ms", "share"]
    return "The exact reduction at K=400, D=784 on 2 workers; target below 10 %:\n\n" + table(head, rows)


def _model(result: dict[str, Any]) -> str:
    model, checked = result["model"], result["checked"]
    ratios = [one["took"] / one["predicted"] for one in checked]
    biggest = max(result["shares"], key=lambda one: (one["model"] == "kohonen", one["tiles"]))
    tile_s = (biggest["seconds"] - biggest["waited"] - biggest["took"]) / (biggest["tiles"] / 2)
    size = biggest["bytes"]
    local = statistics.median(max(0.0, one["took"] - one["predicted"]) for one in checked if one["bytes"] > size / 2)
    rows = []
    for link in LINKS:
        cells = []
        for workers in _WORLDS:
            seconds = ring(link, workers, size) + ring(link, workers, 0.0)
            tiles = math.ceil(9 * (seconds + local) / tile_s)  # reduction = 10 % of the round
            cells.append(f"{1000 * seconds:.1f} ms, {tiles}")
        rows.append([link.name, *cells])
    return (
        "A ring all-reduce of B bytes takes 2 (W - 1) (latency + B / W / bandwidth). A round has two: one of counts, "
        "hardly more than latency, and one of B bytes. Fitted to bare all-reduces here: "
        f"{1e6 * model['latency_s']:.0f} µs, {model['bandwidth'] / 1e9:.2f} GB/s. The measured reductions took "
        f"{in_words(spread(ratios))} times what it predicts; what is beyond it is packing and unpacking, which do not "
        "depend on W.\n\n"
        f"For K=400, D=784 ({size / 1e6:.1f} MB, {1000 * tile_s:.1f} ms of computing per tile and thread, "
        f"{1000 * local:.1f} ms of packing): milliseconds of the collectives, and the tiles per worker and round from "
        "which the exact reduction is below 10 % of the round. Links are assumed, not measured: "
        + "; ".join(f"{k.name}: {1e6 * k.latency_s:.0f} µs, {k.bandwidth / 1e9:g} GB/s" for k in LINKS) + ".\n\n"
        + table(["link", *(f"W={w}" for w in _WORLDS)], rows)
    )  # fmt: skip
