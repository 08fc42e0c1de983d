"""A trained model, opened again: from the directory of its run, or by its id from MLflow.

n samples, P values per sample as prepared, D features of the map.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import DataError, must
from pipeline.evaluation import evaluate
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.training.plan import open_data
from pipeline.training.rundir import RunDirectory
from somcore.config import MapConfig
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
    def load(cls, directory: Path) -> Trained:
        """The final model of a run.

        Raises:
            OutputError: there is none, or it is damaged.
        """
        run = RunDirectory(directory)
        state, config, about = run.load_map()
        digest = run.record.get("summary", {}).get("map_digest") or about["digest"]
        if "deep" not in about:
            return cls(state, config, lambda samples: samples, about, digest)
        from pipeline.deep.model import DeepModel

        model = DeepModel.load(directory)
        return cls(model.state, model.config, model.encode, about, digest, model.represent, model.crossings)

    def evaluate(self, dataset: Dataset, split: str) -> dict[str, float | None]:
        """Scores on a split of a prepared data set; see `pipeline.evaluation.evaluate`.

        Raises:
            ValueError: the data set has no such split, or other features or classes than the model.
        """
        count = dataset.num_samples(split)
        if count == 0:
            raise must("--split", f"one of {', '.join(dataset.splits)}, which have rows", split)
        names = self.about.get("class_names") or []
        if names and dataset.class_names and list(dataset.class_names) != list(names):
            known, got = ", ".join(map(str, names)), ", ".join(map(str, dataset.class_names))
            raise must("--data", f"a data set with the classes of the model ({known})", got)
        if "input" in self.about:
            dataset = InputSpec.from_dict(self.about["input"]).seen_by_model(dataset)

        def read(rows: Tensor) -> tuple[Tensor, Tensor | None]:
            samples, labels = dataset.read(split, rows)
            return self.encode(samples), labels

        return evaluate(self.state, self.config, read, count, dataset.num_classes, crossings=self.crossings)


def evaluate_run(
    run: str,
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
