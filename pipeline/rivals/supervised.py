"""The encoder with a linear classifier, trained on the labelled rows alone.

n samples of a tile, C classes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.deep.encoders import LinearClassifier, make_encoder
from pipeline.deep.network import Network
from pipeline.rivals.base import Rival, Term, Terms, Tile, plain_map
from pipeline.rivals.config import RivalPlan
from pipeline.training.checkpoint import Snapshot
from somcore.config import UNLABELLED

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan


class SoftmaxClassifier(nn.Module):
    """An encoder, a linear map to class scores, and their softmax.

    Its map has one node per class at the corners of the simplex: of all corners the one of the largest probability is
    nearest, because ‖p − e_c‖² = ‖p‖² − 2 p_c + 1. So a classifier is scored and served like any map.
    """

    def __init__(self, encoder: nn.Module, dim: int, num_classes: int) -> None:
        super().__init__()
        self.body = encoder
        self.head = LinearClassifier(dim, num_classes)

    def scores(self, samples: Tensor) -> Tensor:
        """(n, P) to (n, C)."""
        scores: Tensor = self.head(self.body(samples))
        return scores

    def forward(self, samples: Tensor) -> Tensor:
        """(n, P) to (n, C) probabilities."""
        return torch.softmax(self.scores(samples), dim=1)


class SupervisedRival(Rival):
    """Cross-entropy on weak views of labelled samples; unlabelled ones are not looked at."""

    terms: ClassVar[tuple[str, ...]] = ("cross_entropy",)
    labelled_only = True

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """Encoder and classifier."""
        encoder = deep.encoder
        made = make_encoder(encoder.name, deep.sample, encoder.dim, encoder.width, encoder.weights)
        assert deep.rival is not None
        return Network(SoftmaxClassifier(made, encoder.dim, deep.rival.num_clusters))

    @classmethod
    def num_features(cls, rival: RivalPlan, dim: int, sample_size: int) -> int:
        """C probabilities."""
        return rival.num_clusters

    @property
    def classifier(self) -> SoftmaxClassifier:
        """The trained module."""
        assert isinstance(self.network.encoder, SoftmaxClassifier)
        return self.network.encoder

    @classmethod
    def first(cls, rival: RivalPlan, snapshot: Snapshot) -> Snapshot:
        """The map of a classifier never changes: one node per class at its corner."""
        classes = rival.num_clusters
        state = plain_map(torch.eye(classes), snapshot.state, classes=torch.arange(classes))
        return dataclasses.replace(snapshot, state=state)

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """Cross-entropy of the labelled samples."""
        view = self.weak(tile.samples, self.draws(tile, "weak"))
        return {"cross_entropy": self.cross_entropy(self.classifier.scores(view), tile)}, None

    @staticmethod
    def cross_entropy(scores: Tensor, tile: Tile) -> Term:
        """Over the labelled samples of a tile: (n, C) scores."""
        marked = tile.labels != UNLABELLED
        total = functional.cross_entropy(scores[marked], tile.labels[marked], reduction="sum")
        return Term(total, int(marked.sum()), 1 / max(1, tile.num_labelled))
