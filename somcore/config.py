"""Every hyper-parameter of a map, in one frozen value.

Axes: N samples, K nodes, D features, C classes.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from somcore.parameters import Parameters, parameter

GROWING = ("larfdssom", "sssom", "altsssom")
LATTICES = ("kohonen", "dssom")
VARIANTS = LATTICES + GROWING
LABEL_AWARE = ("sssom", "altsssom")
UNLABELLED = -1
MAX_CAPACITY = 16384
"""Nodes of the largest map."""
DEEP_RELEVANCE_FLOOR = 0.1  # of a growing map behind an encoder, where none is given

Decay = Literal["linear", "exponential", "inverse", "constant"]


def _parameter(default: Any, symbol: str, valid: str, used_by: tuple[str, ...], meaning: str, unit: str = "–") -> Any:
    return parameter(default, symbol, valid, meaning, unit, used_by=used_by)


_RELEVANT = ("dssom",) + GROWING
_WITH_THRESHOLD = ("larfdssom", "sssom")
_WITH_BOXES = ("altsssom",)


@dataclass(frozen=True, kw_only=True)
class MapConfig(Parameters):
    """The hyper-parameters of a self-organizing map, with symbol, range, unit and default.

    A value of None means "derived from the data by `resolve`"; only fields whose default is None take it. Fields that
    a variant does not use must keep their defaults. `MapConfig.describe()` gives the whole table.

    Raises:
        ValueError: a value is out of its range, or belongs to another variant.

    Source: Kohonen 1990 (lattices); Bassani & Araújo 2012, 2015; Braga & Bassani 2018, 2019.

    Example:
        >>> MapConfig(variant="larfdssom", bmu_rate=0.1).resolve(num_samples=100, num_features=4).capacity
        70
    """

    OWNER: ClassVar[str] = "a map"

    variant: str = _parameter("sssom", "–", " | ".join(VARIANTS), VARIANTS, "which rules the map composes")
    capacity: int | None = _parameter(None, "K", f"[1, {MAX_CAPACITY}]", GROWING, "upper bound of nodes", "slots")
    activation_threshold: float | str = _parameter(
        "auto", "a_t", "(0, 1) | auto", _WITH_THRESHOLD, "activation a node must reach to accept a sample"
    )
    bmu_rate: float | None = _parameter(None, "e_b", "[0, 1)", GROWING, "how far the BMU follows one sample")
    neighbour_rate: float | None = _parameter(None, "e_n", "[0, 1)", GROWING, "the same for its neighbours")
    push_rate: float | None = _parameter(
        None, "e_w", "[0, 1)", ("sssom",), "repulsion of a wrong-class BMU, if another node accepts"
    )
    relevance_rate: float | None = _parameter(
        None,
        "β",
        "[0, 1]",
        ("dssom", "larfdssom", "sssom"),
        "speed of deviations, times that of prototypes; dssom: by itself, < 1",
    )
    deviation_decay: float = _parameter(0.92, "κ", "[0, 1)", _WITH_BOXES, "share of a deviation kept per sample")
    relevance_slope: float = _parameter(0.07, "s", "> 0", GROWING, "small = binary relevances, large = flat")
    relevance_floor: float | None = _parameter(None, "ω_min", "(0, 1]", _RELEVANT, "keeps every feature alive")
    connection_threshold: float = _parameter(
        0.08, "minwd", "[0, 1]", GROWING, "nodes with relevances closer than this are neighbours", "× √D"
    )
    min_win_share: float | None = _parameter(
        None, "lp", "[0, 1)", GROWING, "nodes that win less are pruned", "share of samples"
    )
    pruning_period: int | None = _parameter(None, "age_wins", ">= 1", GROWING, "samples between prunings", "samples")
    pruning_epochs: float = _parameter(10, "age_wins / N", "> 0", GROWING, "the same in passes", "passes")
    threshold_quantile: float | None = _parameter(
        None, "p", "(0, 1)", _WITH_THRESHOLD, "share of close pairs that the automatic threshold takes for one node"
    )
    newborn_credit: bool | None = _parameter(None, "–", "bool", GROWING, "judge nodes on their own lifetime")
    candidates_per_group: int = _parameter(8, "G", ">= 1", GROWING, "insertions proposed per BMU and class", "rows")
    fallback: str = _parameter(
        "nearest", "–", "nearest | threshold", LABEL_AWARE, "prediction when the BMU has no class"
    )
    noise_filter: bool = _parameter(False, "–", "bool", _RELEVANT, "leave unmatched samples unassigned")
    rows: int | None = _parameter(None, "R", ">= 1", LATTICES, "lattice rows", "nodes")
    columns: int | None = _parameter(None, "Q", ">= 1", LATTICES, "lattice columns", "nodes")
    lattice: str = _parameter("hexagonal", "–", "rectangular | hexagonal", LATTICES, "adjacency")
    toroidal: bool = _parameter(False, "–", "bool", LATTICES, "no borders")
    kernel: str = _parameter("gaussian", "h", "gaussian | bubble", LATTICES, "shape of the neighbourhood")
    radius: float | None = _parameter(None, "σ₀", "> 0", LATTICES, "first neighbourhood radius", "lattice steps")
    final_radius: float | None = _parameter(None, "σ₁", "> 0", ("kohonen",), "last radius", "lattice steps")
    rate: float | None = _parameter(None, "α₀", "[0, 1)", LATTICES, "first learning rate (not for batch)")
    final_rate: float | None = _parameter(None, "α₁", "[0, 1)", ("kohonen",), "last learning rate")
    radius_decay: str = _parameter("exponential", "–", " | ".join(get_args(Decay)), ("kohonen",), "schedule of σ")
    rate_decay: str = _parameter("exponential", "–", " | ".join(get_args(Decay)), ("kohonen",), "schedule of α")
    algorithm: str | None = _parameter(None, "–", "batch | superstep | online", LATTICES, "form of the update")
    initialisation: str | None = _parameter(None, "–", "sample | linear", LATTICES, "where prototypes start")
    kernel_radius: int = _parameter(1, "r", ">= 0", ("dssom",), "window of the update", "lattice steps")
    rate_decay_constant: float = _parameter(0.2, "λ₂", "> 0", ("dssom",), "decay of the rate", "share of T")
    radius_decay_constant: float = _parameter(1.0, "λ₁", "> 0", ("dssom",), "decay of the radius", "share of T")
    outlier_threshold: float = _parameter(0.9, "–", "(0, 1)", ("dssom",), "activation below which x is noise")
    residual_threshold: float = _parameter(0.5, "–", "[0, 1]", ("dssom",), "relevance left that ends the search")
    max_members: int = _parameter(5, "–", ">= 1", ("dssom",), "nodes one sample may belong to", "nodes")
    epochs: int | None = _parameter(None, "t_max, T", ">= 1", VARIANTS, "passes of the organisation", "passes")
    batch_size: int = _parameter(512, "–", ">= 1", VARIANTS, "samples per round", "samples")
    sampling: str = _parameter("permutation", "–", "permutation | replacement", VARIANTS, "draws within an epoch")
    missing: str = _parameter("error", "–", "error | mask", VARIANTS, "what NaN features mean")
    seed: int = _parameter(0, "–", ">= 0", VARIANTS, "order of samples and initialisation")
    tile_size: int = _parameter(512, "T", "[1, 4096]", VARIANTS, "rows per tile; part of the numerics", "rows")
    num_rounds: int | None = _parameter(
        None, "–", ">= 1", VARIANTS, "rounds of the organisation phase, from epochs; None = it never ends", "rounds"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for each in dataclasses.fields(self):
            users = each.metadata["used_by"]
            if getattr(self, each.name) != each.default and self.variant not in users:
                of = ", ".join(users)
                raise ValueError(f"{each.name} is a parameter of {of}. Got it for {self.variant}; remove it.")
        self._check_pairs()

    def _check_pairs(self) -> None:
        for low, high in (("neighbour_rate", "bmu_rate"), ("push_rate", "bmu_rate"), ("final_radius", "radius")):
            a, b = getattr(self, low), getattr(self, high)
            if a is not None and b is not None and a > b:
                raise ValueError(f"{low} must be at most {high} ({b}). Got {a}.")
        if self.variant == "dssom" and self.algorithm == "batch":
            raise ValueError("algorithm must be superstep or online for dssom. Got 'batch'.")
        if self.variant == "dssom" and self.relevance_rate == 1:
            raise ValueError("relevance_rate must be below 1 for dssom. Got 1.")
        if self.toroidal and self.lattice == "hexagonal" and self.rows is not None and self.rows % 2:
            raise ValueError(f"rows must be even for a toroidal hexagonal lattice. Got {self.rows}.")

    @property
    def error_threshold(self) -> float:
        """ρ_t = (1 − a_t) / a_t: the mean squared error at which a node still accepts a sample."""
        if isinstance(self.activation_threshold, str):
            raise ValueError("activation_threshold must be resolved to a number first. Got 'auto'.")
        return (1.0 - self.activation_threshold) / self.activation_threshold

    @property
    def unresolved(self) -> str | None:
        """A hyper-parameter that `resolve` has still to fill; None where there is none (`num_rounds` may be left)."""
        used = (name for name in self.fields_of(self.variant) if name != "num_rounds")
        return next((name for name in used if getattr(self, name) is None), None)

    @property
    def is_growing(self) -> bool:
        """Whether the variant inserts and prunes nodes."""
        return self.variant in GROWING

    @property
    def has_threshold(self) -> bool:
        """Whether all nodes share one activation threshold."""
        return self.variant in _WITH_THRESHOLD

    @property
    def has_boxes(self) -> bool:
        """Whether each node accepts what lies in a box of its own."""
        return self.variant in _WITH_BOXES

    @classmethod
    def fields_of(cls, variant: str) -> tuple[str, ...]:
        """Names of the hyper-parameters that a variant uses."""
        return tuple(f.name for f in dataclasses.fields(cls) if variant in f.metadata["used_by"])

    def to_dict(self) -> dict[str, Any]:
        """The fields that this variant uses, by name."""
        return {name: getattr(self, name) for name in self.fields_of(self.variant)}

    def rounds_per_epoch(self, num_samples: int) -> int:
        """Rounds that one pass over N samples takes (resolved config)."""
        return math.ceil(num_samples / self.batch_size)

    def resolve(self, *, num_samples: int, num_features: int, num_classes: int = 0) -> MapConfig:
        """Fill every None from the data; `activation_threshold="auto"` is left to `somcore.threshold`.

        Args:
            num_samples: training rows N.
            num_features: D.
            num_classes: C, 0 if there are no classes.

        Returns:
            The same configuration, with numbers in place of None.
        """
        if num_samples < 1:
            raise ValueError(f"The training data must have at least 1 row. Got {num_samples}.")
        if num_features < 1:
            raise ValueError(f"The training data must have at least 1 feature. Got {num_features}.")
        growing = self.is_growing
        values = self._growing_defaults(num_samples, num_classes) if growing else self._lattice_defaults(num_samples)
        filled = {name: value for name, value in values.items() if getattr(self, name) is None}
        config = dataclasses.replace(self, **filled, batch_size=self._batch_size(num_samples))
        assert config.epochs is not None
        return dataclasses.replace(
            config,
            tile_size=min(self.tile_size, config.batch_size),
            num_rounds=self.num_rounds or config.epochs * config.rounds_per_epoch(num_samples),
        )

    def _batch_size(self, num_samples: int) -> int:
        algorithm = self.algorithm or ("batch" if self.variant == "kohonen" else None)
        whole = {"batch": num_samples, "online": 1}
        return whole.get(algorithm or "", min(self.batch_size, num_samples))

    def _growing_defaults(self, num_samples: int, num_classes: int) -> dict[str, Any]:
        bmu_rate = (0.1 if self.has_boxes else 0.05) if self.bmu_rate is None else self.bmu_rate
        defaults = {
            "capacity": {"larfdssom": 70, "altsssom": 250}.get(self.variant, 200),
            "bmu_rate": bmu_rate,
            "neighbour_rate": 0.45 * bmu_rate,
            "relevance_floor": 1e-6,
            "min_win_share": 0.001 if self.has_boxes else 0.002,  # decision 0016
            "pruning_period": max(1, round(self.pruning_epochs * num_samples)),
            "newborn_credit": self.has_boxes,
            "epochs": 50,
        }
        if self.has_threshold:
            defaults["relevance_rate"] = 0.1
            defaults["threshold_quantile"] = 1.0 / (2 * num_classes) if num_classes else 0.05
        if self.variant == "sssom":
            defaults["push_rate"] = 0.6 * bmu_rate
        return defaults

    def _lattice_defaults(self, num_samples: int) -> dict[str, Any]:
        rows, columns = self.rows, self.columns
        if rows is None:
            nodes = 5 * math.sqrt(num_samples)
            rows = max(1, round(nodes / columns if columns else math.sqrt(nodes)))
            rows += rows % 2 if self.toroidal and self.lattice == "hexagonal" else 0
        if columns is None:
            columns = max(1, round(5 * math.sqrt(num_samples) / rows)) if self.rows else rows
        defaults: dict[str, Any] = {"rows": rows, "columns": columns, "epochs": 20}
        if self.variant == "dssom":
            return defaults | {
                "radius": 1.0,  # with the next two: decision 0035
                "rate": 0.1,
                "initialisation": "linear",
                "algorithm": "superstep",
                "relevance_rate": 0.01,
                "relevance_floor": 0.1,
            }
        radius = max(rows, columns) / 2 if self.radius is None else self.radius
        rate = 0.5 if self.rate is None else self.rate
        return defaults | {
            "radius": radius,
            "final_radius": min(0.5, radius),
            "rate": rate,
            "final_rate": min(0.01, rate),
            "initialisation": "sample",
            "algorithm": "batch",
        }
