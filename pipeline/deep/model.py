"""A trained deep model: the final map with its encoder, as it is saved, opened again and tracked.

P parameters of encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.deep.config import DeepConfig, EncoderConfig
from pipeline.deep.network import Network
from pipeline.deep.plan import DeepPlan, deep_map_config, encode, error_threshold
from pipeline.deep.pretrained import placed
from pipeline.deep.sample_shape import SampleShape
from pipeline.deep.user_encoder import refuse_unnamed
from pipeline.errors import OutputError
from pipeline.rivals.config import RivalPlan
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan
from pipeline.training.rundir import RunDirectory
from somcore.config import MapConfig
from somcore.loss_config import LossConfig
from somcore.matching import predict_classes, predict_nodes
from somcore.state import MapState

_VALUES, _CROSSINGS = "encoder.values", "crossings"


def described(
    plan: TrainingPlan, snapshot: Snapshot, about: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is written beside the final map: a description; of deep runs the encoder's parameters, and crossings."""
    if plan.deep is None or snapshot.network is None:
        return dict(about), {}
    sample = plan.deep.sample
    deep = plan.deep.to_dict() | {
        "threshold": snapshot.network.threshold,
        "sample": {"kind": sample.kind, "shape": list(sample.shape), "sample_rate": sample.sample_rate},
        "num_labelled": plan.deep.num_labelled,
    }
    if plan.deep.weights is not None:  # the file is not a part of the model, which is opened from any folder
        deep["encoder"] |= {"weights": placed(plan.deep.encoder.weights)}
    tensors = {_VALUES: snapshot.network.values}
    if snapshot.network.crossings is not None:
        tensors[_CROSSINGS] = snapshot.network.crossings
    return {**about, "deep": deep, "digest": snapshot.digest()}, tensors


class DeepModel:
    """An encoder and its map, ready to predict.

    Args:
        network: the encoder, with its values.
        state: the map on its features.
        config: hyper-parameters of the map, threshold included.
        crossings: (K, K) int64 between nodes (`somcore.crossings`); None if they were not counted.
        losses: those it was trained with, whose softness its class probabilities have; None = that of the map.
    """

    def __init__(
        self,
        network: Network,
        state: MapState,
        config: MapConfig,
        crossings: Tensor | None = None,
        losses: LossConfig | None = None,
    ) -> None:
        self.network, self.state, self.config = network.eval(), state, config
        self.crossings, self._losses = crossings, losses

    @classmethod
    def load(cls, directory: str | Path, trusted: bool = False) -> DeepModel:
        """The final model of a run.

        Args:
            directory: of the run.
            trusted: whether an encoder of somebody's own may be called that the user has not named.

        Raises:
            OutputError: there is none, or the run was not a deep one, or its encoder is somebody's own.
        """
        from safetensors import safe_open

        run = RunDirectory(Path(directory))
        state, config, about = run.load_map()
        if "deep" not in about:
            raise OutputError(f"'{directory}' must hold a deep model. Got {about.get('model')}.")
        deep = about["deep"]
        shape = deep["sample"]
        encoder = EncoderConfig.model_validate(deep["encoder"])
        if not trusted:
            refuse_unnamed(encoder.name, run.map_path)
        plan = DeepPlan(
            encoder=encoder,
            settings=DeepConfig.model_validate(deep["deep"]),
            losses=LossConfig.from_dict(deep["loss"]),
            sample=SampleShape(shape["kind"], tuple(shape["shape"]), shape["sample_rate"]),
            rounds=deep["rounds"],
            extra=deep["extra"],
            num_labelled=deep["num_labelled"],
            num_classes=state.num_classes,
            rival=RivalPlan.from_dict(deep["rival"]) if "rival" in deep else None,
            weights=deep.get("weights"),
        )
        with safe_open(run.map_path, framework="pt") as file:
            network = plan.loaded(file.get_tensor(_VALUES))
            crossings = file.get_tensor(_CROSSINGS) if _CROSSINGS in set(file.keys()) else None
        losses = plan.losses if plan.rival is None else None
        return cls(network, state, deep_map_config(config, deep["threshold"]), crossings, losses)

    def encode(self, samples: Tensor) -> Tensor:
        """(n, P) scaled samples to (n, D) features in (0, 1)."""
        return encode(self.network, samples)

    def represent(self, samples: Tensor) -> Tensor:
        """(n, P) scaled samples to the features of the network's body: those of a classifier before its classes."""
        return encode(self.network.body, samples)

    def predict(self, samples: Tensor) -> Tensor:
        """(n,) int64 classes, −1 where none can be said."""
        return predict_classes(self.state, self.encode(samples), self.config)

    @property
    def temperature(self) -> float | None:
        """ϑ of the class probabilities; None = that of the map."""
        if self._losses is None:
            return None
        return self._losses.decisions(error_threshold(self.config))[0]

    def nodes(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """BMU and its error for each sample."""
        return predict_nodes(self.state, self.encode(samples), self.config)

    @torch.no_grad()
    def decode(self, features: Tensor) -> Tensor:
        """(n, D) features, such as prototypes, to (n, P) samples; of models with a decoder."""
        if self.network.decoder is None:
            raise OutputError("The model must have a decoder (loss.reconstruction_weight > 0). It has none.")
        decoded: Tensor = self.network.decoder(features.to(torch.float32))
        return decoded
