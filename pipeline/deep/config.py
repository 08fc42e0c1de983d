"""The settings that only deep runs have: the encoder, and how it is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.section import Section
from somcore.config import DEEP_RELEVANCE_FLOOR, LATTICES

MAP_DEFAULTS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 512,
    "tile_size": 128,
    "connection_threshold": 0.0,
    "pruning_epochs": 1,
    "min_win_share": 0.001,
}
"""Defaults of `map.*` in deep runs where they differ from those of the classical maps."""
LATTICE_DEFAULTS: dict[str, Any] = {
    "rows": 8,
    "columns": 8,
    "epochs": 10,
    "batch_size": 512,
    "tile_size": 128,
    "algorithm": "superstep",
}
"""The same for a fixed lattice: the size of published deep SOMs, and rounds that are a part of an epoch."""


def map_defaults(variant: str) -> dict[str, Any]:
    """Defaults of `map.*` in deep runs of a variant."""
    return LATTICE_DEFAULTS if variant in LATTICES else MAP_DEFAULTS | {"relevance_floor": DEEP_RELEVANCE_FLOOR}


class EncoderConfig(Section):
    """From samples to latent features."""

    name: (
        Literal["auto", "cnn", "standardised", "residual", "mlp", "audio", "word", "pretrained"]
        | Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    ) = Field(
        "auto",
        description="auto, cnn, standardised, residual, mlp, audio, word, pretrained, or module:function of your own",
    )
    dim: int = Field(64, ge=2, description="a number of latent features >= 2")
    width: int = Field(32, ge=4, multiple_of=4, description="channels of the first layer, a multiple of 4")
    weights: str | None = Field(None, description="a torchvision model, or model:file, for name=pretrained")
    augment: Literal["auto", "none", "digits", "clothes", "objects", "characters", "audio", "table"] = Field(
        "auto", description="auto, none, digits, clothes, objects, characters, audio or table"
    )


class DeepConfig(Section):
    """How encoder and map are trained together."""

    variant: Literal["sssom", "larfdssom", "altsssom", "kohonen", "dssom"] = Field(
        "sssom", description="sssom, larfdssom, altsssom, kohonen or dssom"
    )
    learning_rate: float = Field(1e-3, gt=0, description="a number > 0")
    final_rate: float = Field(0.02, ge=0, le=1, description="a share of the learning rate in [0, 1]")
    rate_warmup_rounds: int = Field(20, ge=0, description="a number of rounds >= 0")
    weight_decay: float = Field(1e-4, ge=0, description="a number >= 0")
    clip_norm: float = Field(5.0, ge=0, description="a number >= 0 (0: gradients are not clipped)")
    average_decay: float = Field(0.998, ge=0, lt=1, description="a share in [0, 1) (0: no average)")
    labelled_per_round: int | None = Field(
        None, ge=0, description="extra labelled samples per round >= 0 (none: a quarter of a round if labels are rare)"
    )
    labelled_only: bool = Field(False, description="true (train on the labelled rows alone) or false")
    refresh_rounds: int | None = Field(None, ge=0, description="a number of rounds >= 0 (0: never, none: 40)")
    refresh_rows: int = Field(2048, ge=1, description="a number of rows >= 1")
    growth_rounds: int | None = Field(
        None, ge=1, description="a number of rounds >= 1 in which nodes are inserted (none: all)"
    )
    refresh_tune_steps: int = Field(0, ge=0, description="a number of steps >= 0 after every refresh")
    tune_steps: int = Field(0, ge=0, description="a number of steps >= 0 (0: prototypes stay where they settled)")
    refresh_tune_rate: float = Field(0.01, gt=0, le=1, description="a step in (0, 1]")
    tune_rate: float = Field(0.02, gt=0, le=1, description="a step in (0, 1]")
    crossings: bool = Field(
        False, description="true (nodes are connected by the views that cross between them) or false"
    )
    final_passes: int = Field(3, ge=1, description="a number of passes >= 1")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="float32 or bfloat16")
    on_collapse: Literal["stop", "go_on"] = Field("stop", description="stop or go_on")
