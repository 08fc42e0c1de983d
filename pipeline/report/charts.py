"""The interactive views of a map, as plotly figures without colours of paper and ink: the page adds those of its theme.

Axes: A alive nodes, m samples embedded, C classes. `customdata` of whatever belongs to a node is its place among the
alive nodes; that is what a click selects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from pipeline.report.data import MapData
from pipeline.report.palette import MARKS, SCALE, apart, colour, mark, names_of, shown
from pipeline.report.placement import borders, regions, shown_edges

OUTLINE = "rgba(128,128,128,0.9)"
_FAINT = "rgba(128,128,128,0.35)"
_WIDTH, _HEIGHT = 700.0, 500.0  # of a chart on a laptop, to choose sizes of marks
ENTRIES = 26  # of a legend


def frame(figure: go.Figure, **layout: Any) -> go.Figure:
    """The layout that all charts share."""
    base: dict[str, Any] = {"margin": {"l": 8, "r": 8, "t": 32, "b": 8}, "hovermode": "closest", "template": None}
    base |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": "pan"}
    base["legend"] = {"itemsizing": "constant", "title": {"text": "class"}, "font": {"size": 12}}
    return figure.update_layout(**{**base, **layout})


def bare_axes(figure: go.Figure, equal: bool = True) -> go.Figure:
    """Axes without numbers, for places that mean nothing but nearness."""
    hidden = {"visible": False, "zeroline": False}
    figure.update_xaxes(**hidden)
    return figure.update_yaxes(**hidden, **({"scaleanchor": "x", "scaleratio": 1} if equal else {}))


def spacing(data: MapData, width: float, height: float) -> float:
    """How far apart neighbouring marks are, in the middle, where all nodes fill a width and a height."""
    if data.num_nodes < 2:
        return 40.0
    from scipy.spatial import cKDTree

    places = data.places
    extent = np.maximum(places.max(0) - places.min(0), 1e-9)
    apart = float(np.median(cKDTree(places).query(places, 2)[0][:, 1]))
    return apart * float(min(width / extent[0], height / extent[1]))


def mark_sizes(data: MapData) -> np.ndarray:
    """(A,) diameter of each node's mark: its area grows with its samples, and it hardly covers its neighbours."""
    samples = data.measures["samples"]
    most = float(np.clip(spacing(data, _WIDTH, _HEIGHT) * 1.05, 7, 34))
    return np.maximum(most * np.sqrt(samples / max(1.0, samples.max())), max(4.0, 0.3 * most))


def node_texts(data: MapData) -> list[str]:
    """One hover text per node."""
    names, measures = names_of(data.class_names, data.num_classes), data.measures
    texts = []
    for node in range(data.num_nodes):
        lines = [f"<b>Node {data.nodes[node]}</b>"]
        if data.classes[node] >= 0:
            lines.append(f"class {shown(names[data.classes[node]])}")
        elif data.majority[node] >= 0:
            lines.append(f"mostly {shown(names[data.majority[node]])}")
        if data.train is not None:
            lines.append(f"{measures['samples'][node]:,.0f} samples")
        named = {"purity": "purity {:.0%}", "error": "error {:.3g}", "novelty": "novelty {:.2f}"}
        lines += [text.format(measures[k][node]) for k, text in named.items() if measures[k][node] == measures[k][node]]
        texts.append("<br>".join(lines))
    return texts


def line_points(edges: np.ndarray, places: np.ndarray) -> tuple[list[float | None], list[float | None]]:
    """Edges as one line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for a, b in edges.tolist():
        x += [round(float(places[a, 0]), 4), round(float(places[b, 0]), 4), None]
        y += [round(float(places[a, 1]), 4), round(float(places[b, 1]), 4), None]
    return x, y


def edge_trace(edges: np.ndarray, places: np.ndarray) -> go.Scatter:
    """Neighbours as thin lines."""
    x, y = line_points(edges, places)
    return go.Scatter(
        x=x, y=y, mode="lines", line={"width": 1, "color": _FAINT}, hoverinfo="skip", showlegend=False, name="edges"
    )


def class_legend(data: MapData) -> list[str]:
    """What classes are called in a legend; the last entry is for none."""
    return [*apart(names_of(data.class_names, data.num_classes), 18), "none"]


def map_chart(data: MapData) -> go.Figure:
    """The map as a graph: traces are edges, one per class, the numbers, and a ring for the selected node."""
    names, sizes, places = class_legend(data), mark_sizes(data), data.places
    edges = edges_drawn(data)
    texts = node_texts(data)
    figure = go.Figure(edge_trace(edges, places))
    for label in sorted(set(data.shown_classes.tolist())):
        here = np.flatnonzero(data.shown_classes == label)
        figure.add_scatter(
            x=places[here, 0].round(4), y=places[here, 1].round(4), mode="markers", name=names[label],
            customdata=here, text=[texts[n] for n in here], hoverinfo="text",
            marker={
                "size": sizes[here].round(1), "color": colour(label), "symbol": MARKS[mark(label)],
                "line": {"width": 1, "color": OUTLINE}, "opacity": 1,
            },
        )  # fmt: skip
    figure.add_scatter(
        x=places[:, 0].round(4), y=places[:, 1].round(4), mode="markers", visible=False, showlegend=False,
        customdata=np.arange(data.num_nodes), text=texts, hoverinfo="text", name="values",
        marker={
            "size": sizes.round(1), "color": np.zeros(data.num_nodes), "colorscale": SCALE, "showscale": True,
            "colorbar": {"thickness": 12, "title": {"text": "", "side": "right"}},
            "line": {"width": 1, "color": OUTLINE},
        },
    )  # fmt: skip
    figure.add_trace(ring())
    many = len(set(data.shown_classes.tolist())) > ENTRIES
    return bare_axes(frame(figure, showlegend=not many and data.num_classes > 0))


def edges_drawn(data: MapData) -> np.ndarray:
    """Neighbours that are drawn; on a torus not those that meet across the border."""
    edges = data.edges
    if data.lattice and len(edges):
        lengths = np.linalg.norm(data.places[edges[:, 0]] - data.places[edges[:, 1]], axis=1)
        edges = edges[lengths < 2]
    return shown_edges(edges, data.places)


def ring() -> go.Scatter:
    """The ring around the selected node."""
    return go.Scatter(
        x=[], y=[], mode="markers", hoverinfo="skip", showlegend=False, name="selected",
        marker={"size": 30, "symbol": "circle-open", "color": "#E6194B", "line": {"width": 3}},
    )  # fmt: skip


def grid_of(data: MapData) -> np.ndarray | None:
    """Lattices as cells: places of the nodes, −1 where there is none; hexagonal rows are half a node apart."""
    if not data.lattice:
        return None
    rows, columns = data.config.rows, data.config.columns
    assert rows is not None and columns is not None
    slots = np.full(rows * columns, -1)
    slots[data.nodes] = np.arange(data.num_nodes)
    cells = slots.reshape(rows, columns)
    if data.config.lattice == "rectangular":
        return cells
    wide = np.full((rows, 2 * columns + 1), -1)
    for row in range(rows):
        wide[row, row % 2 : row % 2 + 2 * columns] = np.repeat(cells[row], 2)
    return wide


def plane_chart(data: MapData, values: np.ndarray, low: float | None = None, high: float | None = None) -> go.Figure:
    """One number of every node in its place: cells on a lattice, marks elsewhere."""
    grid, texts = grid_of(data), node_texts(data)
    bar = {"thickness": 10, "outlinewidth": 0}
    if grid is not None:
        z = np.where(grid >= 0, np.asarray(values, dtype=np.float64)[grid], np.nan)
        figure = go.Figure(
            go.Heatmap(
                z=[[None if v != v else round(float(v), 5) for v in row] for row in z],
                customdata=grid.tolist(), text=[[texts[n] if n >= 0 else "" for n in row] for row in grid],
                hovertemplate="%{text}<br>value %{z:.4g}<extra></extra>", colorscale=SCALE, colorbar=bar,
                zmin=low, zmax=high,
            )
        )  # fmt: skip
        ratio = 1.0 if data.config.lattice == "rectangular" else 1.73
        figure = bare_axes(frame(figure))
        return figure.update_yaxes(autorange="reversed", scaleratio=ratio, constrain="domain").update_xaxes(
            constrain="domain"
        )
    figure = go.Figure(edge_trace(shown_edges(data.edges, data.places, 2000), data.places))
    figure.add_scatter(
        x=data.places[:, 0].round(4), y=data.places[:, 1].round(4), mode="markers", showlegend=False,
        customdata=np.arange(data.num_nodes), text=texts,
        hovertemplate="%{text}<br>value %{marker.color:.4g}<extra></extra>",
        marker={
            "size": np.clip(mark_sizes(data).max() * 0.5, 6, 14), "color": np.round(values, 5), "colorscale": SCALE,
            "cmin": low, "cmax": high, "showscale": True, "colorbar": bar, "line": {"width": 0.5, "color": OUTLINE},
        },
    )  # fmt: skip
    return bare_axes(frame(figure))


def embedding_chart(
    data: MapData, places: np.ndarray, prototypes: np.ndarray, explained: float | None = None
) -> go.Figure:
    """Samples in two dimensions over the regions of their BMUs, and the prototypes among them."""
    assert data.train is not None
    names = class_legend(data)
    labels, nodes = data.train.labels[data.sample], data.train.nodes[data.sample]
    figure = go.Figure()
    inside = nodes >= 0
    if inside.sum() >= 3:
        for trace in _region_traces(data, places[inside], nodes[inside]):
            figure.add_trace(trace)
    for label in sorted(set(labels.tolist())):
        here = np.flatnonzero(labels == label)
        figure.add_scatter(
            x=places[here, 0].round(3), y=places[here, 1].round(3), mode="markers", name=names[label],
            customdata=nodes[here], hoverinfo="text",
            text=[
                f"row {data.train.rows[data.sample[s]]}, class {names[label]}<br>"
                + (f"node {data.nodes[nodes[s]]}" if nodes[s] >= 0 else "no node")
                for s in here
            ],
            marker={"size": 6, "color": colour(label), "symbol": MARKS[mark(label)],
                    "line": {"width": 0.5, "color": OUTLINE}},
        )  # fmt: skip
    figure.add_scatter(
        x=prototypes[:, 0].round(3), y=prototypes[:, 1].round(3), mode="markers", name="prototypes", hoverinfo="text",
        customdata=np.arange(data.num_nodes), text=node_texts(data),
        marker={"size": 9, "symbol": "x-thin", "line": {"width": 2, "color": OUTLINE}},
    )  # fmt: skip
    figure.add_trace(ring())
    many = len(set(labels.tolist())) > ENTRIES
    return bare_axes(frame(figure, showlegend=not many), equal=explained is not None)


def _region_traces(data: MapData, places: np.ndarray, nodes: np.ndarray) -> list[go.Heatmap]:
    """Regions of the nodes in the colours of their classes, and their borders."""
    x, y, spots = regions(places, nodes)
    classes = np.where(spots >= 0, data.shown_classes[spots], -1)
    most = max(1, data.num_classes)
    steps = [[(c + e) / most, colour(c)] for c in range(most) for e in (0, 1)]
    common: dict[str, Any] = {"x": x.round(3), "y": y.round(3), "showscale": False}
    return [
        go.Heatmap(
            z=np.where(classes >= 0, classes, np.nan).astype(np.float32), text=data.nodes[spots].astype(np.int32),
            customdata=spots.astype(object),  # a list on the page: a click does not look into packed rows
            zmin=-0.5, zmax=most - 0.5, colorscale=steps, opacity=0.28, name="regions", hoverongaps=False,
            hovertemplate="region of node %{text}<extra></extra>", **common,
        ),
        go.Heatmap(
            z=np.where(borders(spots), 1, np.nan).astype(np.float32), zmin=0, zmax=1,
            colorscale=[[0, OUTLINE], [1, OUTLINE]], opacity=0.4, name="borders", hoverinfo="skip", **common,
        ),
    ]  # fmt: skip
