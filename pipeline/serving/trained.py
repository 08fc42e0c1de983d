"""A trained model, opened again: from the directory of its run, or by its id from MLflow.

n samples, P values per sample as prepared, D features of the map.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import DataError, must
from pipeline.evaluation import evaluate
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.training.plan import open_data
from pipeline.training.rundir import RunDirectory
from somcore.config import UNLABELLED, MapConfig
from somcore.state import MapState


@dataclass(frozen=True)
class Trained:
    """A map with all that is needed to use it.

    Attributes:
        state: the map.
        config: its hyper-parameters.
        encode: (n, P) scaled samples to (n, D) features; the identity for maps on the samples themselves.
        about: model, num_classes, class_names, manifest_hash and the like.
        digest: of the map, in deep runs of the encoder too.
        represent: the same as `encode`, but of classifiers the features before the classes.
        crossings: (K, K) int64 between nodes, of deep runs that counted them.
    """

    state: MapState
    config: MapConfig
    encode: Callable[[Tensor], Tensor]
    about: dict[str, Any]
    digest: str | None
    represent: Callable[[Tensor], Tensor] = lambda samples: samples
    crossings: Tensor | None = None

    @classmethod
    def load(cls, directory: str | Path) -> Trained:
        """The final model of a run.

        Raises:
            OutputError: there is none, or it is damaged.
        """
        run = RunDirectory(Path(directory))
        state, config, about = run.load_map()
        digest = run.record.get("summary", {}).get("map_digest") or about["digest"]
        if "deep" not in about:
            return cls(state, config, lambda samples: samples, about, digest)
        from pipeline.deep.model import DeepModel

        model = DeepModel.load(directory)
        return cls(model.state, model.config, model.encode, about, digest, model.represent, model.crossings)

    def evaluate(self, dataset: Dataset, split: str) -> dict[str, float | None]:
        """Scores on a split of a prepared data set; see `pipeline.evaluation.evaluate`.

        Its classes are found among those of the model by their names: not all of them need to occur.

        Raises:
            ValueError: the data set has no such split, or other features than the model, or a class that it has not.
        """
        count = dataset.num_samples(split)
        if count == 0:
            raise must("--split", f"one of {', '.join(dataset.splits)}, which have rows", split)
        codes = self._codes_of(dataset)
        if "input" in self.about:
            dataset = InputSpec.from_dict(self.about["input"]).seen_by_model(dataset)

        def read(rows: Tensor) -> tuple[Tensor, Tensor | None]:
            samples, labels = dataset.read(split, rows)
            return self.encode(samples), codes[labels]

        num_classes = dataset.num_classes and max(dataset.num_classes, len(self.about.get("class_names") or ()))
        return evaluate(self.state, self.config, read, count, num_classes, crossings=self.crossings)

    def _codes_of(self, dataset: Dataset) -> Tensor:
        """(C + 1,) the code that the model has for each class of a data set; the last is of rows without a class."""
        names, given = self.about.get("class_names") or [], list(dataset.class_names)
        if not names:
            return torch.tensor([*range(len(given)), UNLABELLED])
        if other := [name for name in given if name not in names]:
            wanted = f"a data set with classes of the model ({', '.join(map(str, names))})"
            remedy = "Prepare it with the rows of other classes unlabelled, e.g. --unlabelled-value"
            raise must("--data", wanted, ", ".join(other), remedy=f"{remedy} {shlex.quote(other[0])}.")
        return torch.tensor([*(list(names).index(name) for name in given), UNLABELLED])


def evaluate_run(
    run: str | Path,
    data: str | Path | None,
    split: str | None,
    uri: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Scores of a trained model.

    Args:
        run: directory of a run, or its id in MLflow.
        data: a prepared data set; None = the one it was trained on.
        split: None = test where it has rows, else train.
        uri: MLflow store of an id; None = MLflow's own choice.
        say: told in one line that the data have changed since the training.

    Returns:
        run, data, split, rows, labelled_rows (None without classes), map_digest, nodes, and the scores.

    Raises:
        UserError: there is no such run or data set, it does not fit, or another one lies where it was trained on.
    """
    from pipeline.tracking.results import run_directory

    run = str(run)
    directory = run_directory(run, uri)
    trained = Trained.load(directory)
    known = RunDirectory(directory).record.get("settings", {}).get("data.path")
    place = data or known
    if place is None:
        raise must("--data", "given for a model without the record of its run", None)
    dataset = open_data(place, None if data else run)
    trained_on = trained.about.get("manifest_hash", dataset.manifest_hash)
    if dataset.manifest_hash != trained_on and os.path.realpath(place) == os.path.realpath(known or ""):
        other = f"Got manifest {dataset.manifest_hash[:12]} instead of {trained_on[:12]}."
        if data is None:
            what = f"The data set '{place}' must be the one that '{run}' was trained on."
            raise DataError(f"{what} {other} Name it by --data to score it all the same.")
        what = f"The data set '{place}' is not the one that '{run}' was trained on."
        say(f"{what} {other} Its rows may be among those that were trained on.")
    split = split or ("test" if dataset.num_samples("test") else "train")
    scores = trained.evaluate(dataset, split)
    about = {"run": run, "model": trained.about.get("model"), "data": str(place), "split": split}
    labelled = dataset.num_labelled(split) if dataset.num_classes else None
    counts = {"rows": dataset.num_samples(split), "labelled_rows": labelled}
    made = {"nodes": trained.state.num_nodes, "map_digest": trained.digest}
    return about | counts | made | scores
