"""An autoencoder, then k-means on its features: representation first, clusters afterwards.

n samples of a tile, P values of a sample, D features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from pipeline.deep.encoders import make_decoder, make_encoder
from pipeline.deep.network import Network
from pipeline.deep.sample_shape import SampleShape
from pipeline.rivals.base import Rival, Term, Terms, Tile, unsquashed
from pipeline.rivals.clusters import k_means, settled
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan


def autoencoder(deep: DeepPlan) -> Network:
    """Encoder without squashing, and a decoder of its kind: convolutions for convolutions, else a perceptron."""
    encoder, sample = deep.encoder, deep.sample
    made = make_encoder(encoder.name, sample, encoder.dim, encoder.width, encoder.weights)
    if encoder.name == "mlp":
        sample = SampleShape("table", (math.prod(sample.shape),))
    return Network(unsquashed(made), make_decoder(sample, encoder.dim, encoder.width))


def squared_error(decoded: Tensor, samples: Tensor) -> Tensor:
    """Sum over samples of the mean squared error over their values."""
    return (decoded - samples).square().mean(1).sum()


class AutoencoderRival(Rival):
    """A denoising autoencoder: the strong view goes in, the sample itself shall come out. k-means at the end.

    Source: Vincent et al. 2010 (denoising); the distortions are the strong views of all models here.
    """

    terms: ClassVar[tuple[str, ...]] = ("reconstruction",)

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """Encoder and decoder."""
        return autoencoder(deep)

    @property
    def pretraining(self) -> int:
        """Rounds of the autoencoder alone, for those that have a second part."""
        return max(1, round(self.rival.config.pretrain_share * self.deep.rounds))

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """Squared error of the reconstruction."""
        view = self.strong(tile.samples, self.draws(tile, "strong"))
        return {"reconstruction": self.reconstruction(self.network.encoder(view), tile)}, None

    def reconstruction(self, features: Tensor, tile: Tile) -> Term:
        """How far the decoder is from the samples."""
        decoder = self.network.decoder
        assert isinstance(decoder, nn.Module)
        count = len(tile.samples)
        return Term(squared_error(decoder(features), tile.samples), count, 1.0 / tile.num_samples)

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Clusters the features of the trained rows."""
        features = world.features(world.rows)
        centres, _ = k_means(features, self.rival.num_clusters, self.rival.config.restarts, self.plan.config.seed)
        return settled(snapshot, centres, world, features)
