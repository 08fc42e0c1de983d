"""The settings that only rivals have, and which of them each rival reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from pipeline.errors import must
from pipeline.section import Section

_CLUSTERS = ("clusters", "restarts")
SETTINGS: dict[str, tuple[str, ...]] = {
    "kmeans": _CLUSTERS,
    "autoencoder-kmeans": _CLUSTERS,
    "dec": (*_CLUSTERS, "pretrain_share", "target_rounds"),
    "deepcluster": (*_CLUSTERS, "pseudo_clusters", "reassign_epochs", "whitened_dim"),
    "vqvae": ("clusters", "pretrain_share", "commitment_weight", "code_decay", "dead_code_share"),
    "supervised": (),
    "fixmatch": ("confidence", "consistency_weight"),
}
"""`rival.*` by model."""
RIVALS = tuple(SETTINGS)
CLASSIFIERS = ("supervised", "fixmatch")
MAP_DEFAULTS: dict[str, Any] = {"epochs": 10, "batch_size": 512, "tile_size": 128}
DEEP_KEYS = (
    "learning_rate",
    "final_rate",
    "rate_warmup_rounds",
    "weight_decay",
    "clip_norm",
    "average_decay",
    "precision",
)
"""`deep.*` that rivals read: their optimiser, and the precision of their passes."""
MAP_KEYS = ("epochs", "batch_size", "tile_size", "num_rounds", "sampling")
"""`map.*` that rivals read: how their samples are cut into rounds and tiles."""


class RivalConfig(Section):
    """How a rival is trained, beside `encoder.*`, `deep.*` (its optimiser) and the rounds of `map.*`."""

    clusters: int | None = Field(None, ge=2, description="a number of clusters >= 2 (none: as many as classes)")
    restarts: int = Field(10, ge=1, description="a number of k-means starts >= 1")
    pretrain_share: float = Field(0.5, gt=0, lt=1, description="a share of the rounds in (0, 1)")
    target_rounds: int = Field(140, ge=1, description="a number of rounds >= 1")
    pseudo_clusters: int | None = Field(
        None, ge=2, description="a number of clusters >= 2 (none: ten times rival.clusters, at most the rows)"
    )
    reassign_epochs: int = Field(1, ge=1, description="a number of epochs >= 1")
    whitened_dim: int | None = Field(None, ge=2, description="a number of principal axes >= 2 (none: all)")
    commitment_weight: float = Field(0.25, ge=0, description="a number >= 0")
    code_decay: float = Field(0.95, ge=0, lt=1, description="a share in [0, 1)")
    dead_code_share: float = Field(0.1, ge=0, lt=1, description="a share in [0, 1) of the samples an average code wins")
    confidence: float = Field(0.95, gt=0, lt=1, description="a probability in (0, 1)")
    consistency_weight: float = Field(1.0, ge=0, description="a number >= 0")


@dataclass(frozen=True)
class RivalPlan:
    """A rival, resolved.

    Attributes:
        name: of the model.
        config: its settings, nothing left open that it reads.
    """

    name: str
    config: RivalConfig

    @property
    def num_clusters(self) -> int:
        """Nodes of the final map: clusters, codes or, of classifiers, classes."""
        assert self.config.clusters is not None
        return self.config.clusters

    def to_dict(self) -> dict[str, Any]:
        """All that its result depends on."""
        values = self.config.model_dump()
        return {"name": self.name, **{key: values[key] for key in ("clusters", *SETTINGS[self.name])}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RivalPlan:
        """The inverse of `to_dict`."""
        return cls(values["name"], RivalConfig(**{key: value for key, value in values.items() if key != "name"}))


def reads(model: str, key: str) -> bool:
    """Whether a rival reads a flat key of the configuration: data, training and cluster always, others by table."""
    section, _, name = key.partition(".")
    learns = model != "kmeans"
    known: dict[str, tuple[str, ...] | bool] = {
        "rival": SETTINGS[model],
        "map": MAP_KEYS,
        "encoder": learns,
        "deep": DEEP_KEYS + (("labelled_per_round",) if model in CLASSIFIERS else ()) if learns else False,
        "loss": False,
    }
    allowed = known.get(section, True)
    return allowed if isinstance(allowed, bool) else name in allowed


def check_rival(model: str, given: Iterable[str]) -> None:
    """What a rival does not read must not be given, where it would do nothing.

    Args:
        model: its name.
        given: flat keys.

    Raises:
        ValueError: names the key.
    """
    for key in given:
        if not reads(model, key):
            users = [rival for rival in RIVALS if reads(rival, key)] or ["a map"]
            raise ValueError(f"{key} must be used with {', '.join(users)}. Got {model}; remove it.")


def resolve_rival(model: str, rival: RivalConfig, num_classes: int, num_rows: int) -> RivalPlan:
    """Fills what is open: as many clusters as classes.

    Args:
        model: its name.
        rival: its settings.
        num_classes: C.
        num_rows: rows that are trained on.

    Raises:
        UserError: nobody says how many clusters, or there are fewer rows.
    """
    if model in CLASSIFIERS and num_classes == 1:
        raise must("--data", f"a data set with at least two classes for {model}", "one class")
    clusters = rival.clusters or num_classes
    if clusters < 2:
        raise must("rival.clusters", "given for data without two classes", rival.clusters)
    changes: dict[str, Any] = {"clusters": clusters}
    if model == "deepcluster" and rival.pseudo_clusters is None:
        changes["pseudo_clusters"] = min(10 * clusters, num_rows)
    resolved = rival.model_copy(update=changes)
    for name in () if model in CLASSIFIERS else ("clusters", "pseudo_clusters"):
        number = getattr(resolved, name)
        if name in SETTINGS[model] and number > num_rows:
            raise must(f"rival.{name}", f"at most the {num_rows} rows that are trained on", number)
    return RivalPlan(model, resolved)
