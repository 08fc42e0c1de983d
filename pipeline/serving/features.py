"""Transfer: a frozen extractor's features of a data set, written as a prepared data set that every model trains on.

n samples of a batch, P values of a sample, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.deep.model import DeepModel
from pipeline.deep.pretrained import file_of, frozen_features
from pipeline.errors import UserError, must
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared.manifest import MANIFEST, Manifest
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.sources.base import Batch, SourceOptions, SourceSpec
from pipeline.tracking.results import run_directory
from pipeline.training.rundir import RunDirectory

_TILE_ROWS = 1024
Encode = Callable[[Tensor], Tensor]


class Encoded:
    """A source: the features that an extractor gives to the samples of a prepared data set.

    Args:
        dataset: with the samples.
        encode: (n, P) scaled samples to (n, D) features.
        files: what the extractor was read from.
        extractor: what it is, in words.
    """

    name = "features"

    def __init__(self, dataset: Dataset, encode: Encode, files: tuple[Path, ...], extractor: str) -> None:
        self.options = SourceOptions()
        self._dataset, self._encode = dataset, encode
        split = dataset.splits[0]
        local = dataset.place.local
        dim = encode(dataset.read(split, slice(0, 1))[0]).shape[1]
        self.spec = SourceSpec(
            kind="table",
            shape=(dim,),
            dtype="float32",
            class_names=dataset.class_names,
            feature_names=tuple(f"z{place}" for place in range(dim)),
            files=files if local is None else (*files, local / MANIFEST),
            details={"extractor": extractor, "of": dataset.manifest_hash},
        )

    def batches(self) -> Iterator[Batch]:
        """All samples, split by split, in the order of the data set."""
        for split in self._dataset.splits:
            for start in range(0, self._dataset.num_samples(split), _TILE_ROWS):
                samples, labels = self._dataset.read(split, slice(start, start + _TILE_ROWS))
                rows = np.arange(start, start + len(labels), dtype=np.int64)
                features = self._encode(samples).to(torch.float32).numpy()
                yield Batch(
                    features=features, labels=labels.numpy(), keys=rows, rows=rows, split=split,
                    place=str(self._dataset.place),
                )  # fmt: skip


def write_features(
    data: str | Path,
    out: Path,
    *,
    run: str | Path | None = None,
    weights: str | None = None,
    overwrite: bool = False,
    uri: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Encode a data set with a frozen extractor.

    Args:
        data: directory or URI of a prepared data set.
        out: directory of the new one: a table with D columns, the same splits, labels and rows.
        run: directory or id of a run whose encoder is taken.
        weights: in its place a torchvision model: `resnet18` (from torchvision's cache) or `resnet18:FILE`.
        overwrite: replace another data set at `out`.
        uri: MLflow store of an id.
        progress: told the rows that are done.

    Raises:
        UserError: not one extractor, or one for other samples.
    """
    if (run is None) == (weights is None):
        raise must("--run", "given, or --weights, one of both", "both" if run else "none")
    dataset = Dataset.open(data)
    encoded = _of_run(str(run), dataset, uri) if run else _of_weights(weights, dataset)
    return prepare(encoded, out, PrepareOptions(overwrite=overwrite), progress)


def _of_run(run: str, dataset: Dataset, uri: str | None) -> Encoded:
    directory = RunDirectory(run_directory(run, uri))
    _, _, about = directory.load_map()
    model = DeepModel.load(directory.path)
    if about.get("model") == "kmeans":
        raise must("--run", "a run that has learned an encoder", "kmeans")
    seen = InputSpec.from_dict(about["input"]).seen_by_model(dataset)
    extractor = f"{about['model']} {about['manifest_hash'][:12]}"
    return Encoded(seen, model.represent, (directory.map_path,), extractor)


def _of_weights(weights: str | None, dataset: Dataset) -> Encoded:
    manifest = dataset.manifest
    if manifest.kind != "image" or len(manifest.shape) != 3:
        raise must("--data", "images, for a torchvision model", manifest.kind)
    shape = (manifest.shape[0], manifest.shape[1], manifest.shape[2])
    try:
        features, _ = frozen_features(weights, shape)
        name, path = file_of(weights)
    except UserError as error:
        raise UserError(str(error).replace("encoder.weights", "--weights")) from None
    return Encoded(dataset, features, (path,), f"torchvision {name}")
