"""What is recorded of a run besides its map: the manifest of its data, and a sample of its predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.places import write_atomically
from pipeline.predictor import Predictor
from pipeline.prepared.manifest import MANIFEST
from pipeline.prepared.shards import Dataset

PREDICTIONS = "predictions.csv"
_ROWS = 100


def keepsakes(directory: Path, dataset: Dataset) -> list[Path]:
    """Writes `predictions.csv` into the directory of a finished run: up to 100 rows, evenly over the test split.

    Args:
        directory: of the run; its map is there.
        dataset: what it was trained on.

    Returns:
        The files to record.
    """
    local = dataset.place.local
    manifest = (directory if local is None else local) / MANIFEST
    if local is None:
        write_atomically(manifest, dataset.place.read(MANIFEST))
    files = [manifest] if manifest.is_file() else []
    split = "test" if dataset.num_samples("test") else "train"
    count = dataset.num_samples(split)
    rows = np.unique(np.linspace(0, count - 1, min(_ROWS, count)).astype(np.int64))
    try:
        predictor = Predictor.load(directory)
    except UserError:  # a model of another kind than a map
        return files
    answers = predictor.predict(dataset.read_raw(split, rows).numpy())
    answers.insert(0, "row", rows)
    answers.insert(1, "split", split)
    if dataset.num_classes:
        names = np.array([*dataset.class_names, None], dtype=object)
        answers.insert(2, "label", names[dataset.labels(split)[rows].numpy()])
    path = directory / PREDICTIONS
    write_atomically(path, answers.to_csv(index=False).encode())
    return [*files, path]
