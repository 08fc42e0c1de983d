"""What is told of each node when one looks at it: prototype, relevances, members, misfits, all ready for the page.

Axes: A nodes, D features, F features that are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.report.data import MapData
from pipeline.report.palette import apart, shown
from pipeline.report.pictures import Gallery, prototype_pictures, relevance_pictures, sample_pictures

_FEATURES = 64
_VALUES = 6


def features_shown(data: MapData) -> np.ndarray:
    """(F,) features that planes and bars are of: all, or those in which prototypes differ most."""
    width = data.prototypes.shape[1]
    if width <= _FEATURES:
        return np.arange(width)
    spread = (data.prototypes.std(0) + 1e-6) * data.relevances.mean(0)
    return np.sort(np.argsort(-spread, kind="stable")[:_FEATURES])


def feature_names(data: MapData, features: np.ndarray) -> list[str]:
    """What these features are called: columns of a table, pixels, samples of a recording, latent features."""
    spec = data.predictor.spec
    if data.predictor.deep is not None:
        return [f"latent {f}" for f in features]
    if spec.columns:
        return [str(spec.columns[f]) for f in features]
    if spec.kind == "image":
        found = np.unravel_index(features, spec.shape)
        colour = spec.shape[0] > 1
        where = zip(*found, strict=True)
        return [f"row {y}, column {x}" + (f", channel {c}" if colour else "") for c, y, x in where]
    return [f"value {f}" for f in features]


def short_names(data: MapData, features: np.ndarray, one: Callable[[object, int], str] = shown) -> list[str]:
    """The same cut to be read beside a chart: apart from those of all other features, so the same in every place."""
    every = apart(feature_names(data, np.arange(data.prototypes.shape[1])), 24, one)
    return [every[f] for f in features]


def samples_per_node(num_nodes: int) -> tuple[int, int]:
    """How many members and misfits the page holds of each node: fewer of each where there are many nodes."""
    if num_nodes > 1000:
        return 3, 1
    return int(np.clip(2400 // num_nodes, 3, 12)), int(np.clip(1200 // num_nodes, 2, 8))


def node_details(data: MapData, gallery: Gallery) -> tuple[list[dict[str, Any]], str]:
    """All nodes for the page, and in words what is shown as their prototype."""
    prototypes, caption = prototype_pictures(data)
    relevances = relevance_pictures(data)
    listed = _listed(data)
    pictures = _pictures_of(data, listed, gallery)
    columns = apart(data.predictor.spec.columns or range(data.predictor.spec.shape[0]), 24)
    details = []
    for node in range(data.num_nodes):
        members, misfits = (
            [_sample(data, node, row, pictures, columns) for row in rows.tolist()] for rows in listed[node]
        )
        shown_first = members[0].get("p") if members else None
        own = None if prototypes is None else gallery.add(prototypes[node])
        details.append(
            {
                "id": int(data.nodes[node]),
                "class": int(data.classes[node]),
                "majority": int(data.majority[node]),
                "counts": data.counts[node].tolist(),
                "picture": shown_first if own is None else own,
                "relevance": None if relevances is None else gallery.add(relevances[node]),
                "members": members,
                "misfits": misfits,
            }
        )
    for a, b in data.edges.tolist():
        for one, other in ((a, b), (b, a)):
            near = details[one].setdefault("near", [])
            if len(near) < 12:
                near.append(other)
    return details, caption


def _listed(data: MapData) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each node the members and misfits that the page shows."""
    most, worst = samples_per_node(data.num_nodes)
    listed = []
    for node in range(data.num_nodes):
        members = data.members(node)[:most]
        misfits = data.misfits(node)
        listed.append((members, misfits[~np.isin(misfits, members)][:worst]))
    return listed


def _pictures_of(data: MapData, listed: list[tuple[np.ndarray, np.ndarray]], gallery: Gallery) -> dict[int, int]:
    """Numbers in the gallery of the pictures of all listed rows."""
    if data.train is None:
        return {}
    places = np.unique(np.concatenate([part for pair in listed for part in pair]))
    found: dict[int, int] = {}
    for start in range(0, len(places), 1024):
        part = places[start : start + 1024]
        pictures = sample_pictures(data, "train", data.train.rows[part])
        if pictures is None:
            return {}
        found |= {int(p): gallery.add(picture) for p, picture in zip(part, pictures, strict=True)}
    return found


def _sample(data: MapData, node: int, place: int, pictures: dict[int, int], columns: Sequence[str]) -> dict[str, Any]:
    """One row: r its number, c its class, a its activation, p its picture, v some of its values, of tables."""
    assert data.train is not None
    row = int(data.train.rows[place])
    sample: dict[str, Any] = {"r": row, "c": int(data.train.labels[place])}
    sample["a"] = round(float(1 / (1 + data.train.rho[place])), 4)
    if place in pictures:
        sample["p"] = pictures[place]
    if data.predictor.spec.kind == "table" and data.dataset is not None:
        raw = data.dataset.read_raw("train", [row])[0].numpy().reshape(-1)
        telling = range(len(raw)) if data.predictor.deep else data.by_relevance(node)
        sample["v"] = [[columns[f], float(f"{raw[f]:.4g}")] for f in list(telling)[:_VALUES]]
    return sample
