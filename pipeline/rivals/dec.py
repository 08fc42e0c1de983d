"""Deep embedded clustering: an autoencoder first, then its encoder and the centres sharpen their own assignment.

N training rows, n samples of a tile, D features, K clusters.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from pipeline.deep.network import Network, load_flat
from pipeline.rivals.autoencoder import AutoencoderRival, autoencoder
from pipeline.rivals.base import Term, Terms, Tile, places_of, plain_map, replaced, with_memory
from pipeline.rivals.clusters import k_means, settled
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan

_TARGET = "target"


class ClusteringNetwork(Network):
    """Encoder and decoder with trainable centres (K, D)."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module | None, num_clusters: int, dim: int) -> None:
        super().__init__(encoder, decoder)
        self.centres = nn.Parameter(torch.zeros(num_clusters, dim))


def soft_assignment(features: Tensor, centres: Tensor) -> Tensor:
    """q: Student's t with one degree of freedom around each centre, (n, D) and (K, D) to (n, K), rows sum to 1."""
    kernel = 1 / (1 + (features.unsqueeze(1) - centres).square().sum(2))
    return kernel / kernel.sum(1, keepdim=True)


def target_distribution(assignment: Tensor) -> Tensor:
    """p: the assignment squared, divided by the size of the clusters, (N, K) to (N, K), rows sum to 1."""
    weight = assignment.square() / assignment.sum(0)
    return weight / weight.sum(1, keepdim=True)


class DecRival(AutoencoderRival):
    """First the denoising autoencoder, then KL(p ‖ q) for encoder and centres; p is taken anew now and then.

    p comes from the clean samples of the whole training split, q from strong views.

    Source: Xie, Girshick & Farhadi, ICML 2016, equations 1 to 3; Guo et al., ACML 2018 (with data augmentation).
    """

    terms: ClassVar[tuple[str, ...]] = ("reconstruction", "divergence")
    averaged: ClassVar[bool] = False

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """Encoder, decoder, centres."""
        assert deep.rival is not None
        parts = autoencoder(deep)
        return ClusteringNetwork(parts.encoder, parts.decoder, deep.rival.num_clusters, deep.encoder.dim)

    @property
    def centres(self) -> Tensor:
        """(K, D)."""
        assert isinstance(self.network, ClusteringNetwork)
        return self.network.centres

    def begin(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Centres by k-means where the second part begins; targets where they are due."""
        config, since = self.rival.config, snapshot.state.round - self.pretraining
        if since < 0 or (since and since % config.target_rounds):
            return snapshot
        features = world.features(world.rows, self.network.encoder)
        if since == 0:
            centres, _ = k_means(features, self.rival.num_clusters, config.restarts, self.plan.config.seed)
            assert snapshot.network is not None
            network = replaced(snapshot.network, slice(None), snapshot.network.values)
            network = replaced(network, places_of(self.network, "centres"), centres)
            network = dataclasses.replace(network, steps=0)
            load_flat(self.network, network.values)
            state = plain_map(centres, snapshot.state)
            snapshot = dataclasses.replace(snapshot, network=network, state=state)
        target = torch.zeros(len(world.labels), self.rival.num_clusters)
        centres = self.centres.detach().cpu().to(torch.float64)
        target[world.rows] = target_distribution(soft_assignment(features.to(torch.float64), centres)).to(torch.float32)
        return with_memory(snapshot, {_TARGET: target})

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """The reconstruction, later the divergence."""
        if _TARGET not in snapshot.memory:
            return super().loss(snapshot, tile)
        features = self.network.encoder(self.strong(tile.samples, self.draws(tile, "strong")))
        wanted = snapshot.memory[_TARGET][tile.rows].to(features.device)
        logs = wanted.clamp_min(1e-12).log() - soft_assignment(features, self.centres).log()
        return {"divergence": Term((wanted * logs).sum(), len(tile.rows), 1 / tile.num_samples)}, None

    def end(self, snapshot: Snapshot, features: Tensor | None) -> Snapshot:
        """The map has its nodes at the centres."""
        if _TARGET not in snapshot.memory:
            return snapshot
        return dataclasses.replace(snapshot, state=plain_map(self.centres, snapshot.state))

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Nodes at the centres."""
        return settled(snapshot, self.centres, world)
