"""Interactive views of how good a map is and how it came to be: confusion, curves, growth.

Axes: A alive nodes, C classes, T moments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pipeline.report.charts import OUTLINE, bare_axes, edge_trace, frame
from pipeline.report.data import MapData, Rows
from pipeline.report.palette import SCALE, apart, names_of
from pipeline.report.placement import shown_edges
from pipeline.training.history import Moment

CURVES = {
    "quantization_error": "quantization error",
    "nodes": "nodes",
    "accuracy": "accuracy",
    "nmi": "NMI",
}
_LINE = "#2F7FC1"
_MOST_EDGES = 2500
_SIDE, _LEAST, _LARGEST = 460, 7, 13  # of a confusion matrix, and of its letters, in pixels


def answers(data: MapData, rows: Rows) -> np.ndarray:
    """(C, C + 1): rows by true class and by what the map says, last column none.

    Maps without classes are read by the majority of the training rows of each node.
    """
    said = rows.predicted
    if said is None:
        said = np.where(rows.nodes >= 0, data.majority[rows.nodes], -1)
    known, width = rows.labels >= 0, data.num_classes + 1
    told = np.where(said[known] < 0, width - 1, said[known])
    return np.bincount(rows.labels[known] * width + told, minlength=data.num_classes * width).reshape(-1, width)


def confusion_chart(data: MapData, table: np.ndarray) -> go.Figure:
    """Rows by true class (down) and predicted class (across), coloured by the share of the true class."""
    names, full = (apart(names_of(data.class_names, data.num_classes), most) for most in (14, 80))
    if not table[:, -1].any():
        table = table[:, :-1]
    across, said = ([*each, "none"][: table.shape[1]] for each in (names, full))
    totals = table.sum(1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros(table.shape), where=totals > 0)
    written = [[str(v) if v else "" for v in row] for row in table.tolist()] if len(names) <= 20 else None
    coloured = [[round(v, 4) if v else None for v in row] for row in shares.tolist()]
    hover = [
        [f"true {full[i]}, said {said[j]}<br>{table[i, j]} of {totals[i, 0]} ({shares[i, j]:.1%})"
         if table[i, j] else ""  # no cell is drawn
         for j in range(len(across))]
        for i in range(len(names))
    ]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            z=coloured, text=written, texttemplate="%{text}" if written else None, hovertext=hover,
            hoverinfo="text", colorscale=SCALE, zmin=0, zmax=1, xgap=1, ygap=1,
            colorbar={"thickness": 12, "title": {"text": "share of the true class", "side": "right"},
                      "tickformat": ".0%"},
        )
    )  # fmt: skip
    step = -(-len(across) * _LEAST // _SIDE)  # of very many classes only some have their names beside the axes
    letters = {"size": min(_LARGEST, _SIDE * step // len(across))}
    ticks = {"tickmode": "array", "tickfont": letters, "showgrid": False, "zeroline": False, "constrain": "domain"}
    figure.update_xaxes(
        **ticks, tickvals=list(range(0, len(across), step)), ticktext=across[::step], title_text="said by the map"
    )
    figure.update_yaxes(
        **ticks, tickvals=list(range(0, len(names), step)), ticktext=names[::step], title_text="true class",
        autorange="reversed", scaleanchor="x",
    )  # fmt: skip
    return frame(figure, margin={"l": 60, "r": 8, "t": 32, "b": 50})


def curve_points(data: MapData, key: str) -> tuple[list[float], list[float]]:
    """Epochs, and a number of the training in each that has it.

    A quantization error of zero at the very beginning is left out: the samples of the first round became the nodes, so
    nothing was measured, and the line would rise from there although the map gets better.
    """
    points = [(numbers["epoch"], numbers[key]) for numbers in data.history.epochs if key in numbers]
    if key == "quantization_error" and len(points) > 1 and points[0][1] == 0:
        points = points[1:]
    return [x for x, _ in points], [y for _, y in points]


def curves_chart(data: MapData) -> go.Figure | None:
    """Numbers by epoch, one below the other; the first shape is the line that marks a moment."""
    epochs = data.history.epochs
    present = [key for key in CURVES if sum(key in numbers for numbers in epochs) >= 1][:3]
    if not epochs or not present:
        return None
    figure = make_subplots(len(present), 1, shared_xaxes=True, vertical_spacing=0.09)
    for row, key in enumerate(present, 1):
        x, y = curve_points(data, key)
        figure.add_scatter(
            x=x, y=y, mode="lines+markers" if len(x) < 40 else "lines", line={"color": _LINE, "width": 2},
            marker={"size": 5}, name=CURVES[key], showlegend=False, row=row, col=1,
            hovertemplate=f"epoch %{{x}}<br>{CURVES[key]} %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
        whole = {"dtick": 1} if key == "nodes" and max(y) - min(y) < 6 else {"nticks": 5}
        figure.update_yaxes(title_text=CURVES[key], title_font={"size": 12}, **whole, row=row, col=1)
    figure.update_xaxes(title_text="epoch", row=len(present), col=1)
    line: dict[str, Any] = {"type": "line", "yref": "paper", "xref": "x", "y0": 0, "y1": 1, "x0": 0, "x1": 0}
    figure.update_layout(shapes=[line | {"line": {"color": OUTLINE, "width": 2, "dash": "dot"}}])
    return frame(figure, margin={"l": 64, "r": 12, "t": 32, "b": 44}, dragmode=False)


def growth_chart(data: MapData) -> tuple[go.Figure, list[dict[str, Any]]]:
    """Prototypes in the main plane of the samples; traces are samples, edges and nodes. And what each moment shows."""
    width = data.prototypes.shape[1]
    moments = []
    total = max(1, data.record.get("num_samples") or (data.train.total if data.train else 1))
    for moment in data.history.moments:
        if moment.prototypes.shape[1] != width:
            continue
        places = data.plane(moment.prototypes.float().numpy())
        edges = shown_edges(moment.edges.numpy().astype(np.int64), places, _MOST_EDGES)
        moments.append(
            {
                "round": moment.round,
                "epoch": round(moment.samples / total, 3),
                "x": places[:, 0].round(3).tolist(),
                "y": places[:, 1].round(3).tolist(),
                "c": classes_then(data, moment).tolist(),
                "n": moment.nodes.tolist(),
                "e": edges.ravel().tolist(),
            }
        )
    figure = go.Figure()
    around = data.plane(data.features) if len(data.features) >= 3 else np.zeros((0, 2))
    figure.add_scatter(
        x=around[:, 0].round(3), y=around[:, 1].round(3), mode="markers", hoverinfo="skip", showlegend=False,
        name="samples", marker={"size": 3, "color": "rgba(128,128,128,0.35)"},
    )  # fmt: skip
    figure.add_trace(edge_trace(np.zeros((0, 2), dtype=np.int64), around))
    figure.add_scatter(
        x=[], y=[], mode="markers", showlegend=False, name="nodes", hoverinfo="text", text=[],
        marker={"size": 10 if data.num_nodes <= 400 else 6, "line": {"width": 1, "color": OUTLINE}},
    )  # fmt: skip
    every = [around] + [np.stack([m["x"], m["y"]], axis=1) for m in moments]
    bare_axes(frame(figure))
    points = np.concatenate(every)
    if len(points) == 0:  # neither the data nor a moment is there
        return figure, moments
    low, high = points.min(0), points.max(0)
    margin = np.maximum(high - low, 1e-6) * 0.05
    figure.update_xaxes(range=[low[0] - margin[0], high[0] + margin[0]])
    figure.update_yaxes(range=[low[1] - margin[1], high[1] + margin[1]])
    return figure, moments


def classes_then(data: MapData, moment: Moment) -> np.ndarray:
    """(A,) classes of the nodes of a moment; of nodes without one, that of most of the drawn samples nearest to them.

    The finished map has the classes it is shown with everywhere. In deep runs the samples have moved since earlier
    moments, so there such nodes have no class until then.
    """
    classes = moment.classes.numpy().astype(np.int64)
    if moment.round == data.predictor.state.round and len(classes) == data.num_nodes:
        return data.shown_classes
    if (classes >= 0).all() or data.train is None or data.num_classes == 0 or data.predictor.deep is not None:
        return classes
    from scipy.spatial.distance import cdist

    nearest = cdist(data.features, moment.prototypes.double().numpy()).argmin(1)
    labels, counts = data.train.labels[data.sample], np.zeros((len(classes), data.num_classes), dtype=np.int64)
    np.add.at(counts, (nearest[labels >= 0], labels[labels >= 0]), 1)
    return np.where((classes < 0) & counts.any(1), counts.argmax(1), classes)
