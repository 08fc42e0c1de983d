"""The tabs of a run's page, and what its script has to know.

Axes: A alive nodes, F features shown, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from pipeline.report.charts import embedding_chart, grid_of, map_chart, plane_chart
from pipeline.report.data import MapData
from pipeline.report.nodes import feature_names, features_shown, node_details, short_names
from pipeline.report.page import Page, chart, escaped, select, table
from pipeline.report.palette import MARKS, apart, colour, mark, names_of
from pipeline.report.pictures import Gallery
from pipeline.report.score_charts import answers, confusion_chart, curves_chart, growth_chart
from pipeline.report.tables import node_table, telling_features

MEASURES = {
    "samples": "samples",
    "purity": "purity",
    "error": "distance to samples",
    "novelty": "novelty",
    "u_height": "distance to neighbours",
}
EMBEDDINGS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_FACES = 400  # nodes whose pictures the map can show at once
_LISTED = 200  # nodes in the table


def add_map(page: Page, data: MapData) -> None:
    """The map as a graph, the panel of the selected node, and what all other tabs share."""
    gallery = Gallery()
    details, caption = node_details(data, gallery)
    names, features = names_of(data.class_names, data.num_classes), features_shown(data)
    known = {name: values for name, values in data.measures.items() if not np.isnan(values).all()}
    if data.train is None:
        known.pop("samples", None)
    page.charts["map"] = map_chart(data)
    width, height = gallery.size
    scaling = data.predictor.spec
    raw = scaling.kind == "table" and data.predictor.deep is None
    page.data |= {
        "nodes": details,
        "measures": {name: [_short(v) for v in values] for name, values in known.items()},
        "classes": names,
        "classLabels": apart(names, 18),
        "colours": [colour(c) for c in range(len(names))],
        "marks": [MARKS[mark(c)] for c in range(len(names))],
        "prototype": caption,
        "pictures": {"sheets": gallery.sheets(), "columns": gallery.columns, "width": width, "height": height,
                     "total": len(gallery)},
        "at": {"map": data.places.round(4).tolist()},
        "spacing": _spacing(data),
        "grid": None if (grid := grid_of(data)) is None else grid.tolist(),
        "features": {
            "names": short_names(data, features),
            "prototypes": [[_short(v) for v in row] for row in data.prototypes[:, features]],
            "relevances": None if bool((data.relevances == 1).all())
            else [[_short(v) for v in row] for row in data.relevances[:, features]],
            "mean": [_short(v) for v in data.prototypes[:, features].mean(0)],
            "low": [float(scaling.low[f]) for f in features] if raw else None,
            "high": [float(scaling.high[f]) for f in features] if raw else None,
        },
    }  # fmt: skip
    page.aside = _aside(data)
    page.tabs.append(("map", "Map", _map_panel(data, known, bool(len(gallery))), True))


def _map_panel(data: MapData, known: dict[str, Any], pictures: bool) -> str:
    modes = ([("class", "class")] if data.num_classes else []) + [(k, MEASURES[k]) for k in MEASURES if k in known]
    controls = select("mode", "Colour by", modes)
    if pictures and data.num_nodes <= _FACES:
        controls += '<label><input type="checkbox" id="faces"> show prototypes</label>'
    placed = (
        "Nodes stand on their lattice." if data.lattice
        else "Nodes stand so that near prototypes are near (t-SNE of their distances; few nodes: classical scaling)."
    )  # fmt: skip
    classes = sum(c >= 0 for c in set(data.shown_classes.tolist()))
    alt = (
        f"The map as a graph: {data.num_nodes} nodes of {classes} classes, {len(data.edges)} pairs of neighbours. "
        "Arrow keys go from node to node; the panel beside it describes the selected one."
    )
    caption = (
        f"{placed} Lines join neighbours; the larger a node, the more samples it has. Click a node, or use the arrow "
        "keys, to see what is in it."
    )
    return f'<div class="controls">{controls}</div>' + chart("map", alt, caption, wheel=True, at="map")


def _aside(data: MapData) -> str:
    samples = data.measures["samples"]
    order = np.argsort(-samples, kind="stable").tolist()
    texts = [f"{data.nodes[n]} · {samples[n]:,.0f} samples" if data.train else f"{data.nodes[n]}" for n in order]
    listed = select("node", "Node", list(zip(order, texts, strict=True)))
    pixels = data.predictor.spec.kind == "image" and data.predictor.deep is None
    bars = "" if pixels else (
        "<h3>Features</h3><div id=\"bars\" role=\"figure\" aria-label=\"Relevance and prototype of the features that "
        "matter most to this node\"></div>"
    )  # fmt: skip
    return f"""<aside id="detail" aria-label="Selected node">
<div class="controls">{listed}<button type="button" id="before" aria-label="Previous node">‹</button>
<button type="button" id="after" aria-label="Next node">›</button></div>
<h2 id="node-title" aria-live="polite"></h2>
<div class="sheets" id="portrait"></div><table id="facts"></table>
{bars}
<h3>Nearest members</h3><div class="thumbs" id="members"></div>
<h3>Misfits</h3><p class="note">Rows of another class first, then those farthest from the prototype.</p>
<div class="thumbs" id="misfits"></div>
<div><h3>Classes of its samples</h3><div id="composition" role="figure" aria-label="Samples of the node by class"></div>
</div>
<h3>Neighbours</h3><div class="thumbs" id="near"></div>
</aside>"""


def add_planes(page: Page, data: MapData) -> None:
    """U-matrix, hits, and planes of one feature."""
    relevant = page.data["features"]["relevances"] is not None
    first = page.data["features"]
    page.charts["umatrix"] = plane_chart(data, data.measures["u_height"])
    heights = "; ".join(filter(None, ["mean distance of each prototype to those of its neighbours", data.lonely_said]))
    parts = [_plane("umatrix", "U-matrix", heights)]
    if data.train is not None:
        page.charts["hits"] = plane_chart(data, data.measures["samples"], low=0)
        parts.append(_plane("hits", "Hits", "samples whose best matching node it is"))
    page.charts["component"] = plane_chart(data, np.array([row[0] for row in first["prototypes"]]))
    parts.append(_plane("component", "Component plane", "the chosen feature of each prototype"))
    if relevant:
        page.charts["relevance"] = plane_chart(data, np.array([row[0] for row in first["relevances"]]), 0, 1)
        parts.append(_plane("relevance", "Relevance plane", "how much the chosen feature matters to each node"))
    page.data["at"]["plane"] = page.data["at"]["map"]
    names = first["names"]
    spread = [float(np.std([row[f] for row in first["prototypes"]])) for f in range(len(names))]
    order = sorted(range(len(names)), key=lambda f: -spread[f])
    plain = feature_names(data, features_shown(data))
    controls = select("feature", "Feature of component and relevance planes", [(f, plain[f]) for f in order])
    more = data.prototypes.shape[1] - len(names)
    note = f'<p class="note">The {len(names)} features in which prototypes differ most; {more} more are left out.</p>'
    panel = f'<div class="controls">{controls}</div>{note if more else ""}<div class="pair">{"".join(parts)}</div>'
    page.tabs.append(("planes", "Planes", panel, True))


def _plane(name: str, title: str, what: str) -> str:
    alt = f"{title}: {what}, for every node in its place."
    return f"<div><h2>{title}</h2>{chart(name, alt, what, kind='half')}</div>"


def add_growth(page: Page, data: MapData) -> None:
    """How the map came to be, with a slider."""
    figure, moments = growth_chart(data)
    curves = curves_chart(data)
    if curves is not None:
        page.charts["curves"] = curves
    if not moments:
        page.charts.pop("growth", None)
        if curves is None:
            return
        panel = chart("curves", "Numbers of the training by epoch.", kind="tall")
        page.tabs.append(("growth", "Training", panel, False))
        return
    page.charts["growth"], page.data["moments"] = figure, moments
    last = len(moments) - 1
    controls = (
        f'<button type="button" id="play">Play</button><label for="moment">Moment</label>'
        f'<input type="range" id="moment" min="0" max="{last}" value="{last}" step="1">'
        f'<output id="moment-text" for="moment" aria-live="polite"></output>'
    )
    counts = [len(moment["x"]) for moment in moments]
    alt = f"Prototypes through {len(moments)} moments of the training: from {counts[0]} to {counts[-1]} nodes."
    deep = " Samples are placed by the final encoder; earlier prototypes were made with earlier ones." * bool(
        data.predictor.deep
    )
    learned = all((moment.classes >= 0).all() for moment in data.history.moments)
    before = "in none" if data.predictor.deep else "in that of most of the samples shown here that lie nearest to them"
    lent = f" Nodes that have learned no class are in that of most of their samples, before the last moment {before}."
    caption = (
        f"Prototypes in the main plane of the samples (PCA, {data.plane.explained:.0%} of their variance), samples in "
        f"grey, neighbours joined.{deep}" + lent * bool(data.num_classes and data.train and not learned)
    )
    side = "" if curves is None else chart("curves", "Numbers of the training by epoch; a line marks the moment.")
    panel = f'<div class="controls">{controls}</div><div class="pair">{chart("growth", alt, caption)}{side}</div>'
    page.tabs.append(("growth", "Growth", panel, False))


def add_embeddings(page: Page, data: MapData, wanted: tuple[str, ...]) -> None:
    """Samples in two dimensions over the regions of their nodes."""
    found = data.embedded(wanted)
    if not found or data.train is None:
        return
    parts = []
    for number, (name, (places, prototypes)) in enumerate(found.items()):
        explained = data.plane.explained if name == "pca" else None
        page.charts[f"embedding-{name}"] = embedding_chart(data, places, prototypes, explained)
        page.data["at"][name] = prototypes.round(3).tolist()
        alt = f"{EMBEDDINGS[name]} of {len(places)} samples and {len(prototypes)} prototypes, with regions of nodes."
        share = f" The plane holds {explained:.0%} of the variance." if explained is not None else ""
        caption = (
            f"{len(places):,} training samples, drawn at random, in two dimensions by {EMBEDDINGS[name]}; crosses are "
            "prototypes. A region belongs to the node of the sample shown nearest to it, in the colour of the node's "
            f"class.{share} Click a sample to see its node."
        )
        place = chart(f"embedding-{name}", alt, caption, kind="tall", wheel=True, at=name)
        parts.append(place.replace("<figure>", "<figure hidden>", 1) if number else place)
    choices = [(f"embedding-{name}", EMBEDDINGS[name]) for name in found]
    controls = select("method", "Method", choices, "data-choose")
    page.tabs.append(("embedding", "Samples", f'<div class="controls">{controls}</div>{"".join(parts)}', True))


def add_nodes(page: Page, data: MapData, files: Sequence[str]) -> None:
    """The nodes as a table, and where all of them are, with their features, to go on with."""
    found, telling = node_table(data), telling_features(data)
    head = [name.replace("_", " ") for name in found.column_names]
    rows = [[_cell(name, value) for name, value in row.items()] for row in found.slice(0, _LISTED).to_pylist()]
    if telling:
        head.append("most relevant features")
        rows = [[*row, features] for row, features in zip(rows, telling, strict=False)]
    links = " and ".join(f'<a href="{quote(name)}">{escaped(name)}</a>' for name in files)
    first = f" The first {_LISTED:,} of {data.num_nodes:,} are listed." if data.num_nodes > _LISTED else ""
    beside = f" All of them, in files beside this page: {links}." if files else ""
    note = (
        "Nodes by their samples; class is what a node has learned, majority the commonest class of its training rows, "
        f"the quantization error the mean distance of its samples.{first}{beside}"
    )
    page.tabs.append(("nodes", "Nodes", f'<p class="note">{note}</p>{table(head, rows)}', False))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if name.endswith("_share") else f"{value:.4g}" if isinstance(value, float) else str(value)


def add_scores(page: Page, data: MapData) -> None:
    """The confusion matrix, where classes are known."""
    rows = data.scored
    if rows is None or data.num_classes == 0 or not (rows.labels >= 0).any():
        return
    found = answers(data, rows)
    page.charts["confusion"] = confusion_chart(data, found)
    right = int(np.diagonal(found).sum())
    whole = f"{int(found.sum()):,} rows of the {rows.split} split"
    if rows.total > len(rows.rows):
        whole += f", drawn from {rows.total:,}"
    how = (
        "The map names the class itself." if rows.predicted is not None
        else "This map knows no classes: each node is read as the class of most of its training samples."
    )  # fmt: skip
    caption = f"{whole}; {right / max(1, found.sum()):.1%} on the diagonal. {how}"
    alt = f"Confusion matrix of {data.num_classes} classes: {caption}"
    page.tabs.append(("scores", "Confusion", chart("confusion", alt, escaped(caption), kind="square"), False))


def _short(value: float) -> float | None:
    return None if value != value else float(f"{value:.4g}")


def _spacing(data: MapData) -> float:
    """Side of a prototype's picture on the map, in units of the map."""
    if data.num_nodes < 2:
        return 1.0
    from scipy.spatial import cKDTree

    near = cKDTree(data.places).query(data.places, 2)[0][:, 1]
    return 0.9 * float(np.median(near) if data.lattice else max(np.quantile(near, 0.25), 1e-9))
