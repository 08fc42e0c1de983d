"""One tile of a deep round: samples to features, features to losses and statistics, losses to a gradient.

Pure but for the gradients that torch keeps in the parameters. n samples of a tile, P parameters, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.deep.augment import Draws, View
from pipeline.deep.network import Network, NetworkState, adam_step, flat_gradient, narrowed
from pipeline.deep.plan import DeepPlan, error_threshold
from pipeline.errors import Diverged
from somcore.config import UNLABELLED, MapConfig
from somcore.distance import rows_where
from somcore.latent import LatentMoments, errors_to
from somcore.losses import TERMS, RoundTotals, Views, class_logits
from somcore.measure import measure
from somcore.state import MapState
from somcore.statistics import BatchStatistics

_SUM_BITS = 24  # of loss sums, for tracking: they stay below 2^38


@dataclass(frozen=True)
class TileResult:
    """What one tile gives to its round.

    Attributes:
        statistics: for the map.
        gradient: (P,) float32 of the tile's share of the loss.
        tallies: `packed_terms` of all `TERMS`.
        moments: of the features.
    """

    statistics: BatchStatistics
    gradient: Tensor
    tallies: Tensor
    moments: LatentMoments


class TileStep:
    """Measures tiles with one network on one frozen map.

    Args:
        plan: the deep part of the plan.
        network: the modules, with the values of the round.
        state: the frozen map.
        config: its hyper-parameters in this round.
        totals: sizes of the round.
        scale: fixed-point scale of the statistics; None for plain sums.
        named: a row of the training split in words, for errors.
    """

    def __init__(
        self,
        plan: DeepPlan,
        network: Network,
        state: MapState,
        config: MapConfig,
        totals: RoundTotals,
        scale: int | None,
        named: Callable[[int], str],
    ) -> None:
        self._plan, self._network, self._state, self._config = plan, network, state, config
        self._totals, self._scale, self._named = totals, scale, named
        self._weak, self._strong = plan.views()

    def __call__(
        self, samples: Tensor, labels: Tensor, epoch: int, positions: Tensor, start: int, rows: Tensor
    ) -> TileResult:
        """One tile.

        Args:
            samples: (n, P) scaled samples.
            labels: (n,) int64.
            epoch: number of the pass.
            positions: (n,) int64, for augmentation.
            start: place of the first sample in the round.
            rows: (n,) where in the training split the samples are from, for errors.

        Raises:
            Diverged: a feature or the gradient is not finite.
        """
        weak = self._view(self._weak, samples, epoch, positions, "weak")
        features = self._encode(weak)
        tile = f"the tile at sample {start} of the round"
        check_finite(features, "The encoder's output", self._state.round, tile, rows, self._named)
        strong = self._strong_features(samples, labels, features, epoch, positions)
        views = Views(
            strong=strong,
            inputs=weak,
            decoded=self._decode(features),
            scores=self._classify(features),
            strong_scores=self._classify(strong),
        )
        out = measure(
            self._state,
            features,
            labels,
            self._config,
            self._plan.losses,
            error_threshold=error_threshold(self._config),
            views=views,
            positions=start + torch.arange(len(samples), device=samples.device),
            scale=self._scale,
        )
        loss = out.loss(self._totals)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        gradient = flat_gradient(self._network)
        check_finite(gradient, "The encoder's gradient", self._state.round, tile)
        tallies = packed_terms(TERMS, out.terms, features.device)
        return TileResult(out.statistics, gradient, tallies, LatentMoments.of(features))

    def _view(self, view: View, samples: Tensor, epoch: int, positions: Tensor, name: str) -> Tensor:
        with torch.no_grad():
            return view(samples, Draws(self._config.seed, epoch, positions, name))

    def _encode(self, samples: Tensor) -> Tensor:
        with narrowed(self._plan.settings.precision, samples.device):
            features: Tensor = self._network(samples)
        return features.to(torch.float32)

    def _decode(self, features: Tensor) -> Tensor | None:
        if self._network.decoder is None:
            return None
        decoded: Tensor = self._network.decoder(features)
        return decoded

    def _classify(self, features: Tensor | None) -> Tensor | None:
        if self._network.classifier is None or features is None:
            return None
        scores: Tensor = self._network.classifier(features)
        return scores

    def _strong_features(
        self, samples: Tensor, labels: Tensor, features: Tensor, epoch: int, positions: Tensor
    ) -> Tensor | None:
        """Features of the strong view, computed only for the rows that a term looks at; the weak ones elsewhere.

        On accelerators all are computed: asking who is sure would stall the queue.
        """
        losses = self._plan.losses
        wanted = self._strong_rows(labels, features)
        if wanted is None:
            return None
        if losses.agreement_weight > 0:
            wanted = torch.ones_like(wanted)
        rows = rows_where(wanted)
        if len(rows) == 0:
            return features.detach()
        strong = self._view(self._strong, samples[rows], epoch, positions[rows], "strong")
        return features.detach().index_copy(0, rows, self._encode(strong))

    def _strong_rows(self, labels: Tensor, features: Tensor) -> Tensor | None:
        """(n,) bool: rows whose strong view a term looks at; None while there is no such term."""
        losses, state = self._plan.losses, self._state
        started = losses.started(state.round)
        labelled = losses.strong_cross_entropy_weight > 0 and state.num_classes > 0
        guessed = started and losses.consistency_weight > 0 and state.num_classes > 0
        if not (labelled or guessed or (started and losses.agreement_weight > 0)):
            return None
        known = labels != UNLABELLED
        wanted = known & labelled
        if guessed:
            with torch.no_grad():
                temperature, _ = losses.decisions(error_threshold(self._config))
                soft = temperature if losses.class_error == "soft" else None
                logits = class_logits(errors_to(state, features.detach(), soft=soft), temperature)
                sure = torch.softmax(logits, dim=1).amax(1) >= losses.confidence * (1 - 1e-6)
            wanted = wanted | (sure & ~known)
        return wanted


def packed_terms(names: Collection[str], terms: Mapping[str, Any], device: torch.device | str) -> Tensor:
    """(2 · names,) int64: fixed-point sum and count of each term; 0 of those that are not there."""
    values = torch.zeros(2 * len(names), dtype=torch.int64, device=device)
    for place, name in enumerate(names):
        if name in terms:
            values[2 * place] = torch.round(terms[name].sum.detach().double() * 2.0**_SUM_BITS).to(torch.int64)
            values[2 * place + 1] = terms[name].count
    return values


def term_sums(names: Collection[str], tallies: Tensor) -> dict[str, tuple[float, int]]:
    """Sum and count of each term, from merged `packed_terms`."""
    values = tallies.tolist()
    return {name: (values[2 * i] * 2.0**-_SUM_BITS, values[2 * i + 1]) for i, name in enumerate(names)}


def one_step(
    network: NetworkState, gradient: Tensor, plan: DeepPlan, round_index: int, averaged: bool = True
) -> NetworkState:
    """The network one step further.

    Args:
        network: before it.
        gradient: (P,) float64 of the whole round.
        plan: rates and settings.
        round_index: of the round.
        averaged: with a moving mean of its parameters, if the settings have one.

    Raises:
        Diverged: the parameters are no longer finite, or a parameter will never move again.
    """
    settings = plan.settings
    stepped = adam_step(
        network,
        gradient,
        plan.step_size.at(round_index),
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        average_decay=settings.average_decay if averaged else 0.0,
    )
    check_finite(stepped.values, "The encoder's parameters", round_index)
    check_finite(stepped.second, "The encoder's gradient, squared,", round_index)  # infinite, it stops a parameter
    return stepped


def check_finite(
    values: Tensor,
    what: str,
    round_index: int,
    part: str = "",
    rows: Tensor | None = None,
    named: Callable[[int], str] = str,
) -> None:
    """Stops a training whose numbers are no longer finite, before they reach map or network.

    Args:
        values: to be checked; (n, ...) where there are rows.
        what: they are.
        round_index: the round.
        part: of the round, if they are of one.
        rows: (n,) of the training split.
        named: a row in words.

    Raises:
        Diverged: one of them is infinite or NaN.
    """
    if bool(torch.isfinite(values.sum())):  # one infinity or NaN makes the sum one
        return
    places = [f"round {round_index}"] + [part] * bool(part)
    if rows is not None and bool((wrong := ~torch.isfinite(values).all(1)).any()):
        places.append(named(int(rows[wrong.nonzero()[0, 0]])))
    raise Diverged(
        f"{what} must be finite. Got infinity or NaN in {', '.join(places)}. Checkpoints written before are intact; "
        "start anew with a smaller deep.learning_rate, or nearer to the defaults of loss.* and deep.weight_decay.",
        round=round_index,
    )
