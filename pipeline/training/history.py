"""How a map came to be: some moments of its training, kept small, for looking at and for nothing else.

One file in the directory of a run, `history.safetensors`: the alive nodes of a few states (prototypes in float16) and
the numbers of every epoch. Where there are too many moments every other one is dropped, so a long training keeps as
many as a short one, evenly. Axes: A alive nodes, D features, E pairs of neighbours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.places import write_atomically
from pipeline.training.checkpoint import TornCheckpoint, read_tensors
from somcore.state import MapState

HISTORY = "history.safetensors"
_MOST_EDGES = 20_000
_TENSORS = ("nodes", "prototypes", "classes", "edges")


@dataclass(frozen=True)
class Moment:
    """The alive nodes of a map after some round.

    Attributes:
        round: rounds done.
        samples: samples presented until then.
        nodes: (A,) int32, their slots.
        prototypes: (A, D) float16.
        classes: (A,) int32, class or -1.
        edges: (E, 2) int32, places among the alive nodes; empty where there are more than the file should hold.
    """

    round: int
    samples: int
    nodes: Tensor
    prototypes: Tensor
    classes: Tensor
    edges: Tensor

    @classmethod
    def of(cls, state: MapState, samples: int) -> Moment:
        """What is kept of a state."""
        nodes = state.alive.nonzero().squeeze(1)
        edges = state.neighbours[nodes][:, nodes].triu(1).nonzero()
        return cls(
            round=state.round,
            samples=samples,
            nodes=nodes.to(torch.int32),
            prototypes=state.prototypes[nodes].to(torch.float16),
            classes=state.classes[nodes].to(torch.int32),
            edges=(edges if len(edges) <= _MOST_EDGES else edges[:0]).to(torch.int32),
        )


class History:
    """The moments of one run, and the numbers of its epochs.

    Args:
        path: of the file.
        most: moments to keep; 0 = none.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.path, self._most = path, most
        self.moments: list[Moment] = []
        self.epochs: list[dict[str, float]] = []
        self._stride, self._seen = 1, 0

    @classmethod
    def load(cls, path: Path, most: int = 0) -> History:
        """What a file holds; nothing if there is none, or it cannot be read."""
        history = cls(path, most)
        if not path.exists():
            return history
        try:
            header, found = read_tensors(path)
            about = json.loads(header["about"])
            for number, moment in enumerate(about["moments"]):
                tensors: dict[str, Any] = {name: found[f"{number}.{name}"] for name in _TENSORS}
                history.moments.append(Moment(**moment, **tensors))
        except (TornCheckpoint, ValueError, KeyError, TypeError):
            return cls(path, most)
        history.epochs = about["epochs"]
        history._stride, history._seen = about["stride"], about["seen"]
        return history

    @property
    def last(self) -> int:
        """The last epoch whose numbers are there; 0 = none."""
        return int(self.epochs[-1]["epoch"]) if self.epochs else 0

    def cut(self, round_index: int, epoch: int) -> None:
        """Forgets what is later than a round: a run goes on from there."""
        self.moments = [moment for moment in self.moments if moment.round <= round_index]
        self.epochs = [numbers for numbers in self.epochs if numbers["epoch"] <= epoch]

    def add(self, state: MapState, samples: int) -> None:
        """Notes a state, if it is its turn; the last one is always there."""
        if not self._most or state.num_nodes == 0 or (self.moments and self.moments[-1].round == state.round):
            return
        if self.moments and not state.finished and self._seen % self._stride:
            self._seen += 1
            return
        self._seen += 1
        self.moments.append(Moment.of(state, samples))
        if len(self.moments) > self._most:
            self.moments = (self.moments[:-1:2] + self.moments[-1:])[-self._most :]
            self._stride *= 2

    def note(self, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Notes the numbers of an epoch."""
        self.epochs.append({"epoch": epoch, **{k: v for k, v in metrics.items() if v is not None and v == v}})

    def save(self) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        from safetensors.torch import save

        if not self._most:
            return
        tensors = {
            f"{number}.{name}": getattr(moment, name).contiguous().clone()
            for number, moment in enumerate(self.moments)
            for name in _TENSORS
        }
        moments = [{"round": moment.round, "samples": moment.samples} for moment in self.moments]
        about: dict[str, Any] = {"moments": moments, "epochs": self.epochs}
        about |= {"stride": self._stride, "seen": self._seen}
        write_atomically(self.path, save(tensors, {"about": json.dumps(about)}))
