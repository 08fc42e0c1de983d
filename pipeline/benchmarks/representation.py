"""What the learned features are worth: probes, clusters, faithfulness to the samples, what the relevances say.

The same measures for raw samples, the deep model's encoder and, if asked, the encoder trained on the labels alone.
N rows, D features, K nodes, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.benchmarks.paths import path_measures, probe_decoder
from pipeline.benchmarks.supervised import train_supervised
from pipeline.deep.model import DeepModel
from pipeline.deep.sample_shape import SampleShape
from pipeline.errors import must
from pipeline.prepared.shards import Dataset
from pipeline.training.rundir import RunDirectory
from somcore.metrics import (
    adjusted_rand_index,
    clustering_accuracy,
    contingency,
    continuity,
    normalized_mutual_information,
    trustworthiness,
)
from somcore.sampling import sample_indices
from somcore.state import MapState

_EPOCH = -4  # a draw of its own
_NEIGHBOURS, _TILE = 10, 1024
Encode = Callable[[Tensor], Tensor]


def study(run: Path, rows: int, supervised: bool, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Measures by representation.

    Args:
        run: directory of a deep run.
        rows: at most so many rows of each split.
        supervised: also train the encoder on the labels alone.
        say: told what is being done.

    Returns:
        By name of the representation: linear_probe, nearest_neighbour, clustering_accuracy, nmi, ari, trustworthiness,
        continuity (both of 1,024 test rows at most); where a decoder makes sense what `path_measures` gives, between
        the prototypes of the deep map and the centres of k-means elsewhere; for the deep one also what
        `relevance_measures` gives.
    """
    settings = RunDirectory(run).record.get("settings")
    if settings is None:
        raise must("--run", "the directory of a run", str(run))
    dataset = Dataset.open(settings["data.path"])
    model = DeepModel.load(run)
    known: dict[str, Encode] = {"samples": lambda samples: samples, "deep map": model.encode}
    if supervised:
        say("training the encoder on the labels alone")
        known["labels alone"] = train_supervised(settings, say=say)["encode"]
    sample = SampleShape.of(dataset.manifest)
    train_part, test_part = (_part(dataset, split, rows) for split in ("train", "test"))
    results = {}
    for name, encode in known.items():
        say(f"measuring {name}")
        results[name], features, centres = _measures(encode, train_part, test_part, dataset.num_classes)
        if sample.kind != "audio":
            ends = model.state.prototypes[model.state.alive].to(torch.float32) if name == "deep map" else centres
            results[name] |= _paths(features, train_part[0], ends, sample, learned=name != "samples")
    results["deep map"] |= relevance_measures(model.state)
    return results


def _paths(features: Tensor, samples: Tensor, ends: Tensor, sample: SampleShape, learned: bool) -> dict[str, float]:
    """Paths in a learned representation are decoded; raw samples are what they are."""
    if not learned:
        return path_measures(lambda raw: raw, ends, samples)
    return path_measures(probe_decoder(features, samples, sample), ends, samples)


def _part(dataset: Dataset, split: str, limit: int) -> tuple[Tensor, np.ndarray]:
    """Samples and labels of some labelled rows of a split, drawn by hash."""
    labels = dataset.labels(split)
    marked = (labels >= 0).nonzero().squeeze(1)
    places = torch.arange(min(limit, len(marked)))
    chosen = marked[sample_indices(0, _EPOCH, places, len(marked))]
    return dataset.read(split, chosen)[0], labels[chosen].numpy()


def _measures(
    encode: Encode, train_part: tuple[Tensor, np.ndarray], test_part: tuple[Tensor, np.ndarray], classes: int
) -> tuple[dict[str, float], Tensor, Tensor]:
    """The measures of one representation, the features of its training rows, and the centres of its clusters."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    known, test = (_encoded(encode, samples) for samples, _ in (train_part, test_part))
    truth = test_part[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a probe that has not converged yet is still a probe
        probe = LogisticRegression(max_iter=300).fit(known, train_part[1])
    nearest = KNeighborsClassifier(_NEIGHBOURS).fit(known, train_part[1])
    grouping = KMeans(classes, n_init=3, random_state=0).fit(known)
    clusters = grouping.predict(test)
    table = contingency(torch.from_numpy(clusters.astype(np.int64)), torch.from_numpy(truth), classes, classes)
    raw, few = test_part[0][:_TILE].to(torch.float64), torch.from_numpy(test[:_TILE])
    measures = {
        "linear_probe": float(probe.score(test, truth)),
        "nearest_neighbour": float(nearest.score(test, truth)),
        "clustering_accuracy": clustering_accuracy(table),
        "nmi": normalized_mutual_information(table),
        "ari": adjusted_rand_index(table),
        "trustworthiness": trustworthiness(raw, few, _NEIGHBOURS),
        "continuity": continuity(raw, few, _NEIGHBOURS),
    }
    features, centres = (torch.from_numpy(part).to(torch.float32) for part in (known, grouping.cluster_centers_))
    return measures, features, centres


def _encoded(encode: Encode, samples: Tensor) -> np.ndarray:
    return torch.cat([encode(part) for part in samples.split(_TILE)]).numpy().astype(np.float64)


def relevance_measures(state: MapState) -> dict[str, float]:
    """How selective the nodes are, and whether classes look at different features.

    Returns:
        relevance_mean: mean ω over alive nodes and features.
        relevant_share: share of features with ω at least the node's mean.
        overlap_within, overlap_between: mean cosine of the relevances of two nodes of one class, of two classes.
    """
    alive = state.alive
    relevances, classes = state.relevances[alive].cpu(), state.classes[alive].cpu()
    unit = relevances / relevances.norm(dim=1, keepdim=True)
    cosine, pairs = unit @ unit.T, torch.ones(len(unit), len(unit)).triu(1).bool()
    named = (classes >= 0).unsqueeze(1) & (classes >= 0)
    same = (classes.unsqueeze(1) == classes) & named
    return {
        "relevance_mean": float(relevances.mean()),
        "relevant_share": float((relevances >= relevances.mean(1, keepdim=True)).double().mean()),
        "overlap_within": _mean(cosine[pairs & same]),
        "overlap_between": _mean(cosine[pairs & named & ~same]),
    }


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else float("nan")


def markdown(results: dict[str, dict[str, float]], name: str, command: str) -> str:
    """One column per representation."""
    measures = list(dict.fromkeys(measure for values in results.values() for measure in values))
    lines = [
        f"### {name}: what the features are worth",
        "",
        f"| | {' | '.join(results)} |",
        "|---" * (len(results) + 1) + "|",
    ]
    for measure in measures:
        cells = [f"{values[measure]:.4f}" if measure in values else "–" for values in results.values()]
        lines.append(f"| {measure.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Command: `{command}`.", ""])


def as_plain(results: dict[str, dict[str, float]]) -> dict[str, Any]:
    """For JSON."""
    return {name.replace(" ", "_"): dict(values) for name, values in results.items()}
