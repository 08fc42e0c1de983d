"""What a deep run adds to a plan, and which samples each of its rounds takes.

A round takes a slice of the epoch's order, as in every other training, and behind it `extra` labelled samples from
an endless order of the labelled rows, where labels are rare. N training rows, M labelled ones, T rows per tile.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.deep.augment import View, views_of
from pipeline.deep.config import DeepConfig, EncoderConfig
from pipeline.deep.encoders import LinearClassifier, initialise, make_decoder, make_encoder, spread_features
from pipeline.deep.network import Network, NetworkState, StepSize, flat_parameters, load_flat, single_precision
from pipeline.deep.pretrained import check_weights, weights_digest
from pipeline.deep.sample_shape import SampleShape
from pipeline.errors import must
from pipeline.rivals.config import RivalPlan
from pipeline.training.reduction import dealt
from somcore.config import UNLABELLED, MapConfig
from somcore.loss_config import LossConfig, check_decisions
from somcore.losses import learns
from somcore.sampling import sample_indices

_REFRESH_ROUNDS = 40
_RIVAL_THRESHOLD = 0.5  # until the end, when the errors of the training rows are known
_LABELLED_SHARE = 0.25  # of a round, where labels are rarer than this
_AUGMENT = {"audio": "audio", "table": "table", "image": "characters"}  # what no class is changed by
_VIEWS = {
    "image": ("auto", "none", "table", "digits", "clothes", "objects", "characters"),
    "audio": ("auto", "none", "table", "audio"),
    "table": ("auto", "none", "table"),
}
_OF_SOURCE = {"mnist": "digits", "digits": "digits", "svhn": "digits", "fashion-mnist": "clothes", "cifar10": "objects"}


@dataclass(frozen=True)
class DeepPlan:
    """The deep part of a training plan, resolved.

    Attributes:
        encoder: from samples to features; name and augmentation resolved.
        settings: how it is trained; rounds resolved.
        losses: weights of the terms, resolved.
        sample: what the encoder sees.
        rounds: of the whole training.
        extra: labelled samples per round beside those of the epoch's order.
        num_labelled: M.
        num_classes: C that the map reads, 0 without labels.
        rival: who is trained instead of a map, if not one.
        weights: sha256 of the file of a pretrained encoder.
    """

    encoder: EncoderConfig
    settings: DeepConfig
    losses: LossConfig
    sample: SampleShape
    rounds: int
    extra: int
    num_labelled: int
    num_classes: int
    rival: RivalPlan | None = None
    weights: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All that a result depends on, as plain values."""
        sections: dict[str, Any] = {"encoder": self.encoder.model_dump(), "deep": self.settings.model_dump()}
        sections |= {"loss": self.losses.to_dict(), "extra": self.extra, "rounds": self.rounds}
        if self.weights is not None:
            sections["weights"] = self.weights
        return sections if self.rival is None else sections | {"rival": self.rival.to_dict()}

    def flat(self) -> dict[str, Any]:
        """The same with dotted keys, for tracking."""
        nested = self.to_dict()
        names = ("encoder", "deep", "loss") if self.rival is None else ("encoder", "deep", "rival")
        parts = ((name, nested[name]) for name in names)
        return {f"{name}.{key}": value for name, part in parts for key, value in part.items() if value is not None}

    @property
    def step_size(self) -> StepSize:
        """The learning rate over the rounds."""
        settings = self.settings
        return StepSize(settings.learning_rate, settings.final_rate, settings.rate_warmup_rounds, self.rounds)

    def views(self) -> tuple[View, View]:
        """Weak and strong view."""
        return views_of(self.encoder.augment, self.sample.shape)

    def trained_rows(self, labels: Tensor, withheld: Tensor) -> Tensor:
        """(N,) rows that are trained on: all but those withheld for validation, or the labelled ones alone."""
        taken = torch.ones(len(labels), dtype=torch.bool)
        taken[withheld] = False
        if self.settings.labelled_only:
            taken &= labels != UNLABELLED
        return taken.nonzero().squeeze(1)

    def network(self, seed: int = 0) -> Network:
        """The modules; what is not trained in them is the same in every process."""
        with torch.random.fork_rng(devices=[]), single_precision():
            torch.manual_seed(seed)
            return self._modules()

    def loaded(self, values: Tensor) -> Network:
        """The modules with trained values, (P,)."""
        network = self.network()
        load_flat(network, values)
        return network

    def drawn_network(self, seed: int) -> Network:
        """The modules with trained values of layers that `initialise` does not know drawn from the seed."""
        return self.loaded(flat_parameters(self.network(seed)))

    def _modules(self) -> Network:
        if self.rival is not None:
            from pipeline.rivals import rival_class

            return rival_class(self.rival.name).build(self)
        encoder = self.encoder
        if self.weights is not None:
            check_weights(encoder.weights, self.weights)
        made = make_encoder(encoder.name, self.sample, encoder.dim, encoder.width, encoder.weights)
        decode = self.losses.reconstruction_weight > 0
        classify = self.losses.classifier_weight > 0 and self.num_classes > 0
        return Network(
            made,
            make_decoder(self.sample, encoder.dim, encoder.width) if decode else None,
            LinearClassifier(encoder.dim, self.num_classes) if classify else None,
        )

    def first_network(self, seed: int, samples: Tensor) -> NetworkState:
        """The parameters before the first round: drawn from the seed, features spread over the samples (n, P)."""
        network = self.drawn_network(seed)
        initialise(network, seed)
        if self.rival is not None:
            return dataclasses.replace(NetworkState.of(network), threshold=_RIVAL_THRESHOLD)
        spread_features(network.encoder, samples)
        return NetworkState.of(network)


def resolve_deep(
    encoder: EncoderConfig,
    deep: DeepConfig,
    losses: LossConfig,
    config: MapConfig,
    sample: SampleShape,
    *,
    num_samples: int,
    num_labelled: int,
    num_classes: int,
    source: str = "",
    rival: RivalPlan | None = None,
) -> DeepPlan:
    """Fills what is automatic; the augmentation by the name of the data's source, else by their kind.

    Raises:
        UserError: views that these data cannot have, or crossings of views where there are none.
        ValueError: a map without a threshold is not told temperature or margin.
    """
    per_epoch = config.rounds_per_epoch(num_samples)
    assert config.num_rounds is not None
    extra = deep.labelled_per_round
    if extra is None:
        rare = 0 < num_labelled < _LABELLED_SHARE * num_samples
        extra = round(_LABELLED_SHARE * config.batch_size) if rare else 0
    if num_labelled == 0 or num_classes == 0:
        extra = 0
    automatic = _OF_SOURCE.get(source, _AUGMENT[sample.kind])
    augment = automatic if encoder.augment == "auto" else encoder.augment
    fitting = _VIEWS[sample.kind]
    if augment not in fitting:
        raise must("encoder.augment", f"{', '.join(fitting[:-1])} or {fitting[-1]} for {sample.kind} data", augment)
    if deep.crossings and augment == "none" and rival is None:
        raise must("deep.crossings", "false where encoder.augment is none: every view is the sample itself", True)
    if rival is None:
        check_decisions(config, losses, "loss.")
        if not learns(losses, num_labelled > 0 and num_classes > 0):
            raise must("loss.*", "weights above 0 of a term for these labels, or nothing is learned", "none")
        if config.missing != "error":
            raise must("map.missing", "error for a deep map, whose encoder needs every value", config.missing)
    names = {"image": "cnn", "audio": "audio", "table": "mlp"}
    return DeepPlan(
        encoder=encoder.model_copy(
            update={
                "name": names[sample.kind] if encoder.name == "auto" else encoder.name,
                "augment": augment,
            }
        ),
        settings=deep.model_copy(
            update={"refresh_rounds": _REFRESH_ROUNDS if deep.refresh_rounds is None else deep.refresh_rounds}
        ),
        losses=losses.resolve(per_epoch),
        sample=sample,
        rounds=config.num_rounds,
        extra=extra,
        num_labelled=num_labelled,
        num_classes=num_classes,
        rival=rival,
        weights=weights_digest(encoder.weights) if encoder.name == "pretrained" else None,
    )


@dataclass(frozen=True)
class DeepRound:
    """The samples of one deep round.

    Attributes:
        epoch: number of the pass.
        rows: (n,) row numbers of the training split.
        labels: (n,) what the map may read of their labels.
        positions: (n,) int64 that tell the samples of an epoch apart, for augmentation.
        tile_size: T.
    """

    epoch: int
    rows: Tensor
    labels: Tensor
    positions: Tensor
    tile_size: int

    @classmethod
    def of(cls, round_index: int, config: MapConfig, labels: Tensor, rows: Tensor, extra: int) -> DeepRound:
        """The samples of a round, from its number alone.

        Args:
            round_index: number of the round.
            config: resolved hyper-parameters.
            labels: (all rows,) what the map may read.
            rows: (N,) rows that are trained on.
            extra: labelled samples behind the slice of the epoch.
        """
        count, per_epoch = len(rows), config.rounds_per_epoch(len(rows))
        epoch, place = divmod(round_index, per_epoch)
        start = place * config.batch_size
        positions = torch.arange(start, min(start + config.batch_size, count))
        taken = rows[sample_indices(config.seed, epoch, positions, count, config.sampling)]
        if extra:
            marked = (labels != UNLABELLED).nonzero().squeeze(1)
            places = torch.arange(round_index * extra, (round_index + 1) * extra)
            taken = torch.cat([taken, marked[_endless(config.seed, places, len(marked))]])
            positions = torch.cat([positions, count + places - round_index // per_epoch * per_epoch * extra])
        return cls(epoch, taken, labels[taken], positions, config.tile_size)

    @property
    def num_samples(self) -> int:
        """Samples of the round."""
        return len(self.rows)

    @property
    def num_tiles(self) -> int:
        """Tiles of the round."""
        return -(-self.num_samples // self.tile_size)

    def tiles(self, rank: int, world_size: int) -> Iterator[slice]:
        """Places of each tile dealt to a worker."""
        for tile in range(self.num_tiles)[dealt(self.num_tiles, rank, world_size)]:
            yield slice(tile * self.tile_size, min((tile + 1) * self.tile_size, self.num_samples))


def _endless(seed: int, places: Tensor, count: int) -> Tensor:
    """Indices in [0, count) at places of an endless order: one permutation after the other."""
    drawn = torch.empty_like(places)
    for epoch in torch.unique(places // count).tolist():
        here = places // count == epoch
        drawn[here] = sample_indices(seed, -100 - epoch, places[here] % count, count)
    return drawn


@torch.no_grad()
def encode(network: torch.nn.Module, samples: Tensor) -> Tensor:
    """Features of clean samples: (n, D) float32."""
    features: Tensor = network(samples)
    return features.to(torch.float32)


def deep_map_config(config: MapConfig, threshold: float) -> MapConfig:
    """The map's configuration in a round: the threshold calibrated last, and no end of its own."""
    if not config.is_growing:
        return config  # a lattice has a schedule and no threshold
    values: dict[str, Any] = {"num_rounds": None}
    if config.has_threshold and config.activation_threshold == "auto" and threshold > 0:
        values["activation_threshold"] = threshold
    return dataclasses.replace(config, **values)


def error_threshold(config: MapConfig) -> float:
    """ρ_t of a map in a round; 0 where its nodes share none, since temperature and margin are given there."""
    return 0.0 if isinstance(config.activation_threshold, str) else config.error_threshold
