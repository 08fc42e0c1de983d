"""The rounds of all rivals: every worker's tiles, one exact sum of gradients, the same next values on every rank.

W workers, P parameters, N training rows, D features of the map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.deep.network import flat_gradient, load_flat, narrowed, trainable
from pipeline.deep.plan import DeepRound
from pipeline.deep.step import check_finite, one_step, packed_terms, term_sums
from pipeline.rivals import rival_class
from pipeline.rivals.base import Terms, Tile
from pipeline.rivals.clusters import nearest_nodes
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, planned_dataset, training_labels
from pipeline.training.reduction import Reduction, sum_gradients
from pipeline.training.tallies import added, deep_tallies, running
from somcore.config import UNLABELLED

_ACCEPTED = 0.95  # share of the training rows that the final map accepts


class RivalRounds:
    """The rounds of a rival, as one worker computes them.

    Args:
        plan: of the run; its deep part names the rival.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        assert plan.deep is not None and plan.deep.rival is not None
        self._plan, self._deep = plan, plan.deep
        self._dataset = planned_dataset(plan)
        self._labels, withheld = training_labels(plan, self._dataset.labels("train"))
        self._rows = plan.deep.trained_rows(self._labels, withheld)
        self._network = self._deep.network().to(plan.device)
        self._rival = rival_class(plan.deep.rival.name)(plan, self._network, self._labels)
        self._size = sum(parameter.numel() for parameter in trainable(self._network))

    def play(self, snapshot: Snapshot, reduction: Reduction, stay: Callable[[], None]) -> Snapshot:
        """One round: what is due before it, tiles, reduction, step; at the last one the final map is made."""
        assert snapshot.network is not None
        load_flat(self._network, snapshot.network.values)
        world = World(self._dataset, self._network, self._rows, self._labels, reduction, stay, self._plan.device)
        number = snapshot.state.round
        tallies = running(snapshot, self._plan.rounds_per_epoch)
        memory = {name: tensor.to("cpu") for name, tensor in snapshot.memory.items()}
        snapshot = dataclasses.replace(snapshot, state=snapshot.state.to("cpu"), tallies=tallies, memory=memory)
        snapshot = self._rival.begin(snapshot, world)
        assert snapshot.network is not None
        load_flat(self._network, snapshot.network.values)
        if self._size:
            snapshot = self._learned(snapshot, number, reduction, stay, world)
        state = dataclasses.replace(snapshot.state, round=number + 1)
        snapshot = dataclasses.replace(snapshot, state=state)
        return self._finish(snapshot, world) if state.round >= self._deep.rounds else snapshot

    def _learned(
        self, snapshot: Snapshot, number: int, reduction: Reduction, stay: Callable[[], None], world: World
    ) -> Snapshot:
        cut = self._cut(snapshot, number)
        gradients, tallies, features, first = [], self._tallied({}), [], None
        for place in cut.tiles(reduction.rank, reduction.world_size):
            stay()
            with narrowed(self._deep.settings.precision, self._plan.device):
                terms, seen = self._rival.loss(snapshot, self._tile(cut, place))
            gradients.append(self._gradient(terms, number))
            tallies += self._tallied(terms)
            if seen is not None:
                features.append(seen.detach().cpu().to(torch.float32))
                first = place.start if first is None else first
        stay()
        exact = self._plan.reduction == "exact"
        gradient, (tallies,) = sum_gradients(gradients, self._size, cut.num_tiles, reduction, [tallies], exact)
        network = snapshot.network
        assert network is not None
        if bool((tallies[1::2] > 0).any()):
            network = one_step(network, gradient, self._deep, number, self._rival.averaged)
        new = {"rounds": 1.0, "samples": float(cut.num_samples)}
        new |= deep_tallies(term_sums(self._rival.terms, tallies), {})
        snapshot = dataclasses.replace(snapshot, network=network, tallies=added(snapshot.tallies, new))
        load_flat(self._network, network.values)
        wanted = bool(features) if reduction.world_size == 1 else reduction.max(float(len(features))) > 0
        whole = world.gather(torch.cat(features) if features else None, first or 0, cut.num_samples) if wanted else None
        return self._rival.end(snapshot, whole)

    def _cut(self, snapshot: Snapshot, number: int) -> DeepRound:
        cut = DeepRound.of(number, self._plan.config, self._labels, self._rows, self._deep.extra)
        rows = self._rival.rows(snapshot, cut.rows, cut.epoch, cut.positions)
        cut = dataclasses.replace(cut, rows=rows, labels=self._labels[rows])
        if not self._rival.labelled_only:
            return cut
        marked = cut.labels != UNLABELLED
        kept = {name: getattr(cut, name)[marked] for name in ("rows", "labels", "positions")}
        return dataclasses.replace(cut, **kept)

    def _tile(self, cut: DeepRound, place: slice) -> Tile:
        device = self._plan.device
        samples = self._dataset.read("train", cut.rows[place])[0].to(device)
        labels, positions = cut.labels[place].to(device), cut.positions[place].to(device)
        labelled = int((cut.labels != UNLABELLED).sum())
        return Tile(samples, labels, cut.rows[place], positions, cut.epoch, place, cut.num_samples, labelled)

    def _gradient(self, terms: Terms, number: int) -> Tensor:
        parts = [term.sum * term.share for term in terms.values() if term.count and term.share]
        loss = torch.stack(parts).sum() if parts else None
        if loss is not None and loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        gradient = flat_gradient(self._network)
        check_finite(gradient, "The gradient", number)
        return gradient

    def _tallied(self, terms: Terms) -> Tensor:
        return packed_terms(self._rival.terms, terms, self._plan.device)

    def _finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """What remains: averaged parameters, the final map, and an error that most training rows stay below."""
        network = snapshot.network
        assert network is not None
        if self._rival.averaged and self._deep.settings.average_decay:
            network = dataclasses.replace(network, values=network.average)
            load_flat(self._network, network.values)
        snapshot = self._rival.finish(dataclasses.replace(snapshot, network=network), world)
        network = snapshot.network
        assert network is not None
        load_flat(self._network, network.values)
        state = dataclasses.replace(snapshot.state, growing=False, finished=True)
        errors = nearest_nodes(state, world.features(self._rows))[1]
        limit = float(errors.sort().values[int(_ACCEPTED * (len(errors) - 1))])
        network = dataclasses.replace(network, threshold=1 / (1 + max(limit, 1e-9)))
        return dataclasses.replace(snapshot, state=state, network=network, memory={})
