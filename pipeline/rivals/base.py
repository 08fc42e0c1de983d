"""What a rival is: a network, what a tile costs, and what happens between rounds.

A rival is a composition of four answers; the rounds (`pipeline.rivals.rounds`), the exact sums, checkpoints, tracking
and scores are those of every training. In the end each leaves a map that the other commands understand: one node per
cluster, code or class, no relevances, a sample belongs to the nearest node.
n samples of a tile, N training rows, D features of the map, K nodes, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from pipeline.deep.augment import Draws
from pipeline.deep.network import Network, NetworkState
from pipeline.rivals.config import RivalPlan
from pipeline.training.checkpoint import Snapshot
from somcore.config import UNLABELLED
from somcore.state import MapState, blank_state

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan
    from pipeline.rivals.world import World
    from pipeline.training.plan import TrainingPlan


@dataclass(frozen=True)
class Tile:
    """Samples of one tile of a round.

    Attributes:
        samples: (n, P) scaled samples.
        labels: (n,) what may be read of their labels.
        rows: (n,) row numbers of the training split; on the CPU, as the map and what a rival remembers.
        positions: (n,) that tell the samples of an epoch apart.
        epoch: number of the pass.
        places: where in the round they stand.
        num_samples: samples of the whole round.
        num_labelled: labelled ones among them.
    """

    samples: Tensor
    labels: Tensor
    rows: Tensor
    positions: Tensor
    epoch: int
    places: slice
    num_samples: int
    num_labelled: int


@dataclass(frozen=True)
class Term:
    """A part of the loss on one tile.

    Attributes:
        sum: over the samples that contribute.
        count: how many these are.
        share: what the gradient of the sum is multiplied with: weight ÷ size in the round, known beforehand.
    """

    sum: Tensor
    count: int
    share: float


Terms = dict[str, Term]


class Rival:
    """Base of all rivals; what it does not override does nothing.

    Args:
        plan: of the training; its deep part names the rival.
        network: the modules, with the values of the round when a method is called.
        labels: (N,) what may be read of the labels.
    """

    terms: ClassVar[tuple[str, ...]] = ()
    """Names of the parts of the loss."""
    averaged: ClassVar[bool] = True
    """Whether the moving average of the parameters is what remains."""
    labelled_only: ClassVar[bool] = False
    """Whether it takes no unlabelled row."""

    def __init__(self, plan: TrainingPlan, network: Network, labels: Tensor) -> None:
        assert plan.deep is not None and plan.deep.rival is not None
        self.plan, self.deep, self.network, self.labels = plan, plan.deep, network, labels
        self.rival: RivalPlan = plan.deep.rival
        self.weak, self.strong = plan.deep.views()

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """The modules; `encoder` leads from samples to the features of the final map."""
        raise NotImplementedError

    @classmethod
    def num_features(cls, rival: RivalPlan, dim: int, sample_size: int) -> int:
        """D, for an encoder with `dim` outputs on samples of `sample_size` values."""
        return dim

    @classmethod
    def first(cls, rival: RivalPlan, snapshot: Snapshot) -> Snapshot:
        """Before the first round of a run: a map that can be scored already, if there is one."""
        return snapshot

    def begin(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Before a round: clusterings that are due."""
        return snapshot

    def rows(self, snapshot: Snapshot, rows: Tensor, epoch: int, positions: Tensor) -> Tensor:
        """(n,) rows of a round, in place of those of the epoch's order."""
        return rows

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """The parts of the loss on a tile, and its features (n, D) if `end` wants those of the whole round."""
        raise NotImplementedError

    def end(self, snapshot: Snapshot, features: Tensor | None) -> Snapshot:
        """After the optimiser's step: what is not learned by gradient."""
        return snapshot

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """After the last round: the final map, if it is not there yet."""
        return snapshot

    def draws(self, tile: Tile, view: str) -> Draws:
        """Where the numbers of a view of the tile come from."""
        return Draws(self.plan.config.seed, tile.epoch, tile.positions, view)


def plain_map(prototypes: Tensor, before: MapState, classes: Tensor | None = None) -> MapState:
    """A map of K nodes without relevances: a sample belongs to the nearest one.

    Args:
        prototypes: (K, D).
        before: the map it follows; its rounds, classes and ends are kept.
        classes: (K,) of the nodes; None = those of before.
    """
    count, size = prototypes.shape
    blank = blank_state(count, size, before.num_classes)
    same = before.capacity == count
    return dataclasses.replace(
        blank,
        prototypes=prototypes.detach().to("cpu", torch.float64, copy=True),
        alive=torch.ones(count, dtype=torch.bool),
        classes=(before.classes if same else blank.classes) if classes is None else classes,
        wins=before.wins if same else blank.wins,
        round=before.round,
        growing=False,
        finished=before.finished,
    )


def voted_classes(nodes: Tensor, labels: Tensor, num_nodes: int, num_classes: int) -> Tensor:
    """(K,) the commonest class among the labelled samples of each node (ties: lowest), UNLABELLED without any."""
    votes = torch.zeros(num_nodes, max(1, num_classes), dtype=torch.int64)
    marked = labels != UNLABELLED
    if num_classes:
        votes.index_put_((nodes[marked], labels[marked]), torch.ones(1, dtype=torch.int64), accumulate=True)
    return torch.where(votes.sum(1) > 0, votes.argmax(1), UNLABELLED)


def unsquashed(encoder: nn.Module) -> nn.Module:
    """An encoder without its squashing into (0, 1): clusterings by squared distance need the spread."""
    assert isinstance(encoder, nn.Sequential)
    return encoder[:-1]


def places_of(module: nn.Module, name: str) -> slice:
    """Where the parameters whose names begin so stand in the flat vector of a module's trainable parameters."""
    start = stop = place = 0
    for own, parameter in module.named_parameters():
        if parameter.requires_grad:
            if own.startswith(name):
                start = place if stop == 0 else start
                stop = place + parameter.numel()
            place += parameter.numel()
    assert stop, f"no parameter {name}"
    return slice(start, stop)


def replaced(network: NetworkState, places: slice, values: Tensor) -> NetworkState:
    """The network with other parameters at some places, whose optimiser begins anew."""
    changed = {}
    for name, new in (("values", values), ("average", values), ("first", None), ("second", None)):
        tensor = getattr(network, name).clone()
        tensor[places] = 0.0 if new is None else new.reshape(-1).to(tensor)
        changed[name] = tensor
    return dataclasses.replace(network, **changed)


def with_memory(snapshot: Snapshot, more: Mapping[str, Tensor]) -> Snapshot:
    """The snapshot with more tensors to remember."""
    return dataclasses.replace(snapshot, memory={**snapshot.memory, **more})
