"""FixMatch: consistency without a map. What the weak view is sure of, the strong view shall say too.

n samples of a tile, C classes.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.rivals.base import Term, Terms, Tile
from pipeline.rivals.supervised import SupervisedRival
from pipeline.training.checkpoint import Snapshot
from somcore.config import UNLABELLED


def sure_classes(scores: Tensor, labels: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """The unlabelled samples whose class is sure.

    Args:
        scores: (n, C) of weak views.
        labels: (n,) what may be read.
        confidence: least probability.

    Returns:
        Their places (m,) and classes (m,).
    """
    largest, classes = torch.softmax(scores, dim=1).max(1)
    places = ((largest >= confidence) & (labels == UNLABELLED)).nonzero().squeeze(1)
    return places, classes[places]


class FixMatchRival(SupervisedRival):
    """Cross-entropy of labelled weak views, and of strong views with the pseudo-label of a sure weak one.

    The second is divided by all unlabelled samples of the round, sure or not.

    Source: Sohn et al., NeurIPS 2020, equations 3 and 4.
    """

    terms: ClassVar[tuple[str, ...]] = ("cross_entropy", "consistency")
    labelled_only = False

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """Both parts; the strong view is computed only where it is needed."""
        config, size = self.rival.config, tile.num_samples - tile.num_labelled
        scores = self.classifier.scores(self.weak(tile.samples, self.draws(tile, "weak")))
        terms = {"cross_entropy": self.cross_entropy(scores, tile)}
        places, classes = sure_classes(scores.detach(), tile.labels, config.confidence)
        if len(places):
            draws = self.draws(_part(tile, places), "strong")
            strong = self.classifier.scores(self.strong(tile.samples[places], draws))
            total = functional.cross_entropy(strong, classes, reduction="sum")
            terms["consistency"] = Term(total, len(places), config.consistency_weight / max(1, size))
        return terms, None


def _part(tile: Tile, places: Tensor) -> Tile:
    """Some samples of a tile."""
    parts = {name: getattr(tile, name)[places] for name in ("samples", "labels", "rows", "positions")}
    return Tile(**parts, epoch=tile.epoch, places=tile.places, num_samples=tile.num_samples,
                num_labelled=tile.num_labelled)  # fmt: skip
