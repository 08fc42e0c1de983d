"""What fits on the nodes of a cluster: a bundle lies on one node, never across two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_UNITS = 10_000  # of a resource: Ray counts no finer


def capacity(nodes: Sequence[Mapping[str, float]], bundle: Mapping[str, float]) -> int:
    """How many bundles fit on nodes that hold nothing else.

    Args:
        nodes: what each has, by the name of the resource.
        bundle: what each asks for; not nothing.

    Example:
        >>> capacity([{"CPU": 1.0}, {"CPU": 1.0}], {"CPU": 0.66}), capacity([{"CPU": 2.0}], {"CPU": 0.66})
        (2, 3)
    """
    asked = {name: units for name, amount in bundle.items() if (units := round(_UNITS * amount))}
    return sum(min(round(_UNITS * node.get(name, 0)) // units for name, units in asked.items()) for node in nodes)


def even_share(nodes: Sequence[Mapping[str, float]], bundles: int, most: float) -> float:
    """The largest number of CPUs, in hundredths, that each of so many bundles can have; 0 where it would be less.

    Args:
        nodes: what each has, by the name of the resource.
        bundles: at least one.
        most: CPUs that are enough for one.

    Example:
        >>> even_share([{"CPU": 1.0}, {"CPU": 1.0}], 3, most=1.0), even_share([{"CPU": 2.0}], 3, most=1.0)
        (0.5, 0.66)
    """
    hundredths = [round(_UNITS * node.get("CPU", 0)) * 100 // _UNITS for node in nodes]
    shares = {int(100 * most), *(has // count for has in hundredths for count in range(1, bundles + 1))}
    fitting = (share for share in sorted(shares, reverse=True) if 0 < share <= 100 * most)
    return next((share / 100 for share in fitting if sum(has // share for has in hundredths) >= bundles), 0.0)
