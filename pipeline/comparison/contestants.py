"""Who is compared: models, and the deep map with one of its parts taken away.

C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config import MODELS, keys, parse_value, unknown_key
from pipeline.errors import must
from pipeline.rivals.config import CLASSIFIERS, RIVALS, reads
from somcore.config import LABEL_AWARE, MapConfig

ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "deep-no-relevance": ("deep", {"map.relevance_floor": 1.0}),
    "deep-no-push": ("deep", {"loss.push_weight": 0.0}),
    "deep-lattice": ("deep", {"deep.variant": "kohonen"}),
    "deep-kmeans": ("deep", {"deep.variant": "kohonen", "map.radius": 0.1, "map.final_radius": 0.1}),
}
"""The deep map without one of its parts: all relevances 1, nothing pushed away, a fixed lattice that does not grow, and
k-means with the same loss: nodes of that lattice that move alone, as the neighbourhood reaches nobody."""
SPREADING = "label-spreading"
NAMES = (*MODELS, *ABLATIONS, SPREADING)
_ALWAYS = ("data.", "train.", "cluster.", "tracking.")


@dataclass(frozen=True)
class Contestant:
    """One row of the table.

    Attributes:
        name: as asked for.
        model: as `jobs.train` knows it; empty for label spreading, which is not trained by rounds.
        changes: flat settings of its own.
        variant: of the map that learns: that of the deep layer, else the model itself.
    """

    name: str
    model: str
    changes: dict[str, Any] = field(default_factory=dict)
    variant: str = ""

    @property
    def learns_from_labels(self) -> bool:
        """Whether labels change what it learns; the others are trained once, without any."""
        return self.variant in LABEL_AWARE or self.model in CLASSIFIERS or not self.model

    @property
    def learns_without_labels(self) -> bool:
        """Whether it can be trained when there are none."""
        return bool(self.model) and self.model not in CLASSIFIERS

    def settings(self, common: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the common settings that this model reads, with its own over them."""
        variant = _variant(self.model, {**common, **self.changes})
        kept = {key: value for key, value in common.items() if key != "train.model" and self._reads(key, variant)}
        return {**kept, **self.changes, "train.model": self.model}

    def _reads(self, key: str, variant: str) -> bool:
        if self.model in RIVALS:
            return reads(self.model, key)
        if key.startswith("map."):
            return key.removeprefix("map.") in MapConfig.fields_of(variant)
        return key.startswith(_ALWAYS) or (self.model == "deep" and not key.startswith("rival."))


def contestants(names: Sequence[str], own: Sequence[str], common: Mapping[str, Any]) -> list[Contestant]:
    """Those asked for.

    Args:
        names: some of `NAMES`.
        own: settings of single ones: `NAME:key=value`.
        common: flat settings of all, for their trainings with labels.

    Raises:
        UserError: an unknown name, or one that is there twice.
        ValueError: a setting that nobody knows.
    """
    changes: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in names:
        if name not in NAMES:
            raise must("--models", f"some of {', '.join(NAMES)}", name)
    if len(changes) < len(names):
        raise must("--models", "different names", ", ".join(names))
    for text in own:
        name, _, setting = text.partition(":")
        key, sign, value = setting.partition("=")
        if name not in changes or not sign:
            raise must("--own", f"NAME:key=value with a name of --models ({', '.join(names)})", text)
        if key not in keys():
            raise ValueError(unknown_key(key, keys()))
        changes[name][key] = parse_value(value)
    found = []
    for name in names:
        model, fixed = ABLATIONS.get(name, ("" if name == SPREADING else name, {}))
        different = {**fixed, **changes[name]}
        found.append(Contestant(name, model, different, _variant(model, {**common, **different})))
    return found


def _variant(model: str, settings: Mapping[str, Any]) -> str:
    return str(settings.get("deep.variant", "sssom")) if model == "deep" else model
