"""The nodes of a map as tables beside the page: what is in a node, and what matters to it.

Axes: A alive nodes, D features of the map, N rows looked at.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.errors import OutputError
from pipeline.places import write_atomically
from pipeline.prepared.scaling import Scaling
from pipeline.report.data import MapData
from pipeline.report.nodes import feature_names
from pipeline.report.palette import names_of

_SAID = 5  # features that the page names of a node


def node_table(data: MapData) -> pa.Table:
    """One row per node, those with most samples first.

    Returns:
        node, class (its own), majority (the commonest class of its training rows), and by split looked at: samples,
        share of the rows, quantization_error (mean distance of its samples, the unit of the run's own).
    """
    names = np.array([*names_of(data.class_names, data.num_classes), None], dtype=object)
    columns: dict[str, pa.Array] = {"node": pa.array(data.nodes, pa.int64())}
    columns["class"] = pa.array(names[data.classes], pa.string())
    columns["majority"] = pa.array(names[data.majority], pa.string())
    looked_at = {rows.split: rows for rows in (data.train, data.scored) if rows is not None}
    for split, rows in looked_at.items():
        samples = data.samples_won(rows)
        columns[f"{split}_samples"] = pa.array(samples, pa.int64())
        columns[f"{split}_share"] = pa.array(samples / max(1, len(rows.rows)))
        columns[f"{split}_quantization_error"] = pa.array(
            data.mean_distance(rows), from_pandas=True
        )  # NaN: no samples, no number
    return pa.table(columns).take(_order(data))


def relevance_table(data: MapData) -> pa.Table | None:
    """One row per node and feature, in the order of `node_table`, the most relevant first; of pixels and sound none.

    Returns:
        node, feature, relevance, rank (1 = the most relevant; equal ones share it; constant columns, which come last,
        have none), prototype: in the units of the source, of deep maps in those of the latent features.
    """
    if not _has_names(data):
        return None
    order = _order(data)
    prototypes, relevances = data.prototypes[order], data.relevances[order]
    if data.predictor.deep is None:
        prototypes = Scaling(data.predictor.spec.low, data.predictor.spec.high).undone(prototypes)
    by_relevance = data.by_relevance(order)
    sorted_ = np.take_along_axis(relevances, by_relevance, axis=1)
    begins = np.hstack([np.ones((len(order), 1), bool), sorted_[:, 1:] < sorted_[:, :-1]])
    places = np.arange(1, relevances.shape[1] + 1)
    ranks = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
    features = pa.array(feature_names(data, np.arange(relevances.shape[1])), pa.string())
    return pa.table(
        {
            "node": np.repeat(data.nodes[order].astype(np.int64), relevances.shape[1]),
            "feature": features.take(pa.array(by_relevance.reshape(-1))),
            "relevance": sorted_.reshape(-1),
            "rank": pa.array(ranks.reshape(-1), mask=data.constant[by_relevance].reshape(-1)),
            "prototype": np.take_along_axis(prototypes, by_relevance, axis=1).reshape(-1),
        }
    )


def write_tables(data: MapData, page: Path, most: int | None = None) -> list[Path]:
    """Writes both tables beside a page, each whole or not at all: PAGE-nodes.csv and PAGE-relevances.csv.

    Args:
        data: the run.
        page: where its page is to be.
        most: rows that are written at most; a longer table is left out. None = any number.

    Raises:
        OutputError: they cannot be written there.
    """
    from pyarrow import csv

    made = {"nodes": node_table(data)}
    if most is None or data.prototypes.size <= most:
        relevances = relevance_table(data)
        made |= {} if relevances is None else {"relevances": relevances}
    files = []
    for name, content in made.items():
        path = page.with_name(f"{page.stem}-{name}.csv")
        out = pa.BufferOutputStream()
        csv.write_csv(content, out)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, out.getvalue().to_pybytes())
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"--out must be in a folder that can be written. Got '{path}': {reason}.") from None
        files.append(path)
    return files


def telling_features(data: MapData) -> list[str]:
    """Of each node in the order of `node_table` the features that matter most to it; empty where none matters more."""
    telling = data.relevances[:, ~data.constant]
    if not _has_names(data) or (telling == telling[:, :1]).all():
        return []
    names = feature_names(data, np.arange(data.relevances.shape[1]))
    ranked = data.by_relevance(_order(data))[:, : min(_SAID, telling.shape[1])]
    return [", ".join(names[f] for f in row) for row in ranked]


def _has_names(data: MapData) -> bool:
    """Whether a feature is more than a pixel or a moment of sound."""
    return data.predictor.deep is not None or data.predictor.spec.kind == "table"


def _order(data: MapData) -> np.ndarray:
    return np.argsort(-data.counts.sum(1), kind="stable")
