"""The same views for papers: functions that return matplotlib figures, in print colours, to be saved as PNG or SVG.

>>> from pathlib import Path
>>> from pipeline.report.figures import FIGURES, save
>>> "umatrix" in FIGURES
True

Axes: A alive nodes, D features, m samples embedded, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.report.charts import mark_sizes
from pipeline.report.data import MapData
from pipeline.report.figure_parts import (
    bare,
    blank,
    class_marks,
    draw_edges,
    in_every_script,
    legend,
    mosaic,
    one_plane,
    planes,
    tinted,
)
from pipeline.report.palette import apart, names_of, printed
from pipeline.report.pictures import prototype_pictures, relevance_pictures
from pipeline.report.placement import regions
from pipeline.report.score_charts import CURVES, answers, classes_then, curve_points


def map_figure(data: MapData) -> Figure:
    """The map as a graph: nodes by lattice or distance, area by samples, colour and mark by class."""
    figure, axes = blank(6.4, 5.2)
    draw_edges(axes, data)
    names, sizes = _class_names(data), mark_sizes(data)
    class_marks(axes, places=data.places, labels=data.shown_classes, areas=(0.6 * sizes) ** 2, names=names, none="none")
    legend(data, axes)
    return bare(figure, axes)


def u_matrix_figure(data: MapData) -> Figure:
    """Mean distance of each prototype to those of its neighbours; of a node without any, to the nearest one."""
    label = ";\n".join(filter(None, ["distance to neighbours", data.lonely_said]))
    return one_plane(data, data.measures["u_height"], label)


def hits_figure(data: MapData) -> Figure | None:
    """Samples of each node; None without data."""
    return None if data.train is None else one_plane(data, data.measures["samples"], "samples")


def components_figure(data: MapData) -> Figure:
    """The features in which prototypes differ most, one plane each."""
    return planes(data, data.prototypes)


def relevances_figure(data: MapData) -> Figure | None:
    """Relevances of the same features; None for maps without relevances."""
    return None if bool((data.relevances == 1).all()) else planes(data, data.relevances, 0.0, 1.0)


def prototypes_figure(data: MapData) -> Figure | None:
    """Pictures of the prototypes: on the lattice, or the nodes with most samples first; None where there are none."""
    pictures, _ = prototype_pictures(data)
    return None if pictures is None else mosaic(data, pictures)


def pixel_relevances_figure(data: MapData) -> Figure | None:
    """Relevances of pixels as pictures, in the order of `prototypes_figure`; None where features are no pixels."""
    pictures = relevance_pictures(data)
    return None if pictures is None else mosaic(data, pictures, "viridis")


def growth_figure(data: MapData) -> Figure | None:
    """Prototypes at four moments of the training, in the main plane of the samples; None without a history."""
    moments = [m for m in data.history.moments if m.prototypes.shape[1] == data.prototypes.shape[1]]
    if len(moments) < 2:
        return None
    chosen = [moments[i] for i in np.unique(np.linspace(0, len(moments) - 1, 4).round().astype(int))]
    figure = Figure(figsize=(2.6 * len(chosen) + 0.8, 2.9), layout="constrained")
    around, names = data.plane(data.features) if len(data.features) >= 3 else None, _class_names(data)
    panels = figure.subplots(1, len(chosen), sharex=True, sharey=True)
    for axes, moment in zip(panels, chosen, strict=True):
        if around is not None:
            axes.scatter(around[:, 0], around[:, 1], s=1, c="#cccccc", linewidths=0)
        places, edges = data.plane(moment.prototypes.float().numpy()), moment.edges.numpy()
        axes.add_collection(LineCollection(list(places[edges]), colors="#999999", linewidths=0.4))
        classes = classes_then(data, moment)
        class_marks(axes, places=places, labels=classes, areas=np.full(len(classes), 14.0), names=names)
        axes.set_title(f"round {moment.round}: {len(places)} nodes", fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    legend(data, *panels)
    return figure


def embedding_figure(data: MapData, method: str = "pca") -> Figure | None:
    """Samples in two dimensions over the regions of their BMUs.

    Args:
        data: of the run.
        method: pca, tsne or umap.

    Returns:
        None without data, or where the method is not installed.
    """
    found = data.embedded((method,)).get(method)
    if found is None or data.train is None:
        return None
    places, prototypes = found
    figure, axes = blank(6.4, 5.2)
    nodes, labels = data.train.nodes[data.sample], data.train.labels[data.sample]
    if (nodes >= 0).sum() >= 3:
        x, y, spots = regions(places[nodes >= 0], nodes[nodes >= 0], 400)
        axes.pcolormesh(x, y, tinted(data, spots), shading="nearest", rasterized=True, zorder=0)
    names = _class_names(data)
    class_marks(axes, places=places, labels=labels, areas=np.full(len(labels), 9.0), names=names, none="unknown")
    x, y = prototypes.T
    axes.scatter(x, y, s=22, c="black", marker="x", linewidths=1, label="prototypes", zorder=3)
    legend(data, axes)
    return bare(figure, axes, equal=method == "pca")


def confusion_figure(data: MapData) -> Figure | None:
    """Rows by true class (down) and said class (across); None where no class is known."""
    if data.scored is None or data.num_classes == 0 or not (data.scored.labels >= 0).any():
        return None
    table = answers(data, data.scored)
    table = table if table[:, -1].any() else table[:, :-1]
    shares = table / np.maximum(1, table.sum(1, keepdims=True))
    side = max(3.6, 0.42 * data.num_classes + 1.6) if data.num_classes <= 20 else 8.0
    names = _class_names(data)
    longest = max(map(len, names))
    upright = len(names) > 10 or longest > 6
    room = 0.08 * longest  # inches
    figure, axes = blank(side + 0.9 + room, side + room * upright)
    figure.set_layout_engine("compressed")  # the other one cuts what stands left of a square beside a colour bar
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    letters = min(10, 500 / len(names))  # points
    across = [*names, "none"][: table.shape[1]]
    axes.set_xticks(range(len(across)), across, rotation=90 if upright else 0, fontsize=letters)
    axes.set_yticks(range(len(names)), names, fontsize=letters)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(table):
            if count:
                ink = "black" if shares[row, column] > 0.6 else "white"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=ink)
    axes.set_xlabel("said by the map")
    axes.set_ylabel("true class")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
    return figure


def curves_figure(data: MapData) -> Figure | None:
    """Numbers of the training by epoch, as `curve_points` has them; None without a history."""
    epochs = data.history.epochs
    present = [key for key in CURVES if any(key in numbers for numbers in epochs)]
    if not present:
        return None
    figure = Figure(figsize=(5.2, 1.5 * len(present) + 0.4), layout="constrained")
    for axes, key in zip(figure.subplots(len(present), 1, sharex=True, squeeze=False)[:, 0], present, strict=True):
        x, y = curve_points(data, key)
        axes.plot(x, y, color="#2F7FC1", marker="." if len(x) < 40 else None)
        axes.set_ylabel(CURVES[key], fontsize=8)
        axes.grid(alpha=0.3)
        for axis in (axes.xaxis, axes.yaxis) if key == "nodes" else (axes.xaxis,):
            axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # no half an epoch, no half a node
    axes.set_xlabel("epoch")
    return figure


def _class_names(data: MapData) -> list[str]:
    return apart(names_of(data.class_names, data.num_classes), 24, printed)


FIGURES: dict[str, Callable[[MapData], Figure | None]] = {
    "map": map_figure,
    "umatrix": u_matrix_figure,
    "hits": hits_figure,
    "components": components_figure,
    "relevances": relevances_figure,
    "prototypes": prototypes_figure,
    "pixel-relevances": pixel_relevances_figure,
    "growth": growth_figure,
    "embedding": embedding_figure,
    "confusion": confusion_figure,
    "curves": curves_figure,
}


def save(figures: dict[str, Figure], folder: Path, kinds: tuple[str, ...] = ("png", "svg")) -> list[Path]:
    """Writes figures, one file for each kind; their places."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        in_every_script(figure)
        for kind in kinds:
            path = folder / f"{name}.{kind}"
            with warnings.catch_warnings():  # where no font has a letter of a name, a box stands in its place
                warnings.filterwarnings("ignore", message="Glyph .* missing from")
                figure.savefig(
                    path, dpi=200 if kind == "png" else 150, metadata={"Date": None} if kind == "svg" else None
                )
            figure.set_layout_engine("none")  # what the first kind has laid out serves the others
            written.append(path)
    return written


def all_figures(data: MapData) -> dict[str, Figure]:
    """Every figure that there is for this run, by name."""
    made = {name: make(data) for name, make in FIGURES.items()}
    return {name: figure for name, figure in made.items() if figure is not None}
