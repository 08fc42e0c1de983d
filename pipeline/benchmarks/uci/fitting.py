"""One training of a map or a baseline, as cheaply as exactness allows.

Axes: N samples, K nodes, D features, C classes.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.benchmarks.uci.readout import DRAWN, read_out
from pipeline.sweeps.published_spaces import ParameterSet, map_config
from pipeline.sweeps.screening import can_screen, screen_map, screened_classes
from somcore.config import MapConfig
from somcore.initial import initial_state
from somcore.matching import predict_classes, predict_nodes
from somcore.metrics import clustering_accuracy, contingency
from somcore.sampling import sample_indices
from somcore.state import MapState
from somcore.threshold import calibrate
from somcore.update import accumulate, advance, round_scale


@dataclass(frozen=True)
class Answer:
    """What a trained model says of the rows it was asked about.

    Attributes:
        classes: (n,) int64 by readout; "" is the method's own rule.
        nodes: nodes of the map, 0 for methods that have none.
    """

    classes: dict[str, Tensor]
    nodes: int = 0


@dataclass(frozen=True)
class Training:
    """What a method is trained on.

    Attributes:
        features: (N, D) float64.
        labels: (N,) int64, UNLABELLED where unknown.
        num_classes: C.
        seed: seed of the map.
        screening: train maps by the compiled loops where they can.
    """

    features: Tensor
    labels: Tensor
    num_classes: int
    seed: int
    screening: bool = False


Fit = Callable[[ParameterSet, Training, Tensor], Answer]


def resolved(config: MapConfig, features: Tensor, num_classes: int) -> MapConfig:
    """The configuration with every number in place, the calibrated threshold included."""
    num_samples, num_features = features.shape
    config = config.resolve(num_samples=num_samples, num_features=num_features, num_classes=num_classes)
    return calibrate(config, num_samples, lambda rows: features[rows])


def train_map(config: MapConfig, features: Tensor, labels: Tensor | None, num_classes: int) -> MapState:
    """Train one map to its end, on one thread, with exact statistics: the estimators' loop without their checks.

    Args:
        config: resolved hyper-parameters.
        features: (N, D) float64.
        labels: (N,) int64, UNLABELLED where unknown; None = no labels.
        num_classes: C.
    """
    num_samples, num_features = features.shape
    state = initial_state(config, num_features, num_classes)
    max_abs = float(features.abs().max())
    rounds = config.rounds_per_epoch(num_samples)
    positions = torch.arange(num_samples)
    order, drawn = positions, -1
    while not state.finished:
        epoch, place = divmod(state.round, rounds)
        if epoch != drawn:
            order, drawn = sample_indices(config.seed, epoch, positions, num_samples, config.sampling), epoch
        rows = order[place * config.batch_size : (place + 1) * config.batch_size]
        scale = round_scale(state, max_abs, len(rows))
        merged = None
        for i, part in enumerate(rows.split(config.tile_size)):
            known = None if labels is None else labels[part]
            here = positions[i * config.tile_size :][: len(part)]
            statistics = accumulate(state, features[part], known, config, positions=here, scale=scale)
            merged = statistics if merged is None else merged.merge(statistics)
        assert merged is not None
        state = advance(state, merged, config)
    return state


def fit_map(variant: str, **changes: object) -> Fit:
    """A semi-supervised map as a method: train once, read the classes by its own and by the drawn rule."""

    def fit(values: ParameterSet, training: Training, asked: Tensor) -> Answer:
        features, labels, num_classes = training.features, training.labels, training.num_classes
        config = map_config(variant, values, features.shape[0], features.shape[1], training.seed)
        config = resolved(dataclasses.replace(config, **changes), features, num_classes)  # type: ignore[arg-type]
        screening = training.screening and can_screen(config)
        state = (screen_map if screening else train_map)(config, features, labels, num_classes)
        answers = {"": screened_classes(state, asked) if screening else predict_classes(state, asked, config)}
        drawn = read_out(state, features, labels, asked, values)
        answers[DRAWN] = answers[""] if drawn is None else drawn
        return Answer(answers, state.num_nodes)

    return fit


def fit_baseline(name: str) -> Fit:
    """A scikit-learn baseline as a method. Missing labels are the integer −1 (never the string: defect 25)."""

    def fit(values: ParameterSet, training: Training, asked: Tensor) -> Answer:
        labels, num_classes = training.labels, training.num_classes
        known = labels >= 0
        if name == "majority":
            winner = torch.bincount(labels[known], minlength=num_classes).argmax()
            return Answer({"": winner.expand(len(asked))})
        X, y = training.features.numpy(), labels.numpy()
        if name in ("nearest-neighbour", "logistic-regression"):
            X, y = X[known.numpy()], y[known.numpy()]
        if name != "nearest-neighbour" and len(set(y.tolist()) - {-1}) == 1:  # nothing to separate
            return Answer({"": labels[known][0].expand(len(asked))})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # not converged within the drawn iterations; rows nothing reaches
            model = _model(name, values, len(y)).fit(X, y)
            predicted = model.predict(asked.numpy())
        return Answer({"": torch.from_numpy(predicted).to(torch.int64)})

    return fit


def _model(name: str, values: ParameterSet, num_rows: int):  # type: ignore[no-untyped-def]
    """An unfitted scikit-learn model with the drawn parameters; more neighbours than rows are all rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.semi_supervised import LabelPropagation, LabelSpreading

    if name == "nearest-neighbour":
        return KNeighborsClassifier(n_neighbors=1)
    if name == "logistic-regression":
        return LogisticRegression(max_iter=1000)
    drawn = dict(values)
    if drawn:
        drawn["n_neighbors"] = min(int(drawn["n_neighbors"]), num_rows - 1)
    if "alpha" in drawn:
        drawn["alpha"] = min(max(float(drawn["alpha"]), 1e-3), 1 - 1e-3)
    kind = {"label-propagation": LabelPropagation, "label-spreading": LabelSpreading}[name]
    return kind(**drawn)


def cluster(
    variant: str, values: ParameterSet, features: Tensor, classes: Tensor, screening: bool, seed: int
) -> tuple[float, int]:
    """Train without labels on the whole table: one-to-one agreement of nodes and classes over all rows, nodes."""
    num_classes = int(classes.max()) + 1
    config = resolved(map_config(variant, values, features.shape[0], features.shape[1], seed), features, 0)
    state = (screen_map if screening and can_screen(config) else train_map)(config, features, None, 0)
    nodes, _ = predict_nodes(state, features, config)
    return clustering_accuracy(contingency(nodes, classes, state.capacity, num_classes)), state.num_nodes
