"""What the laws are tried on: integer-valued samples (sixteenths) on random maps of every variant.

All numbers are short binary fractions, so that a law is a law of the code and not of rounding.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from somcore import BatchStatistics, MapConfig, MapState
from tests.side_by_side import GROWING, random_map, resolved, statistics_of, to_torch

C, D = 3, 3
VARIANTS = ("kohonen", "dssom", *GROWING)


class Case:
    """A frozen map and the samples of one round."""

    def __init__(
        self,
        state: MapState,
        config: MapConfig,
        samples: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        positions: np.ndarray,
    ) -> None:
        self.state, self.config = state, config
        self.samples, self.labels, self.weights, self.positions = samples, labels, weights, positions

    def statistics(self, rows: np.ndarray | slice = slice(None)) -> BatchStatistics:
        """Those of some of the samples."""
        return statistics_of(
            self.state, self.samples[rows], self.labels[rows], self.config, self.weights[rows], self.positions[rows]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        nodes = [(j, self.state.classes[j].item()) for j in self.state.alive.nonzero().flatten().tolist()]
        rows = list(zip(self.positions, self.samples.tolist(), self.labels, self.weights, strict=True))
        phase = "growing" if self.state.growing else "frozen"
        return f"{self.config.variant}, {phase}, nodes (slot, class) {nodes}, rows (position, x, y, weight) {rows}"


def settings(variant: str, **changes) -> MapConfig:
    if variant in ("kohonen", "dssom"):
        return resolved(
            variant, 20, D, 0, rows=2, columns=4, radius=1.0, num_rounds=4, **{"algorithm": "superstep"} | changes
        )
    values = {"capacity": 8, "connection_threshold": 0.4, "min_win_share": 0.05, "candidates_per_group": 2}
    if variant != "altsssom":
        values["activation_threshold"] = 0.95
    return resolved(variant, 20, D, C, **values | changes)


@st.composite
def cases(draw, variants=VARIANTS, max_weight: int = 3, missing: bool = True, max_samples: int = 12, **changes) -> Case:
    variant = draw(st.sampled_from(variants))
    mask = missing and draw(st.booleans())
    config = settings(variant, missing="mask" if mask else "error", **changes)
    grown = variant in GROWING
    number = draw(st.integers(1, max_samples))
    samples = draw(hnp.arrays(np.int64, (number, D), elements=st.integers(0, 16))) / 16.0
    if mask:
        hidden = draw(hnp.arrays(bool, (number, D)))
        hidden[:, draw(st.integers(0, D - 1))] = False
        samples = np.where(hidden, np.nan, samples)
    labels = draw(hnp.arrays(np.int64, number, elements=st.integers(-1, C - 1 if grown else -1)))
    weights = draw(hnp.arrays(np.int64, number, elements=st.integers(0 if max_weight > 1 else 1, max_weight)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nodes = draw(st.integers(0, 8)) if grown else 8
    m = random_map(rng, config, D, C if grown else 0, nodes=nodes, step=2.0**-4)
    m.growing = draw(st.booleans()) or not grown
    positions = rng.permutation(4 * number)[:number]
    return Case(to_torch(m), config, samples, labels, weights, positions)
