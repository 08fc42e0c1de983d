"""Which rows a run is scored on, during training and at its end.

The test split where there is one, else the training split. Rows withheld for validation are scored apart: they
are what a search may look at. During training a fixed random part of the rows is enough.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.evaluation import evaluate
from pipeline.plan import TrainingPlan, training_labels
from pipeline.shards import Dataset
from somcore.sampling import sample_indices
from somcore.state import MapState

_SCORING_EPOCH = -2  # a draw of its own, apart from the epochs of training

Metrics = dict[str, float | None]


class Scorer:
    """Scores the map of a run.

    Args:
        plan: of the run.
        dataset: its data.
        limit: rows looked at during training; 0 = all.
    """

    def __init__(self, plan: TrainingPlan, dataset: Dataset, limit: int) -> None:
        self._plan, self._dataset = plan, dataset
        self.split = "test" if dataset.num_rows("test") else "train"
        count = dataset.num_rows(self.split)
        self._sample: Tensor | None = None
        if limit and limit < count:
            places = torch.arange(limit)
            self._sample = sample_indices(plan.config.seed, _SCORING_EPOCH, places, count).sort().values
        self._validation = self._validation_rows()

    def sample(self, state: MapState) -> Metrics:
        """Scores on a fixed part of the split, and on the validation rows."""
        return self._on(state, self.split, self._sample) | self._validated(state)

    def final(self, state: MapState) -> Metrics:
        """Scores on the whole split, and on the validation rows."""
        return self._on(state, self.split, None) | self._validated(state)

    def _validation_rows(self) -> tuple[str, Tensor] | None:
        if self._plan.validation_fraction > 0 and self._dataset.num_classes:
            _, withheld = training_labels(self._plan, self._dataset.labels("train"))
            return ("train", withheld) if len(withheld) else None
        count = self._dataset.num_rows("validation")
        if count == 0:
            return None
        return "validation", torch.arange(count)

    def _validated(self, state: MapState) -> Metrics:
        if self._validation is None:
            return {}
        split, rows = self._validation
        return {f"validation_{name}": value for name, value in self._on(state, split, rows).items()}

    def _on(self, state: MapState, split: str, rows: Tensor | None) -> Metrics:
        def read(part: Tensor) -> tuple[Tensor, Tensor | None]:
            return self._dataset.read(split, part)

        return evaluate(state, self._plan.config, read, self._dataset.num_rows(split), self._dataset.num_classes, rows)
