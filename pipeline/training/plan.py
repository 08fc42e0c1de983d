"""What every worker must know before the first round: the resolved map, the size of the data, the labels kept.

A plan is a plain value, made once by the driver from configuration and data set, and sent to all workers. What
is random in it is keyed by (seed, purpose, row), so every worker derives the same labels from it.
N training rows, D features, C classes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config import RunConfig
from pipeline.deep.plan import DeepPlan, resolve_deep
from pipeline.deep.sample_shape import SampleShape
from pipeline.errors import DataError, ManifestError
from pipeline.places import absolute
from pipeline.prepared.labels import kept_labels
from pipeline.prepared.shards import Dataset
from pipeline.rivals import rival_class
from pipeline.rivals.config import CLASSIFIERS, RIVALS, RivalPlan, resolve_rival
from somcore.config import LABEL_AWARE, UNLABELLED, MapConfig
from somcore.threshold import calibrate

_ROUNDS_PER_EPOCH = 32
_MOST_TILES = 64


@dataclass(frozen=True)
class TrainingPlan:
    """One training, resolved.

    Attributes:
        data_path: the prepared data set.
        manifest_hash: of its manifest.
        config: hyper-parameters of the map, every None filled.
        num_samples: N.
        num_features: D.
        num_classes: C of the map, 0 for maps that do not read labels.
        reduction: exact or fast.
        labelled_fraction: share of the labels that the map may read.
        validation_fraction: share of those that are withheld again, to score with.
        device: where workers compute.
        threads: of each worker.
        deep: encoder, losses and their training, of deep runs.
    """

    data_path: str
    manifest_hash: str
    config: MapConfig
    num_samples: int
    num_features: int
    num_classes: int
    reduction: str
    labelled_fraction: float
    validation_fraction: float
    device: str
    threads: int = 1
    deep: DeepPlan | None = None

    @property
    def config_hash(self) -> str:
        """Hash of all that a result depends on besides the data; not of workers or places.

        Of threads and device only for networks: their convolutions are rounded otherwise.
        """
        content = {
            "map": self.config.to_dict(),
            "reduction": self.reduction,
            "labelled_fraction": self.labelled_fraction,
            "validation_fraction": self.validation_fraction,
        }
        if self.deep is not None:
            content["deep"] = self.deep.to_dict()
            if (self.threads, self.device) != (1, "cpu"):
                content |= {"threads": self.threads, "device": self.device}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree with."""
        return {"manifest_hash": self.manifest_hash, "config_hash": self.config_hash}

    @property
    def rounds_per_epoch(self) -> int:
        """Rounds of one pass over the data."""
        return self.config.rounds_per_epoch(self.num_samples)

    @property
    def expected_epochs(self) -> int:
        """Passes until the map is finished, the convergence phase included."""
        config = self.config
        assert config.num_rounds is not None
        if self.deep is not None or not config.is_growing or config.pruning_period is None:
            return -(-config.num_rounds // self.rounds_per_epoch)
        organised = -(-config.num_rounds // self.rounds_per_epoch) * self.num_samples
        periods = -(-organised // config.pruning_period) + 1
        return -(-periods * config.pruning_period // self.num_samples)


def make_plan(run: RunConfig, dataset: Dataset) -> TrainingPlan:
    """Resolves a run against its data set; what is automatic becomes a number here, once, for all workers."""
    num_samples, num_features = dataset.num_samples("train"), dataset.num_features
    if num_samples == 0:
        raise DataError(f"The training split of '{run.data.path}' must have at least 1 row. Got 0.")
    if run.train.model == "deep" or run.train.model in RIVALS:
        return _make_deep_plan(run, dataset)
    num_classes = dataset.num_classes if run.train.model in LABEL_AWARE else 0
    config = _map_config(run, dataset).resolve(
        num_samples=num_samples, num_features=num_features, num_classes=num_classes
    )
    config = calibrate(config, num_samples, lambda rows: dataset.read("train", rows)[0])
    return _plan_of(run, dataset, config, num_samples, num_features, num_classes)


def _plan_of(
    run: RunConfig,
    dataset: Dataset,
    config: MapConfig,
    num_samples: int,
    num_features: int,
    num_classes: int,
    deep: DeepPlan | None = None,
) -> TrainingPlan:
    """The map and its sizes N, D and C, and beside them what the settings say."""
    return TrainingPlan(
        data_path=absolute(run.data.path),
        manifest_hash=dataset.manifest_hash,
        config=config,
        num_samples=num_samples,
        num_features=num_features,
        num_classes=num_classes,
        reduction=run.train.reduction,
        labelled_fraction=run.train.labelled_fraction,
        validation_fraction=run.train.validation_fraction,
        device=run.cluster.device,
        threads=run.cluster.threads,
        deep=deep,
    )


def _map_config(run: RunConfig, dataset: Dataset) -> MapConfig:
    """As configured; missing values follow the prepared data, rounds grow with them, where nothing else is said."""
    config = run.map_config()
    if dataset.manifest.missing == "mask" and "missing" not in run.map:
        config = replace(config, missing="mask")
    if "batch_size" not in run.map:
        config = replace(config, batch_size=round_samples(dataset.num_samples("train"), config))
    return config


def round_samples(num_samples: int, config: MapConfig) -> int:
    """Samples per round where the user names none: 32 rounds an epoch for large data, in whole default tiles.

    Rounds of one tile (small data) keep one worker busy; larger ones can be shared, and need fewer all-reduces.
    """
    tiles = round(num_samples / (_ROUNDS_PER_EPOCH * config.batch_size))
    return config.batch_size * min(max(tiles, 1), _MOST_TILES)


def _make_deep_plan(run: RunConfig, dataset: Dataset) -> TrainingPlan:
    """The plan of a deep run: the map lives on latent features, and its threshold is calibrated on them later."""
    if dataset.manifest.missing == "mask":
        model = run.train.model
        raise DataError(f"The data of model {model} must have every value. Got a set prepared with --missing mask.")
    labels = dataset.labels("train").numpy()
    kept, withheld = kept_labels(labels, run.train.labelled_fraction, run.train.validation_fraction, run.train.seed)
    num_labelled = int((kept != UNLABELLED).sum())
    num_samples = num_labelled if run.deep.labelled_only else len(kept) - len(withheld)
    if num_samples == 0:
        raise DataError("A deep run on labelled rows only must have some. Got none; raise train.labelled_fraction.")
    rival = _rival_plan(run, dataset, num_samples, num_labelled)
    reads_labels = run.deep.variant in LABEL_AWARE if rival is None else num_labelled > 0
    num_classes = dataset.num_classes if reads_labels else 0
    num_features, deep, given = run.encoder.dim, run.deep, run.map_config()
    if rival is not None:
        num_features = rival_class(rival.name).num_features(rival, run.encoder.dim, dataset.num_features)
        deep = deep if rival.name in CLASSIFIERS else deep.model_copy(update={"labelled_per_round": 0})
        num_rounds = 1 if rival.name == "kmeans" else given.num_rounds
        given = replace(given, capacity=rival.num_clusters, num_rounds=num_rounds)
    config = given.resolve(num_samples=num_samples, num_features=num_features, num_classes=num_classes)
    sample = SampleShape.of(dataset.manifest)
    losses = run.loss_config(num_labelled > 0 and reads_labels)
    resolved = resolve_deep(
        run.encoder,
        deep,
        losses,
        config,
        sample,
        num_samples=num_samples,
        num_labelled=num_labelled,
        num_classes=num_classes,
        source=str(dataset.manifest.source.get("name", "")),
        rival=rival,
    )
    return _plan_of(run, dataset, config, num_samples, num_features, num_classes, deep=resolved)


def _rival_plan(run: RunConfig, dataset: Dataset, num_samples: int, num_labelled: int) -> RivalPlan | None:
    """Who is trained instead of a map, if not one."""
    if run.train.model not in RIVALS:
        return None
    if run.train.model in CLASSIFIERS and num_labelled == 0:
        raise DataError(
            f"The model {run.train.model} must have labelled rows. Got none; raise train.labelled_fraction."
        )
    return resolve_rival(run.train.model, run.rival, dataset.num_classes, num_samples)


def training_labels(plan: TrainingPlan, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The labels that the map may read (N,), -1 elsewhere, and the rows that are withheld for validation."""
    if plan.labelled_fraction == 1 and plan.validation_fraction == 0:
        return labels, torch.empty(0, dtype=torch.int64)  # all of them: nothing to draw, nothing to copy
    kept, withheld = kept_labels(labels.numpy(), plan.labelled_fraction, plan.validation_fraction, plan.config.seed)
    return torch.from_numpy(kept), torch.from_numpy(withheld)


def open_data(place: str | Path, run: str | None) -> Dataset:
    """A prepared data set.

    Args:
        place: its directory or URI.
        run: whose record names that place; None = the user does.

    Raises:
        ManifestError: there is none; where the record named it, another is asked for.
    """
    try:
        return Dataset.open(place)
    except ManifestError as error:
        raise error if run is None else ManifestError(f"{error} '{run}' was trained on it; give --data.") from None


def planned_dataset(plan: TrainingPlan) -> Dataset:
    """The data set of a plan, as a worker opens it.

    Raises:
        DataError: another one lies there: this machine has an older copy, or it was prepared anew.
    """
    dataset = Dataset.open(plan.data_path)
    if dataset.manifest_hash != plan.manifest_hash:
        raise DataError(
            f"The data set '{plan.data_path}' must be the same for all workers. "
            f"Got manifest {dataset.manifest_hash[:12]} instead of {plan.manifest_hash[:12]}."
        )
    return dataset
