"""A trained model that takes raw samples, in the units of the source, and says class, node and how sure it is.

All it needs is in the map file of the run: the map, the encoder of deep runs, and how samples are scaled.
Axes: n samples, D features, K nodes, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.deep.model import DeepModel
from pipeline.errors import DataError, OutputError, UserError
from pipeline.prepared.manifest import Manifest
from pipeline.prepared.samples import WRONG_VALUE, InputSpec
from pipeline.prepared.scaling import Scaling
from pipeline.training.rundir import MAP, RunDirectory
from somcore.config import LABEL_AWARE, MapConfig
from somcore.growth import take_nodes
from somcore.matching import box_ratios, class_probabilities, predict_classes, predict_nodes
from somcore.state import MapState

BEYOND = 0.5  # novelty from which the map would not accept a sample
TILE_ROWS = 2048


class Predictor:
    """A trained model, ready to predict.

    Args:
        spec: what it takes.
        state: the map.
        config: its resolved hyper-parameters.
        class_names: in the order of the codes.
        deep: encoder of deep models.
        about: what the map file says of itself.
    """

    def __init__(
        self,
        spec: InputSpec,
        state: MapState,
        config: MapConfig,
        class_names: tuple[str, ...],
        deep: DeepModel | None,
        about: Mapping[str, Any],
    ) -> None:
        self.spec, self.state, self.config, self.class_names, self.deep = spec, state, config, class_names, deep
        self.about = dict(about)
        self._scaling = Scaling(spec.low, spec.high)
        self._alive = take_nodes(state, state.alive.nonzero().squeeze(1))  # empty places cost as much as nodes

    @classmethod
    def load(cls, place: str | Path, trusted: bool = False) -> Predictor:
        """From the directory of a run, or any directory with its map file. Nothing in it is executed.

        Args:
            place: the directory.
            trusted: whether an encoder of somebody's own may be called that the user has not named, in settings or in
                SOMGRAD_ENCODERS.

        Raises:
            OutputError: there is no map, or it is not what was written, or its encoder is somebody's own.
            UserError: the map does not say what it takes.
        """
        directory = RunDirectory(Path(place))
        state, config, about = directory.load_map()
        if "input" in about:
            try:
                spec = InputSpec.from_dict(about["input"])
            except (TypeError, AttributeError):
                got = f"an 'input' of {str(about['input'])[:60]}"
                raise OutputError(f"'{directory.map_path}' cannot be used: it has {got}. Train again.") from None
        else:
            data = directory.record.get("settings", {}).get("data.path")
            if data is None:
                raise UserError(f"'{directory.path / MAP}' must say what samples it takes. Train the model again.")
            spec = InputSpec.of(Manifest.load(data))
        deep = DeepModel.load(directory.path, trusted) if "deep" in about else None
        config = deep.config if deep else config
        return cls(spec, state, config, tuple(about.get("class_names") or ()), deep, about)

    @property
    def novelty_error(self) -> float:
        """ρ_t, at which novelty is one half: where a node still accepts a sample (lattices: the outlier threshold).

        Nodes of ALTSS-SOM accept by their boxes; see `novelty`.
        """
        if self.config.is_growing and not isinstance(self.config.activation_threshold, str):
            return self.config.error_threshold
        return 1.0 / self.config.outlier_threshold - 1.0

    def novelty(self, features: Tensor, rho: Tensor) -> Tensor:
        """How far samples lie beyond what their BMU accepts: above one half exactly where it does not.

        Args:
            features: (n, D) as the map sees them.
            rho: (n,) errors of their BMUs.

        Returns:
            (n,) float64 in [0, 1]: ρ / (ρ + ρ_t); of ALTSS-SOM r / (1 + r), r = the largest |x − c| / (half width of
            the BMU's box) over the features.
        """
        if self.config.has_boxes:
            ratio = box_ratios(self.state, features, self.config)
            return torch.where(ratio.isinf(), 1.0, ratio / (1 + ratio))
        return torch.where(rho.isinf(), 1.0, rho / (rho + self.novelty_error))

    def __call__(self, samples: Any) -> pd.DataFrame:
        """Predicts.

        Args:
            samples: n raw samples, see `InputSpec.read`.

        Returns:
            One row per sample: class (name; None where the map knows none), confidence (probability of that
            class; NaN without classes), node, activation 1 / (1 + ρ) of the BMU, and novelty in [0, 1]: one half where
            the map would just accept the sample, see `novelty`.

        Raises:
            UserError: the samples are not what the model takes, or one of them has no valid value.
        """
        values = self.spec.read(samples)
        bad = np.flatnonzero(self.spec.invalid(values)) if len(values) else np.empty(0, np.int64)
        if len(bad):
            raise DataError(f"Row {bad[0]}: {WRONG_VALUE}. Clean it or leave the row out.")
        return self.predict(values)

    def predict(self, values: np.ndarray) -> pd.DataFrame:
        """The same for valid arrays (n, *shape)."""
        starts = range(0, max(1, len(values)), TILE_ROWS)
        return pd.concat([self._tile(values[s : s + TILE_ROWS]) for s in starts], ignore_index=True)

    def _tile(self, values: np.ndarray) -> pd.DataFrame:
        count = len(values)
        with torch.no_grad():
            features = self._scaling(values) if count else torch.empty(0, self.state.num_features)
            lost = torch.zeros(count, dtype=torch.bool)
            if self.deep is not None and count:
                features = self.deep.encode(features)
                lost = ~features.isfinite().all(1)  # an enormous value is more than an encoder can compute with
                features = features.masked_fill(lost.unsqueeze(1), 0.0)
            nodes, rho = predict_nodes(self.state, features, self.config)
            classes, confidence = self._classes(features)
            novelty = self.novelty(features, rho)
        nodes[lost], rho[lost], classes[lost], confidence[lost], novelty[lost] = -1, torch.inf, -1, torch.nan, 1.0
        names = np.array([*self.class_names, None], dtype=object)
        return pd.DataFrame(
            {
                "class": pd.Series(names[classes.numpy()], dtype=object),
                "confidence": confidence.numpy(),
                "node": nodes.numpy(),
                "activation": (1 / (1 + rho)).numpy(),
                "novelty": novelty.numpy(),
            }
        )

    def _classes(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) class codes, −1 where there is none, and (n,) their probabilities."""
        count = len(features)
        if self.config.variant not in LABEL_AWARE or self.state.num_classes == 0 or count == 0:
            return torch.full((count,), -1), torch.full((count,), torch.nan, dtype=torch.float64)
        classes = predict_classes(self.state, features, self.config)
        temperature = self.deep.temperature if self.deep else None
        probabilities = class_probabilities(self._alive, features, self.config, temperature)
        chosen = probabilities.gather(1, classes.clamp_min(0).unsqueeze(1)).squeeze(1)
        return classes, torch.where(classes < 0, torch.nan, chosen)
