"""Deep rounds: every worker's tiles, one exact reduction, then the same next map and network on every rank.

Gradients are turned into integers with a scale that comes from the largest entry of all tiles (a MAX all-reduce), so
their sum, like that of the statistics, is the same for any number of workers. W workers, P parameters, D features.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.deep.collapse import Limits, judged, measures_of, monitored
from pipeline.deep.crossings import counted_crossings, with_classes_spread
from pipeline.deep.network import NetworkState, load_flat, trainable
from pipeline.deep.plan import DeepRound, deep_map_config, error_threshold
from pipeline.deep.refresh import look_at, rows_to_look_at
from pipeline.deep.step import TileResult, TileStep, one_step, packed_terms, term_sums
from pipeline.deep.tuning import labelled_parts, tuned
from pipeline.training.checkpoint import Snapshot
from pipeline.training.plan import TrainingPlan, planned_dataset, training_labels
from pipeline.training.reduction import Reduction, scale_of, sum_gradients
from pipeline.training.tallies import added, check_counted, deep_tallies, map_tallies, running
from somcore.config import UNLABELLED, MapConfig
from somcore.latent import LatentMoments
from somcore.losses import TERMS, RoundTotals
from somcore.refresh import open_map, refreshed, with_plain_relevances
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.threshold import calibrated
from somcore.update import advance, empty_statistics

_EARLY = 4


class DeepRounds:
    """The rounds of a deep run, as one worker computes them.

    Args:
        plan: of the run; its deep part is there.

    Attributes:
        limits: beyond which the representation has collapsed.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        assert plan.deep is not None
        self._plan, self._deep = plan, plan.deep
        self._dataset = planned_dataset(plan)
        self._labels, withheld = training_labels(plan, self._dataset.labels("train"))
        self._rows = self._deep.trained_rows(self._labels, withheld)
        trained, dim = self._labels[self._rows], self._deep.encoder.dim
        self.limits = Limits.of(self._deep.losses, trained, self._dataset.num_features, dim)
        if not plan.num_classes:  # labels say how large a node may rightly be; such a map reads none
            self._labels = torch.full_like(self._labels, UNLABELLED)
        read = self._labels[self._rows]
        self._classes = read[read != UNLABELLED].unique()
        self._network = self._deep.network().to(plan.device)
        self._size = sum(parameter.numel() for parameter in trainable(self._network))

    def play(self, snapshot: Snapshot, reduction: Reduction, stay: Callable[[], None]) -> Snapshot:
        """One round: refresh if due, measure, reduce, advance; at the last one the final map is made."""
        state, network = snapshot.state, snapshot.network
        assert network is not None
        if self._refresh_due(state, network):
            settings = self._deep.settings
            state, network, _ = self._refresh(
                state, network, reduction, stay, state.round, settings.refresh_rows, settings.refresh_tune_steps
            )
        load_flat(self._network, network.values)
        config = deep_map_config(self._plan.config, network.threshold)
        cut = DeepRound.of(state.round, config, self._labels, self._rows, self._deep.extra)
        frozen = with_plain_relevances(state, self._deep.losses.relevance_warmup_rounds or 0)
        if self._is_grown(state):
            frozen = dataclasses.replace(frozen, growing=False)
        results = self._measure(frozen, config, cut, reduction, stay)
        stay()
        merged, gradient, sums, moments = self._join(results, frozen, config, cut, reduction)
        check_counted(state.round, merged, cut.num_samples)
        after = advance(frozen, merged, config)
        if frozen.growing != state.growing:
            after = dataclasses.replace(after, growing=state.growing, finished=state.finished)
        active = any(sums[n][1] for n in TERMS)
        network = one_step(network, gradient, self._deep, state.round) if active else network
        measures = measures_of(merged, moments)
        network = monitored(network, measures, self.limits, state.round, self._deep)
        new = map_tallies(state, after, merged) | deep_tallies(sums, measures)
        tallies = added(running(snapshot, self._plan.rounds_per_epoch), new)
        if after.round >= self._deep.rounds:
            after, network = self._finish(after, network, reduction, stay)
        return Snapshot(after, tallies, snapshot.extra, network)

    def _measure(
        self, frozen: MapState, config: MapConfig, cut: DeepRound, reduction: Reduction, stay: Callable[[], None]
    ) -> list[TileResult]:
        labelled = int((cut.labels != UNLABELLED).sum()) if frozen.num_classes else 0
        totals = RoundTotals(cut.num_samples, labelled, cut.num_tiles)
        scale = self._scale(frozen, cut.num_samples)
        named = self._dataset.row_in_words
        step = TileStep(self._deep, self._network, frozen, config, totals, scale, named)
        results = []
        device = self._plan.device
        places = list(cut.tiles(reduction.rank, reduction.world_size))
        for place, following in itertools.zip_longest(places, places[1:]):
            stay()
            if following is not None:
                self._dataset.ahead("train", cut.rows[following])
            samples = self._dataset.read("train", cut.rows[place])[0].to(device)
            labels, positions = cut.labels[place].to(device), cut.positions[place].to(device)
            results.append(step(samples, labels, cut.epoch, positions, place.start, cut.rows[place]))
        return results

    def _join(
        self, results: list[TileResult], frozen: MapState, config: MapConfig, cut: DeepRound, reduction: Reduction
    ) -> tuple[BatchStatistics, Tensor, dict[str, tuple[float, int]], LatentMoments]:
        """Merged statistics, the gradient of the round, sums and counts of the terms, moments of the features."""
        statistics = empty_statistics(frozen, config, self._scale(frozen, cut.num_samples))
        moments = LatentMoments.zero(frozen.num_features, frozen.device)
        tallies = packed_terms(TERMS, {}, frozen.device)
        for result in results:
            statistics = statistics.merge(result.statistics)
            moments, tallies = moments.merge(result.moments), tallies + result.tallies
        merged = reduction.reduce(statistics)
        parts = [tallies, moments.table.flatten()]
        gradients = [result.gradient for result in results]
        exact = self._plan.reduction == "exact"
        gradient, (tallies, table) = sum_gradients(gradients, self._size, cut.num_tiles, reduction, parts, exact)
        return merged, gradient, term_sums(TERMS, tallies), LatentMoments(table.view_as(moments.table))

    def _scale(self, state: MapState, samples: int) -> int | None:
        return scale_of(state, samples, self._plan.reduction)

    def _is_grown(self, state: MapState) -> bool:
        """Whether nodes are inserted no more: the rounds of growth are over, and every class with labels has a node."""
        rounds = self._deep.settings.growth_rounds
        if rounds is None or state.round < rounds:
            return False
        represented = state.classes[state.alive].to(self._classes.device)
        return bool(torch.isin(self._classes, represented).all())

    def _refresh_due(self, state: MapState, network: NetworkState) -> bool:
        """Every `refresh_rounds`; four times as often in the beginning, when features move fastest."""
        if not self._plan.config.is_growing:
            return False  # the radius of a lattice moves all nodes along
        every = self._deep.settings.refresh_rounds or 0
        if state.round < _EARLY * every:
            every = max(1, every // _EARLY)
        return network.threshold == 0 or (every > 0 and state.round > 0 and state.round % every == 0)

    def _refresh(
        self,
        state: MapState,
        network: NetworkState,
        reduction: Reduction,
        stay: Callable[[], None],
        number: int,
        limit: int,
        steps: int = 0,
    ) -> tuple[MapState, NetworkState, dict[str, float]]:
        """The map and its threshold, put where the encoder is now, from clean views of some rows; what was seen.

        Then some steps of tuning on the labelled ones among them.
        """
        load_flat(self._network, network.values)
        config = deep_map_config(self._plan.config, network.threshold)
        rows = rows_to_look_at(self._rows, self._labels, config.seed, number, limit)
        opened, open_config = open_map(state, config)
        scale = self._scale(state, len(rows))
        source = self._network, self._dataset, self._labels
        seen = look_at(rows, opened, open_config, *source, reduction, stay, scale, keep=steps > 0)
        numeric = calibrated(deep_map_config(self._plan.config, 0.0), seen.histogram).activation_threshold
        network = dataclasses.replace(network, threshold=1.0 if isinstance(numeric, str) else numeric)
        moved = refreshed(state, seen.statistics, config)
        if steps and self._is_tunable(state):
            rate = self._deep.settings.refresh_tune_rate
            moved = self._tuned(moved, network, seen.marked, seen.num_tiles, steps, rate, reduction, stay)
        return moved, network, measures_of(seen.statistics, seen.moments)

    def _finish(
        self, state: MapState, network: NetworkState, reduction: Reduction, stay: Callable[[], None]
    ) -> tuple[MapState, NetworkState]:
        """The averaged encoder becomes the encoder; the map settles on it in a few passes over all rows.

        A lattice keeps the encoder that it was trained with.
        """
        if not self._plan.config.is_growing:
            return dataclasses.replace(state, growing=False, finished=True), network
        if self._deep.settings.average_decay:
            network = dataclasses.replace(network, values=network.average)
        state = dataclasses.replace(state, growing=False)
        seen: dict[str, float] = {}
        for number in range(self._deep.settings.final_passes):
            state, network, seen = self._refresh(
                state, network, reduction, stay, self._deep.rounds + number, len(self._rows)
            )
        network = judged(network, seen, self.limits, state.round, self._deep)
        if self._deep.settings.tune_steps and self._is_tunable(state):
            state = self._tune(state, network, reduction, stay)
        if self._deep.settings.crossings:
            load_flat(self._network, network.values)
            config, view = deep_map_config(self._plan.config, network.threshold), self._deep.views()[1]
            found = counted_crossings(state, self._network, config, view, self._dataset, self._rows, reduction, stay)
            state = with_classes_spread(state, found, config)
            network = dataclasses.replace(network, crossings=found)
        return dataclasses.replace(state, growing=False, finished=True), network

    def _is_tunable(self, state: MapState) -> bool:
        """Whether labels say where prototypes decide best: there must be more labelled rows than nodes."""
        return state.num_classes > 0 and self._deep.num_labelled > state.num_nodes

    def _tune(self, state: MapState, network: NetworkState, reduction: Reduction, stay: Callable[[], None]) -> MapState:
        """Prototypes moved to where they decide best on the labelled rows."""
        load_flat(self._network, network.values)
        rows = self._rows[self._labels[self._rows] != UNLABELLED]
        tile_size, settings = self._plan.config.tile_size, self._deep.settings
        parts, total = labelled_parts(self._network, self._dataset, self._labels, rows, tile_size, reduction, stay)
        return self._tuned(state, network, parts, total, settings.tune_steps, settings.tune_rate, reduction, stay)

    def _tuned(
        self,
        state: MapState,
        network: NetworkState,
        parts: list[tuple[Tensor, Tensor]],
        total: int,
        steps: int,
        rate: float,
        reduction: Reduction,
        stay: Callable[[], None],
    ) -> MapState:
        config = deep_map_config(self._plan.config, network.threshold)
        temperature, _ = self._deep.losses.decisions(error_threshold(config))
        exact = self._plan.reduction == "exact"
        return tuned(
            state, parts, total, temperature, steps=steps, rate=rate, exact=exact, reduction=reduction, stay=stay
        )
