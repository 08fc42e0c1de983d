"""What one trained model is worth: its clusters, its features, its answers, what it took.

N rows, D features, K nodes, C classes.
"""

from __future__ import annotations

import resource
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.baselines import spreading_accuracy
from pipeline.evaluation import groups_of
from pipeline.prepared.labels import kept_labels
from pipeline.prepared.shards import Dataset
from pipeline.serving.trained import Trained
from somcore.config import UNLABELLED
from somcore.matching import predict_nodes
from somcore.metrics import adjusted_rand_index, clustering_accuracy, contingency, normalized_mutual_information
from somcore.sampling import sample_indices

_EPOCH, _TILE, _NEIGHBOURS = -6, 2048, 10  # a draw of its own
Part = tuple[np.ndarray, np.ndarray]


def cluster_measures(trained: Trained, dataset: Dataset) -> dict[str, float]:
    """ACC, NMI and ARI on the test split with as many clusters as classes, and the share of unassigned rows.

    A map with more nodes than classes has its nodes grouped into C groups first (`groups_of`: by crossings, or by
    Ward's method weighted by the rows they win; no label looked at). A row without a node is wrong in ACC, and a
    cluster of its own in NMI and ARI.
    """
    nodes, labels = [], []
    for start in range(0, dataset.num_samples("test"), _TILE):
        samples, truth = dataset.read("test", slice(start, start + _TILE))
        nodes.append(predict_nodes(trained.state, trained.encode(samples), trained.config)[0])
        labels.append(truth)
    node, truth = torch.cat(nodes), torch.cat(labels)
    counts = torch.bincount(node[node >= 0], minlength=trained.state.capacity)
    groups = groups_of(trained.state, counts, dataset.num_classes, trained.crossings)
    known = truth != UNLABELLED
    found = torch.where(node >= 0, groups[node], -1)[known]
    table = contingency(found, truth[known], dataset.num_classes, dataset.num_classes)
    return {
        "clustering_accuracy": clustering_accuracy(table),
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
        "unassigned_share": float((found < 0).double().mean()),
    }


def probes(known: Part, test: Part) -> dict[str, float]:
    """Test accuracy of a linear classifier and of 10 nearest neighbours on frozen features."""
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(min(_NEIGHBOURS, len(known[1]))).fit(*known)
    return {"linear_probe": linear_accuracy(known, test), "nearest_neighbours": float(nearest.score(*test))}


def linear_accuracy(known: Part, test: Part) -> float:
    """Test accuracy of logistic regression on features scaled to mean 0 and deviation 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(known[1])) < 2:
        return float((test[1] == known[1][0]).mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a probe that has not converged yet is still a probe
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(*known)
        return float(model.score(*test))


def encoded(trained: Trained, dataset: Dataset, split: str, rows: Tensor, labels: Tensor) -> Part:
    """Features of the network's body (samples themselves without one) and labels of some rows."""
    parts = [trained.represent(dataset.read(split, part)[0]) for part in rows.split(_TILE)]
    return torch.cat(parts).numpy().astype(np.float64), labels[rows].numpy()


def labelled_rows(labels: Tensor, limit: int, seed: int) -> Tensor:
    """At most so many rows that have a label, drawn by hash of the seed."""
    marked = (labels != UNLABELLED).nonzero().squeeze(1)
    if limit >= len(marked):
        return marked
    return marked[sample_indices(seed, _EPOCH, torch.arange(limit), len(marked))]


def feature_measures(trained: Trained, dataset: Dataset, seed: int, rows: int) -> dict[str, float]:
    """`probes`, from at most so many training rows, on as many test rows, both drawn by the seed."""
    parts = []
    for split in ("train", "test"):
        labels = dataset.labels(split)
        parts.append(encoded(trained, dataset, split, labelled_rows(labels, rows, seed), labels))
    return probes(parts[0], parts[1])


def kept(dataset: Dataset, fraction: float, validation_fraction: float, seed: int) -> Tensor:
    """(N,) training labels that a model with these settings reads, −1 elsewhere; see `kept_labels`."""
    labels, _ = kept_labels(dataset.labels("train").numpy(), fraction, validation_fraction, seed)
    return torch.from_numpy(labels)


def linear_on_few(trained: Trained, dataset: Dataset, kept: Tensor, seed: int, rows: int) -> float:
    """Accuracy on the whole test split of a linear classifier on frozen features of the rows that keep their label.

    Args:
        trained: whose features.
        dataset: with the test split.
        kept: (N,) labels of the training rows, −1 where there is none.
        seed: of the choice of rows.
        rows: at most so many of them.
    """
    known = encoded(trained, dataset, "train", labelled_rows(kept, rows, seed), kept)
    truth = dataset.labels("test")
    return linear_accuracy(known, encoded(trained, dataset, "test", labelled_rows(truth, len(truth), seed), truth))


def spreading(dataset: Dataset, kept: Tensor, seed: int, rows: int) -> float:
    """Test accuracy of label spreading on the samples: labelled rows (see `kept`), then others, up to so many."""
    marked = labelled_rows(kept, rows, seed)
    free = (kept == UNLABELLED).nonzero().squeeze(1)
    more = free[
        sample_indices(seed, _EPOCH, torch.arange(max(0, min(rows - len(marked), len(free)))), max(1, len(free)))
    ]
    chosen = torch.cat([marked, more])
    truth = dataset.labels("test")
    test = labelled_rows(truth, len(truth), seed)
    samples = (dataset.read(split, part)[0].numpy() for split, part in (("train", chosen), ("test", test)))
    known, asked = samples
    return spreading_accuracy(known, kept[chosen].numpy(), asked, truth[test].numpy())


def num_parameters(directory: Path) -> int:
    """Numbers that a run has learned: of the network and of the living nodes of the map."""
    from safetensors import safe_open

    from pipeline.training.rundir import RunDirectory

    run = RunDirectory(directory)
    state, _, _ = run.load_map()
    fixed = run.record["settings"].get("train.model") in ("supervised", "fixmatch")
    per_node = state.num_features * (1 if bool((state.relevances == 1).all()) else 2)
    nodes = 0 if fixed else state.num_nodes * per_node
    with safe_open(run.map_path, framework="pt") as file:
        names = list(file.keys())
        size = file.get_tensor("encoder.values").numel() if "encoder.values" in names else 0
    return nodes + size


def peak_memory_bytes() -> int:
    """The most that this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """For files: six digits."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
