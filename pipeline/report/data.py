"""A trained run and its data as plain arrays: what all views of the report are drawn from.

Axes: A alive nodes, D features of the map, N rows looked at, C classes, E pairs of neighbours, m rows embedded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from pipeline.report.placement import Plane, distances, embeddings, node_places
from pipeline.training.history import History
from somcore.config import LATTICES, MapConfig


@dataclass(frozen=True)
class Rows:
    """What the map says of rows of one split.

    Attributes:
        split: its name.
        total: rows of the split; more than N where only a part was looked at.
        rows: (N,) row numbers.
        labels: (N,) true classes, −1 unknown.
        nodes: (N,) place of the BMU among the alive nodes, −1 for noise.
        rho: (N,) error at the BMU.
        predicted: (N,) classes the map says, −1 none; None for maps without classes.
        novelty: (N,) as the predictor says it.
    """

    split: str
    total: int
    rows: np.ndarray
    labels: np.ndarray
    nodes: np.ndarray
    rho: np.ndarray
    predicted: np.ndarray | None
    novelty: np.ndarray


@dataclass(frozen=True)
class MapData:
    """A run, ready to be drawn. Arrays of nodes list the alive ones, in the order of their slots.

    Attributes:
        directory: of the run.
        record: what `run.json` says.
        about: what the map file says of itself.
        predictor: the model.
        dataset: the prepared data; None where they cannot be read here.
        nodes: (A,) slots.
        prototypes, relevances: (A, D).
        classes: (A,) class of the node or −1.
        edges: (E, 2) neighbours, places among the alive nodes.
        train: rows of the training split; None without data.
        scored: rows of the split that scores are from.
        sample: (m,) places in `train` of the rows that are embedded.
        features: (m, D) their features.
        history: how the map came to be.
    """

    directory: Path
    record: dict[str, Any]
    about: dict[str, Any]
    predictor: Predictor
    dataset: Dataset | None
    nodes: np.ndarray
    prototypes: np.ndarray
    relevances: np.ndarray
    classes: np.ndarray
    edges: np.ndarray
    train: Rows | None
    scored: Rows | None
    sample: np.ndarray
    features: np.ndarray
    history: History

    @property
    def config(self) -> MapConfig:
        """Hyper-parameters of the map."""
        return self.predictor.config

    @property
    def lattice(self) -> bool:
        """Whether nodes stand on a lattice."""
        return self.config.variant in LATTICES

    @property
    def num_nodes(self) -> int:
        """A."""
        return len(self.nodes)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of the data."""
        return self.predictor.class_names

    @property
    def num_classes(self) -> int:
        """C of the data, whether or not the map reads labels."""
        known = max((int(rows.labels.max(initial=-1)) + 1 for rows in (self.train, self.scored) if rows), default=0)
        return max(len(self.class_names), known, int(self.classes.max(initial=-1)) + 1)

    @cached_property
    def places(self) -> np.ndarray:
        """(A, 2): where nodes are drawn."""
        return node_places(self.config, self.nodes, self.prototypes, self.relevances)

    @cached_property
    def plane(self) -> Plane:
        """Main plane of the samples, or of the prototypes without data."""
        return Plane(self.features if len(self.features) >= 3 else self.prototypes)

    @cached_property
    def counts(self) -> np.ndarray:
        """(A, C + 1): training rows of each node by class, the last column those of unknown class."""
        width = self.num_classes + 1
        if self.train is None:
            return np.zeros((self.num_nodes, width), dtype=np.int64)
        inside = self.train.nodes >= 0
        labels = np.where(self.train.labels < 0, width - 1, self.train.labels)[inside]
        cells = np.bincount(self.train.nodes[inside] * width + labels, minlength=self.num_nodes * width)
        return cells.reshape(self.num_nodes, width)

    @cached_property
    def majority(self) -> np.ndarray:
        """(A,): commonest class among the samples of a node, −1 where none is known."""
        known = self.counts[:, :-1]
        if not known.shape[1]:
            return np.full(self.num_nodes, -1)
        return np.where(known.sum(1) > 0, known.argmax(1), -1)

    @cached_property
    def shown_classes(self) -> np.ndarray:
        """(A,): class that a node is drawn in: its own, else that of most of its samples."""
        return np.where(self.classes >= 0, self.classes, self.majority)

    @cached_property
    def measures(self) -> dict[str, np.ndarray]:
        """Numbers of each node, (A,): samples, purity, error (mean distance of its samples), novelty, u_height.

        NaN where there is none.
        """
        known, total = self.counts[:, :-1], self.counts.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            purity = known.max(1, initial=0) / np.where(known.sum(1) > 0, known.sum(1), np.nan)
        distance = rho = novelty = np.full(self.num_nodes, np.nan)
        if (rows := self.train) is not None:
            distance, rho = self.mean_distance(rows), self._mean_of(rows, rows.rho)
            by_error = rho / (rho + self.predictor.novelty_error)
            novelty = self._mean_of(rows, rows.novelty) if self.predictor.config.has_boxes else by_error
        return {
            "samples": total.astype(np.float64),
            "purity": purity,
            "error": distance,
            "novelty": novelty,
            "u_height": self.u_heights,
        }

    @cached_property
    def constant(self) -> np.ndarray:
        """(D,) bool: columns of a table with one value in all training rows; no latent feature, pixel or moment."""
        spec = self.predictor.spec
        if spec.kind != "table" or self.predictor.deep is not None:
            return np.zeros(self.prototypes.shape[1], dtype=bool)
        return np.equal(spec.low, spec.high)

    def by_relevance(self, nodes: np.ndarray | int) -> np.ndarray:
        """(..., D): features of nodes, the most relevant first; constant ones, which tell nothing apart, last."""
        return np.argsort(np.where(self.constant, np.inf, -self.relevances[nodes]), axis=-1, kind="stable")

    @cached_property
    def lonely(self) -> np.ndarray:
        """(A,) bool: whether a node has no neighbour."""
        return ~np.isin(np.arange(self.num_nodes), self.edges)

    @property
    def lonely_said(self) -> str:
        """What the heights of nodes without a neighbour are; empty where each has one."""
        count = int(self.lonely.sum()) if self.num_nodes > 1 else 0
        return f"of the {count} without any neighbour, to the nearest one" if count else ""

    @cached_property
    def u_heights(self) -> np.ndarray:
        """(A,): mean distance of a prototype to those of its neighbours; nodes without any, to the nearest one."""
        if self.num_nodes < 2:
            return np.zeros(self.num_nodes)
        between = distances(self.prototypes, self.relevances)
        near = np.zeros_like(between, dtype=bool)
        near[self.edges[:, 0], self.edges[:, 1]] = near[self.edges[:, 1], self.edges[:, 0]] = True
        np.fill_diagonal(between, np.inf)
        near[self.lonely, between[self.lonely].argmin(1)] = True
        return np.where(near, between, 0.0).sum(1) / near.sum(1)

    def samples_won(self, rows: Rows) -> np.ndarray:
        """(A,) int64: how many of the rows looked at each node won."""
        return np.bincount(rows.nodes[rows.nodes >= 0], minlength=self.num_nodes)

    def mean_distance(self, rows: Rows) -> np.ndarray:
        """(A,): mean distance of the rows that each node won, NaN where it won none."""
        return self._mean_of(rows, np.sqrt(rows.rho)) * np.sqrt(self.relevances.sum(1))

    def _mean_of(self, rows: Rows, numbers: np.ndarray) -> np.ndarray:
        """(A,): mean of a number of each row over the rows that a node won, NaN where it won none."""
        inside, total = rows.nodes >= 0, self.samples_won(rows)
        sums = np.bincount(rows.nodes[inside], numbers[inside], self.num_nodes)
        return np.where(total > 0, sums / np.maximum(total, 1), np.nan)

    def members(self, node: int) -> np.ndarray:
        """Places in `train` of the rows of a node, nearest first."""
        if self.train is None:
            return np.zeros(0, dtype=np.int64)
        order, starts = self._by_node
        return order[starts[node] : starts[node + 1]]

    @cached_property
    def _by_node(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.train is not None
        order = np.lexsort((self.train.rho, self.train.nodes))
        return order, np.searchsorted(self.train.nodes[order], np.arange(self.num_nodes + 1))

    def misfits(self, node: int) -> np.ndarray:
        """Places in `train` of what fits a node least: rows of another class, nearest first, then the farthest rows."""
        rows = self.members(node)
        if self.train is None or not len(rows):
            return rows
        labels, own = self.train.labels[rows], self.shown_classes[node]
        foreign = (labels >= 0) & (labels != own) & (own >= 0)
        return np.concatenate([rows[foreign], rows[~foreign][::-1]])

    def embedded(self, wanted: tuple[str, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Samples and prototypes in two dimensions, by method; see `placement.embeddings`."""
        if len(self.features) < 3:
            return {}
        return embeddings(self.features, self.prototypes, wanted, self.plane)
