"""What the figures for papers are made of.

Axes: A alive nodes, D features.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.patches import RegularPolygon
from matplotlib.text import Text

from pipeline.report.charts import ENTRIES, edges_drawn, spacing
from pipeline.report.data import MapData
from pipeline.report.nodes import features_shown, short_names
from pipeline.report.palette import MATPLOTLIB_MARKS, colour, mark, printed
from pipeline.report.placement import borders

_PLANES, _PICTURES = 12, 400
_CJK_FONTS = (  # of Linux, macOS and Windows
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo",
    "Arial Unicode MS", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic",
)  # fmt: skip
_LEGEND_AREA, _MARGIN = 36.0, 0.08  # square points; share of the axes around what is drawn


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def bare(figure: Figure, axes: Axes, equal: bool = True) -> Figure:
    """Without axes: places mean nothing but nearness."""
    axes.set_axis_off()
    axes.margins(_MARGIN)
    if equal:
        axes.set_aspect("equal", adjustable="datalim")
    return figure


def in_every_script(figure: Figure) -> None:
    """Letters that the font of matplotlib lacks come from those of these fonts that are installed."""
    there = {font.name for font in fontManager.ttflist}
    if more := [name for name in _CJK_FONTS if name in there]:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_fontfamily([*text.get_fontfamily(), *more])


def legend(data: MapData, *axes: Axes) -> None:
    """Classes at the right, with marks of one size; of many, how many there are, and what the other marks are."""
    handles, names = zip(*(one.get_legend_handles_labels() for one in reversed(axes)), strict=True)
    entries = dict(zip(chain(*names), chain(*handles), strict=True))
    if data.num_classes:
        title = "class" if data.num_classes <= ENTRIES else f"{data.num_classes} classes"
        beside: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "frameon": False}
        made = axes[-1].legend(entries.values(), entries.keys(), title=title, fontsize=8, **beside)
        for handle in made.legend_handles:
            if isinstance(handle, PathCollection):  # nodes differ in size, their marks in here do not
                handle.set_sizes([_LEGEND_AREA])


def draw_edges(axes: Axes, data: MapData, width: float = 0.5) -> None:
    """Neighbours as thin lines."""
    lines = list(data.places[edges_drawn(data)])
    axes.add_collection(LineCollection(lines, colors="#aaaaaa", linewidths=width, zorder=1))


def tinted(data: MapData, spots: np.ndarray) -> np.ndarray:
    """Regions as colours (size, size, 4): tints of the classes of their nodes, borders grey."""
    from matplotlib.colors import to_rgba

    classes = data.shown_classes
    tints = np.array([to_rgba(colour(int(label)), 0.28) for label in classes] + [(1, 1, 1, 0)])
    found: np.ndarray = tints[spots]
    found[borders(spots)] = (0.5, 0.5, 0.5, 0.6)
    return found


def class_marks(
    axes: Axes,
    *,
    places: np.ndarray,
    labels: np.ndarray,
    areas: np.ndarray,
    names: list[str] | None = None,
    none: str = "none",
) -> None:
    """Marks in the colours of their classes: places (n, 2), labels (n,), areas (n,) in square points."""
    for label in sorted(set(labels.tolist())):
        here, said = labels == label, names[label] if names and label >= 0 else none
        if names and label >= 0 and len(names) > ENTRIES:
            said = "_nolegend_"
        axes.scatter(
            places[here, 0], places[here, 1], s=areas[here], c=colour(label), marker=MATPLOTLIB_MARKS[mark(label)],
            edgecolors="#555555", linewidths=0.4, zorder=2, label=said,
        )  # fmt: skip


def draw_plane(
    axes: Axes, data: MapData, values: np.ndarray, low: float | None = None, high: float | None = None
) -> Any:
    """One number of every node in its place: cells on a lattice, elsewhere marks as large as the space between."""
    if not data.lattice:
        draw_edges(axes, data, 0.3)
        figure, box = axes.get_figure(root=True), axes.get_position()
        assert figure is not None
        width, height = figure.get_size_inches() * 72  # points
        side = float(np.clip(0.9 * spacing(data, box.width * width, box.height * height), 3, 9))
        x, y = data.places.T
        drawn: Any = axes.scatter(
            x, y, c=values, s=side**2, vmin=low, vmax=high, edgecolors="#777777", linewidths=0.3, zorder=2
        )
        axes.margins(_MARGIN)
    else:
        square = data.config.lattice == "rectangular"
        corners, radius, turn = (4, 0.5**0.5, np.pi / 4) if square else (6, 1 / 3**0.5, 0.0)
        cells = [RegularPolygon((x, y), corners, radius=radius, orientation=turn) for x, y in data.places]
        drawn = PatchCollection(cells, edgecolors="face", linewidths=0.2)
        drawn.set_array(np.asarray(values, dtype=np.float64))
        drawn.set_clim(low, high)
        axes.add_collection(drawn)
        axes.autoscale_view()
    axes.set_aspect("equal", adjustable="datalim")  # the axes stay where there is room for them
    axes.set_axis_off()
    return drawn


def one_plane(data: MapData, values: np.ndarray, label: str) -> Figure:
    """One number of every node, with its scale."""
    figure, axes = blank(5.6, 4.6)
    figure.colorbar(draw_plane(axes, data, values), ax=axes, label=label, shrink=0.8)
    return figure


def planes(data: MapData, values: np.ndarray, low: float | None = None, high: float | None = None) -> Figure:
    """Planes of the features in which prototypes differ most."""
    features = features_shown(data)
    spread = data.prototypes[:, features].std(0)
    features = features[np.sort(np.argsort(-spread, kind="stable")[:_PLANES])]
    columns = min(4, len(features))
    rows = -(-len(features) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.2 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, feature, name in zip(places, features, short_names(data, features, printed), strict=False):
        figure.colorbar(draw_plane(axes, data, values[:, feature], low, high), ax=axes, shrink=0.7)
        axes.set_title(name, fontsize=8)
    for axes in places[len(features) :]:
        axes.set_axis_off()
    return figure


def mosaic(data: MapData, pictures: np.ndarray, colours: str = "gray") -> Figure:
    """Pictures side by side: as the lattice has them, else those with most samples first, at most some hundred."""
    if data.lattice and data.config.columns:
        order, columns = np.argsort(data.nodes), data.config.columns
    else:
        order = np.argsort(-data.measures["samples"], kind="stable")[:_PICTURES]
        columns = int(np.ceil(np.sqrt(len(order))))
    height, width = pictures.shape[1:3]
    rows = -(-(int(data.nodes[order].max()) + 1 if data.lattice else len(order)) // columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1), *pictures.shape[3:]), 128, dtype=np.uint8)
    for number, node in enumerate(order.tolist()):
        row, column = divmod(int(data.nodes[node]) if data.lattice else number, columns)
        y, x = row * (height + 1), column * (width + 1)
        sheet[y : y + height, x : x + width] = pictures[node]
    figure, axes = blank(6.0, 6.0 * sheet.shape[0] / sheet.shape[1])
    axes.imshow(sheet, cmap=colours, vmin=0, vmax=255, interpolation="nearest")
    axes.set_axis_off()
    return figure
