"""1.6: what is added up per node and role, and how the sums move a number."""

from __future__ import annotations

import math

import numpy as np

from .common import gap


class Sums:
    """One node in one role (7.2): how many samples, and per feature how many were observed, their sum, their
    summed absolute deviation from the node."""

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self.seen = np.zeros(num_features, dtype=np.int64)
        self.feature_sum = np.zeros(num_features)
        self.deviation_sum = np.zeros(num_features)

    def add(self, x: np.ndarray, centre: np.ndarray) -> None:
        self.count += 1
        for d in range(len(x)):
            if not math.isnan(x[d]):
                self.seen[d] += 1
                self.feature_sum[d] += x[d]
                self.deviation_sum[d] += gap(x[d], centre[d])

    def remove(self, other: Sums) -> None:
        self.count -= other.count
        self.seen = self.seen - other.seen
        self.feature_sum = self.feature_sum - other.feature_sum
        self.deviation_sum = self.deviation_sum - other.deviation_sum


def pull(value: float, roles: list[tuple[float, int, float]]) -> float:
    """One number, pulled in several roles of (rate, pulls, sum of the places it is pulled to)."""
    roles = [role for role in roles if role[1] > 0]
    if sum(pulls for _, pulls, _ in roles) == 1:
        rate, _, total = roles[0]
        return value + rate * (total - value)
    strength = sum(pulls * -math.log1p(-rate) for rate, pulls, _ in roles)
    if strength == 0.0:
        return value
    mean = sum(-math.log1p(-rate) * total for rate, _, total in roles) / strength
    return value - math.expm1(-strength) * (mean - value)


def push(value: float, rate: float, pushes: int, total: float) -> float:
    strength = rate if pushes == 1 else -math.expm1(pushes * math.log1p(-rate))
    return value - strength * (total / pushes - value)


def smooth(value: float, kept: float, count: int, total: float) -> float:
    """7.4: `count` steps of a moving mean that keeps the share `kept`."""
    share = kept if count == 1 else kept**count
    return share * value + (1.0 - share) * (total / count)
