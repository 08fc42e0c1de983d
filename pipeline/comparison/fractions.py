"""Accuracy by labelled fraction: one model trained at several fractions, beside what the labels alone give.

N training rows, D features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.baselines import majority_accuracy, spreading_accuracy
from pipeline.config import RunConfig
from pipeline.prepared.labels import kept_labels
from pipeline.prepared.shards import Dataset
from pipeline.training.local import open_group
from pipeline.training.rundir import RunDirectory
from pipeline.training.trainer import train


def train_fractions(
    settings: dict[str, Any],
    out: Path,
    fractions: Sequence[float],
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """Train at each fraction, on workers that are started once; runs that are there already are not repeated.

    Args:
        settings: flat keys of `RunConfig`, without `train.labelled_fraction`.
        out: directory for one run directory per fraction.
        fractions: shares of the labels; all are looked at before anything is trained.
        say: told in one line what the user should know.

    Yields:
        The summary of each run, with `labelled_rows`, `majority` and `label_spreading` (test accuracies of the
        commonest class, and of scikit-learn's label spreading on the same labels) beside it.
    """
    runs = [{**settings, "train.labelled_fraction": fraction} for fraction in fractions]
    configs = [RunConfig.build(run) for run in runs]
    dataset = Dataset.open(settings["data.path"])
    every = np.arange(dataset.num_samples("train"))
    features, labels = (part.numpy() for part in dataset.read("train", every))
    test = [part.numpy() for part in dataset.read("test", np.arange(dataset.num_samples("test")))]
    with contextlib.ExitStack() as stack:
        group = None
        for run, config, fraction in zip(runs, configs, fractions, strict=True):
            directory = RunDirectory(out / f"labels-{fraction:g}")
            begun = bool(directory.record)
            directory.settings(run, resume=begun)  # whose directory is this?
            if "summary" in directory.record:
                summary = {**directory.record["summary"], "run_id": directory.record.get("run_id")}
            else:
                group = group or stack.enter_context(open_group(configs[0].cluster, say))
                summary = train(run, directory.path, resume=begun, group=group)
            kept, _ = kept_labels(labels, fraction, config.train.validation_fraction, config.train.seed)
            yield {
                **summary,
                "labelled_rows": int((kept >= 0).sum()),
                "majority": majority_accuracy(kept, test[1]),
                "label_spreading": spreading_accuracy(features, kept, *test),
            }
