"""The map as the last layer of a network: forward measures on a frozen map, `install` puts the next one in.

Axes: n samples of a tile, K nodes, D features, C classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from somcore.config import DEEP_RELEVANCE_FLOOR, LABEL_AWARE, UNLABELLED, MapConfig
from somcore.device import asking_is_free, writes_of
from somcore.expected import expect, expect_map, expect_saved, expect_tile, warn_of_fall
from somcore.initial import initial_state
from somcore.loss_config import LossConfig, check_decisions
from somcore.losses import Views
from somcore.matching import class_probabilities, predict_classes
from somcore.measure import LayerOutput, measure
from somcore.parameters import check, plain
from somcore.refresh import with_plain_relevances
from somcore.state import SCALARS, TENSORS, MapState
from somcore.threshold import DEFAULT_THRESHOLD, calibrated, pair_histogram
from somcore.update import round_scale

_PERIOD_ROUNDS = 20  # without a number of samples an "epoch" is taken to be so many rounds
_SCALARS = {name: kind for name, kind in SCALARS.items() if name != "num_classes"}  # the layer's own


class SOMLayer(nn.Module):
    """A self-organizing map behind an encoder: the network learns by gradient, the map by its own rule.

    `forward` never changes the map: it gives losses whose gradient reaches the features only, and the
    statistics from which `advance` makes the next map. All map values are buffers, so `state_dict`, `to(device)`,
    `copy.deepcopy` and torch's `AveragedModel` treat the layer as any other; its numbers stay float64 under `half()`.

    Args:
        config: hyper-parameters of the map. `activation_threshold="auto"` counts as 0.95 until `calibrate`, which a
            training calls in every round.
        dim: D, features of the encoder.
        num_classes: C, 0 without labels.
        losses: weights of the terms; None = semi-supervised with classes, unsupervised without.
        num_samples: training rows N; None (not for lattices): the map grows for ever and prunes as if 20 rounds were
            an epoch.
        bound: largest |z| that the encoder can give; 1 after a sigmoid.
        state: the map to begin with; needed for lattices, growing maps start empty.

    Raises:
        ValueError: a threshold-free variant without temperature and margin, missing="mask", an algorithm other than
            superstep, dim, num_classes, num_samples or bound out of range, no num_samples for a lattice, or a state
            that `install` refuses.

    Source: this project, docs/deep.md.

    Example:
        >>> layer = SOMLayer(MapConfig(activation_threshold=0.9), dim=2, num_classes=2)
        >>> out = layer(torch.tensor([[0.1, 0.1], [0.9, 0.9]]), torch.tensor([0, 1]))
        >>> from somcore import advance
        >>> layer.install(advance(layer.state, out.statistics, layer.config))
        >>> layer.state.num_nodes
        2
    """

    def __init__(
        self,
        config: MapConfig,
        dim: int,
        num_classes: int = 0,
        losses: LossConfig | None = None,
        *,
        num_samples: int | None = None,
        bound: float = 1.0,
        state: MapState | None = None,
    ) -> None:
        super().__init__()
        dim, num_classes, num_samples, bound = map(plain, (dim, num_classes, num_samples, bound))
        check("dim", dim, ">= 1", whole=True)
        check("num_classes", num_classes, ">= 0", whole=True)
        check("num_samples", 1 if num_samples is None else num_samples, ">= 1", whole=True)
        check("bound", bound, "> 0", whole=False)
        if config.missing != "error":
            raise ValueError("missing must be 'error' in a SOMLayer. Got 'mask'; fill gaps before the encoder.")
        if config.algorithm not in (None, "superstep"):
            raise ValueError(
                "algorithm must be superstep in a SOMLayer, whose rounds are of batch_size samples. "
                f"Got '{config.algorithm}'; give algorithm='superstep', and batch_size, before the config is resolved."
            )
        if num_samples is None and not config.is_growing:
            raise ValueError(f"num_samples must be given for {config.variant}, whose radius they shrink. Got None.")
        rows = _PERIOD_ROUNDS * config.batch_size if num_samples is None else num_samples
        self.config = deep_config(config).resolve(num_samples=rows, num_features=dim, num_classes=num_classes)
        if num_samples is None:
            self.config = dataclasses.replace(self.config, num_rounds=None)
        losses = losses or (LossConfig.semi_supervised() if num_classes else LossConfig.unsupervised())
        self.losses = losses.resolve(self.config.rounds_per_epoch(rows))
        self.bound = bound
        self.num_classes = num_classes if self.config.variant in LABEL_AWARE else 0
        check_decisions(self.config, self.losses)
        if state is None and not self.config.is_growing:
            raise ValueError(f"state must be given for {config.variant}: a lattice begins from features. Got None.")
        state = state or initial_state(self.config, dim, self.num_classes)
        self._extent = (state.capacity, dim)
        for name in TENSORS:
            self.register_buffer(name, getattr(state, name))
        self.register_buffer("_scalar_buffer", torch.zeros(0), persistent=False)
        self.install(state)

    @property
    def state(self) -> MapState:
        """The map: a value of its own, which nothing that happens to the layer changes."""
        return self._map.copy()

    @property
    def _map(self) -> MapState:
        """The map, in the buffers themselves; not for others, as who copies into buffers would change it."""
        self._read_scalars()
        return MapState(**{n: getattr(self, n) for n in TENSORS}, **self._scalars, num_classes=self.num_classes)

    @property
    def error_threshold(self) -> float:
        """ρ_t, the error at which a node still accepts a sample."""
        self._read_scalars()
        return (1 - self._threshold) / self._threshold

    @property
    def _threshold(self) -> float:
        threshold = self.config.activation_threshold
        return DEFAULT_THRESHOLD if isinstance(threshold, str) else threshold  # "auto" where none is used

    def install(self, state: MapState) -> None:
        """Replace the map, by one of the same shape and kind; during relevance warm-up its relevances become 1.

        Warns (UserWarning) where a map of several nodes falls to one.

        Raises:
            ValueError: its shape or classes are others, or it is a lattice where the layer's map grows, or the reverse.
        """
        expect_map(state, self._extent, self.config, self.num_classes)
        warn_of_fall(self.get_buffer("alive"), state, self.config.has_threshold)
        warm = with_plain_relevances(state, self.losses.relevance_warmup_rounds or 0).copy()
        for name in TENSORS:
            setattr(self, name, getattr(warm, name).to(self.get_buffer(name).device))
        self._scalars: dict[str, Any] = {name: getattr(state, name) for name in _SCALARS}
        self._write_scalars()

    @torch.no_grad()
    def calibrate(self, features: Tensor) -> float:
        """Set the activation threshold from pairs of features, without labels; returns it.

        Args:
            features: (n, D), n at least 2, all finite. The threshold is a low quantile (`threshold_quantile`) of the
                errors between these rows, and the losses' temperature follows it: a round has enough of them, a few
                rows do not. Where all rows are alike it becomes 0.95.

        Raises:
            ValueError: features of another shape or kind, not finite or of fewer than 2 rows; the nodes of this variant
                share no threshold.
        """
        if not self.config.has_threshold:
            raise ValueError(f"variant must have a threshold to calibrate. Got '{self.config.variant}'.")
        expect("features", features.cpu(), self._shape(features))
        if len(features) < 2:
            raise ValueError(
                f"features must have at least 2 rows, for a pair. Got {len(features)}; "
                "leave out a last batch that is so short (drop_last=True of a DataLoader)."
            )
        auto = dataclasses.replace(self.config, activation_threshold="auto")
        self.config = calibrated(auto, pair_histogram(features))
        self._write_scalars()
        return float(self.config.activation_threshold)

    def forward(
        self,
        features: Tensor,
        labels: Tensor | None = None,
        *,
        views: Views | None = None,
        positions: Tensor | None = None,
        exact: bool = True,
    ) -> LayerOutput:
        """Losses and statistics of one tile on the frozen map; does not wait for the device.

        Args:
            features: (n, D) of the weak view, with or without a gradient.
            labels: (n,) int64, UNLABELLED where unknown; None = all unknown.
            views: strong view, reconstruction and a classifier's scores, for the terms that need them.
            positions: (n,) int64, place of each sample in the round, unique within it; default 0 … n − 1.
            exact: statistics in fixed point, the same to the bit in any order; else plain float64 sums.

        Raises:
            ValueError: features, labels, positions or views of another shape or kind; on a CPU, features and views
                that are not finite and labels that are neither a class nor UNLABELLED (without `num_classes` none is);
                with exact sums, a bound or prototypes that are too large for them.
        """
        if labels is None:
            labels = torch.full(features.shape[:1], UNLABELLED, dtype=torch.int64, device=features.device)
        state = self._map  # which takes over what was copied into the buffers, and with it the scale
        expect_tile(features, labels, views, positions, self._shape(features), self.num_classes)
        return measure(
            state,
            features,
            labels,
            self.config,
            self.losses,
            error_threshold=self.error_threshold,
            views=views,
            positions=positions,
            scale=(self._scale or round_scale(state, self.bound, self.config.batch_size)) if exact else None,
        )

    @torch.no_grad()
    def predict(self, features: Tensor) -> Tensor:
        """(n,) int64 class of each sample, UNLABELLED where none can be said."""
        expect("features", features, self._shape(features))
        return predict_classes(self._map, features, self.config)

    @torch.no_grad()
    def predict_proba(self, features: Tensor) -> Tensor:
        """(n, C) float64 probability of each class: softmax of −min ρ / ϑ, with the ϑ that the losses train with."""
        expect("features", features, self._shape(features))
        temperature, _ = self.losses.decisions(self.error_threshold)
        return class_probabilities(self._map, features, self.config, temperature)

    def _shape(self, features: Tensor) -> tuple[int, ...]:
        return (*features.shape[:1], self.get_buffer("prototypes").shape[1])

    @property
    def _all_scalars(self) -> list[float]:
        return [*map(float, self._scalars.values()), self._threshold]

    def _write_scalars(self) -> None:
        """What is no tensor of the map, put in a buffer: where only tensors are copied, `_read_scalars` finds it."""
        self._written, device = self._all_scalars, self.get_buffer("prototypes").device
        self._scalar_buffer = torch.tensor(self._written, dtype=torch.float64, device=device)
        self._writes_read = writes_of(self._scalar_buffer)
        self._scale = 40 if device.type == "meta" else 0
        with contextlib.suppress(ValueError):  # no exact sums of such numbers: said where they are asked for
            self._scale = self._scale or round_scale(self._map, self.bound, self.config.batch_size)

    def _read_scalars(self) -> None:
        """Takes over scalars and threshold copied into the buffer; an accelerator is asked once after each copy."""
        buffer = self._scalar_buffer
        if torch.compiler.is_compiling() or buffer.device.type == "meta":
            return
        if asking_is_free(buffer) or writes_of(buffer) != self._writes_read:
            self._writes_read = writes_of(buffer)
            if buffer.tolist() != self._written:
                self.set_extra_state(buffer)

    def get_extra_state(self) -> Tensor:
        """Scalars of the map, its threshold, C and the letters of its variant, beside the buffers in `state_dict`."""
        self._read_scalars()
        kind = (self.num_classes, *self.config.variant.encode())
        return torch.tensor([*self._all_scalars, *kind], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """The inverse of `get_extra_state`."""
        *scalars, threshold = state.tolist()[: len(_SCALARS) + 1]
        self._scalars = {name: kind(value) for (name, kind), value in zip(_SCALARS.items(), scalars, strict=True)}
        if self.config.has_threshold:
            self.config = dataclasses.replace(self.config, activation_threshold=threshold)
        self._write_scalars()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Refuses a map of another kind or shape before anything of the layer is replaced; those given away stay."""
        own = {name: self.get_buffer(name) for name in TENSORS}
        saved = {name: state_dict[prefix + name] for name in own if prefix + name in state_dict}
        kind = state_dict.get(f"{prefix}_extra_state", torch.zeros(0)).tolist()[len(_SCALARS) + 1 :]
        expect_saved(saved, own, kind, self.config.variant, self.num_classes)
        for name, tensor in own.items():  # torch writes into them, and a state_dict that was given away shares them
            setattr(self, name, tensor.clone())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _apply(self, fn: Any, recurse: bool = True) -> SOMLayer:
        """As of any module, but the map's float64 numbers are not rounded by `half()` or `float()`."""
        self._read_scalars()
        own = {name: self.get_buffer(name) for name in (*TENSORS, "_scalar_buffer")}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in own.items():
            if (moved := self.get_buffer(name)).dtype != tensor.dtype:
                setattr(self, name, tensor.to(moved.device))
        return self


def deep_config(config: MapConfig) -> MapConfig:
    """The map's configuration with the defaults of a deep map: relevances never below 0.1, a number for "auto".

    A lattice learns by the superstep: batch maps have rounds of all samples, whatever batch_size is.
    """
    changes: dict[str, Any] = {}
    if config.is_growing and config.relevance_floor is None:
        changes["relevance_floor"] = DEEP_RELEVANCE_FLOOR
    if not config.is_growing and config.algorithm is None:
        changes["algorithm"] = "superstep"
    if config.activation_threshold == "auto" and config.has_threshold:
        changes["activation_threshold"] = DEFAULT_THRESHOLD
    return dataclasses.replace(config, **changes)
