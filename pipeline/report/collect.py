"""Reads a run, and lets its map look at its data.

Axes: N rows looked at, m rows embedded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from pipeline.report.data import MapData, Rows
from pipeline.training.history import HISTORY, History
from pipeline.training.rundir import RunDirectory
from somcore.config import LABEL_AWARE
from somcore.matching import predict_classes, predict_nodes
from somcore.sampling import sample_indices

_TILE_ROWS = 2048
_DRAW = -4  # a draw of its own, apart from the epochs of training
ROWS, EMBEDDED = 60_000, 1500


def collect(directory: Path, rows: int = ROWS, embedded: int = EMBEDDED, data: str | None = None) -> MapData:
    """Reads a run and lets its map look at its data.

    Args:
        directory: of the run.
        rows: at most so many rows of each split, drawn the same way every time; 0 = all.
        embedded: of those at most so many for the embedding.
        data: the prepared data set, where it is not any more where the run found it.

    Raises:
        UserError: there is no map, or it has no node.
    """
    predictor, run = Predictor.load(directory), RunDirectory(directory)
    state = predictor.state
    if state.num_nodes == 0:
        raise UserError(f"The map in '{directory}' must have at least one node to be looked at. It has none.")
    nodes = state.alive.nonzero().squeeze(1)
    place = torch.full((state.capacity,), -1)
    place[nodes] = torch.arange(len(nodes))
    dataset = _dataset(predictor, data, run.record.get("settings", {}).get("data.path"))
    train, scored, sample, features = None, None, np.zeros(0, dtype=np.int64), np.zeros((0, state.num_features))
    if dataset is not None:
        look = _looker(predictor, dataset, place, rows)
        train = look("train")
        scored = look("test") if dataset.num_samples("test") else train
        chosen = _drawn(len(train.rows), embedded)
        sample, features = chosen, np.nan_to_num(_encoded(predictor, dataset, "train", train.rows[chosen]))
    return MapData(
        directory=directory,
        record=run.record,
        about=predictor.about,
        predictor=predictor,
        dataset=dataset,
        nodes=nodes.numpy(),
        prototypes=state.prototypes[nodes].numpy(),
        relevances=state.relevances[nodes].numpy(),
        classes=state.classes[nodes].numpy(),
        edges=state.neighbours[nodes][:, nodes].triu(1).nonzero().numpy(),
        train=train,
        scored=scored,
        sample=sample,
        features=features,
        history=History.load(directory / HISTORY),
    )


def _dataset(predictor: Predictor, given: str | None, known: str | None) -> Dataset | None:
    """The data of the run: as told, which must fit, or as known, if they are still there and still the same."""
    if given is not None:
        dataset = Dataset.open(given)
        if dataset.manifest_hash != predictor.about.get("manifest_hash"):
            raise UserError(f"--data must be the data set the run was trained on. Got another one in '{given}'.")
        return dataset
    try:
        dataset = Dataset.open(known or "")
    except (UserError, OSError):
        return None
    return dataset if dataset.manifest_hash == predictor.about.get("manifest_hash") else None


def _drawn(count: int, most: int) -> np.ndarray:
    """Row numbers, in order: all, or the same draw every time."""
    if not most or count <= most:
        return np.arange(count)
    return sample_indices(0, _DRAW, torch.arange(most), count).sort().values.numpy()


def _encoded(predictor: Predictor, dataset: Dataset, split: str, rows: np.ndarray) -> np.ndarray:
    samples = dataset.read(split, rows)[0]
    features: Tensor = predictor.deep.encode(samples) if predictor.deep else samples
    return features.numpy()


def _looker(predictor: Predictor, dataset: Dataset, place: Tensor, most: int) -> Callable[[str], Rows]:
    """What the map says of a split, tile by tile."""
    state, config = predictor.state, predictor.config
    knows = config.variant in LABEL_AWARE and state.num_classes > 0

    def look(split: str) -> Rows:
        chosen = _drawn(dataset.num_samples(split), most)
        found: list[tuple[np.ndarray, ...]] = []
        for start in range(0, len(chosen), _TILE_ROWS):
            rows = chosen[start : start + _TILE_ROWS]
            features = torch.from_numpy(_encoded(predictor, dataset, split, rows))
            nodes, rho = predict_nodes(state, features, config)
            classes = predict_classes(state, features, config) if knows else nodes
            novelty = predictor.novelty(features, rho)
            found.append(tuple(x.numpy() for x in (torch.where(nodes < 0, -1, place[nodes]), rho, classes, novelty)))
        nodes_, rho_, classes_, novelty_ = (np.concatenate(part) for part in zip(*found, strict=True))
        labels = dataset.labels(split)[torch.from_numpy(chosen)].numpy()
        said = classes_ if knows else None
        return Rows(split, dataset.num_samples(split), chosen, labels, nodes_, rho_, said, novelty_)

    return look
