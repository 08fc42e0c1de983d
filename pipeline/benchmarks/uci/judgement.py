"""Reach, beat, equal: one definition for every comparison.

The standard error is sd/√9 of our own folds, which share rows: it is too small, 2.3 times by the correction of Nadeau
2003. Of an average over cells it is √(Σ se²) / cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.benchmarks.uci.protocols import Summary

TOLERANCE = 0.005


def average(cells: Sequence[Summary]) -> Summary:
    """Mean over cells; its standard error is √(Σ se²) / cells, and its `sd` is that standard error."""
    mean = math.fsum(cell.mean for cell in cells) / len(cells)
    return Summary(mean, math.sqrt(math.fsum(cell.se**2 for cell in cells)) / len(cells), (mean,))


def reaches(ours: Summary, published: float, tolerance: float = TOLERANCE) -> bool:
    """Our mean is at least the value less the larger of .005 and one standard error."""
    return ours.mean >= published - max(tolerance, ours.se)


def against_published(ours: Summary, published: float) -> str:
    """Verdict: "beat" if our mean less one standard error exceeds the value, "below" the other way round."""
    if ours.mean - ours.se > published:
        return "beat"
    return "below" if ours.mean + ours.se < published else "equal"


def difference(ours: Sequence[Summary], theirs: Sequence[Summary]) -> Summary:
    """Mean paired fold difference, averaged over tables."""
    paired = [
        Summary.of([a - b for a, b in zip(x.values, y.values, strict=True)]) for x, y in zip(ours, theirs, strict=True)
    ]
    return average(paired)


def against_baseline(ours: Sequence[Summary], theirs: Sequence[Summary]) -> str:
    """Verdict: "beat" if the mean paired fold difference exceeds its standard error, "below" the other way round."""
    gap = difference(ours, theirs)
    if gap.mean > gap.se:
        return "beat"
    return "below" if gap.mean < -gap.se else "equal"
