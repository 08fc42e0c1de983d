"""DeepCluster: cluster the features, learn to predict the cluster, repeat.

N training rows, n samples of a round, D features, K pseudo-classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.deep.encoders import initialise, make_encoder
from pipeline.deep.network import Network, NetworkState, flat_parameters
from pipeline.errors import must
from pipeline.rivals.base import Rival, Term, Terms, Tile, places_of, replaced, unsquashed, with_memory
from pipeline.rivals.clusters import k_means, settled
from pipeline.rivals.config import RivalPlan
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot
from somcore.sampling import hash_uniform

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan

_PSEUDO, _STEADY = "pseudo", 1e-5


class Whitened(nn.Module):
    """Features on their principal axes with variance 1, then on the unit sphere: (n, D) to (n, A)."""

    def __init__(self, dim: int, axes: int) -> None:
        super().__init__()
        self.axes = nn.Linear(dim, axes)

    def forward(self, features: Tensor) -> Tensor:
        """Directions only."""
        return functional.normalize(self.axes(features))


class PseudoNetwork(Network):
    """Body and whitening, which lead to the clustered features, and a head for the pseudo-classes."""

    def __init__(self, body: nn.Module, dim: int, axes: int, num_classes: int) -> None:
        super().__init__(nn.Sequential(body, Whitened(dim, axes)), None)
        self.head = nn.Linear(dim, num_classes)

    @property
    def body(self) -> nn.Module:
        """From samples to features before whitening."""
        assert isinstance(self.encoder, nn.Sequential)
        return self.encoder[0]


def whitening(features: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Weight (A, D) and offset (A,) that take features to their first principal axes, with variance 1.

    Args:
        features: (N, D).
        axes: A.
    """
    values = features.to(torch.float64)
    mean = values.mean(0)
    spread, vectors = torch.linalg.eigh((values - mean).T @ (values - mean) / len(values))
    spread, vectors = spread.flip(0)[:axes], vectors.flip(1)[:, :axes]
    sign = torch.sign(vectors.gather(0, vectors.abs().argmax(0, keepdim=True)))  # else a matter of the library
    weight = (vectors * sign / (spread + _STEADY * spread[0] + 1e-30).sqrt()).T
    return weight, -weight @ mean


def balanced_rows(pseudo: Tensor, seed: int, epoch: int, positions: Tensor) -> Tensor:
    """Rows of a round: first a cluster, all alike, then one of its rows.

    Args:
        pseudo: (N,) clusters, −1 for rows that are not trained on.
        seed: of the run.
        epoch: number of the pass.
        positions: (n,) in the epoch.
    """
    sizes = torch.bincount(pseudo[pseudo >= 0])
    starts = int((pseudo < 0).sum()) + sizes.cumsum(0) - sizes
    present = (sizes > 0).nonzero().squeeze(1)
    cluster = present[hash_uniform(seed, f"deepcluster/cluster/{epoch}", positions) % len(present)]
    member = hash_uniform(seed, f"deepcluster/row/{epoch}", positions) % sizes[cluster]
    return pseudo.sort(stable=True).indices[starts[cluster] + member]


class DeepClusterRival(Rival):
    """k-means on whitened features gives pseudo-labels; strong views learn them; the head begins anew each time.

    Source: Caron et al., ECCV 2018: whitening to the sphere, empty clusters refilled, sampling uniform over clusters.
    """

    terms: ClassVar[tuple[str, ...]] = ("pseudo_cross_entropy",)

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """Body, whitening, head."""
        encoder, rival = deep.encoder, deep.rival
        assert rival is not None and rival.config.pseudo_clusters is not None
        made = make_encoder(encoder.name, deep.sample, encoder.dim, encoder.width, encoder.weights)
        axes = rival.config.whitened_dim or encoder.dim
        return PseudoNetwork(unsquashed(made), encoder.dim, axes, rival.config.pseudo_clusters)

    @classmethod
    def num_features(cls, rival: RivalPlan, dim: int, sample_size: int) -> int:
        """Principal axes."""
        axes = rival.config.whitened_dim or dim
        if axes > dim:
            raise must("rival.whitened_dim", f"at most encoder.dim, {dim}", axes)
        return axes

    @property
    def modules(self) -> PseudoNetwork:
        """The trained modules."""
        assert isinstance(self.network, PseudoNetwork)
        return self.network

    def begin(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Clusters anew where an epoch begins that asks for it."""
        epoch, place = divmod(snapshot.state.round, self.plan.config.rounds_per_epoch(len(world.rows)))
        config = self.rival.config
        if place or epoch % config.reassign_epochs:
            return snapshot
        assert snapshot.network is not None and config.pseudo_clusters is not None
        network, features = self._whitened(snapshot.network, world)
        _, clusters = k_means(features, config.pseudo_clusters, 1, self.plan.config.seed + epoch)
        head = nn.Linear(self.modules.head.in_features, config.pseudo_clusters)
        initialise(head, self.plan.config.seed + epoch)
        network = replaced(network, places_of(self.network, "head"), flat_parameters(head))
        pseudo = torch.full_like(world.labels, -1)
        pseudo[world.rows] = clusters
        snapshot = with_memory(snapshot, {_PSEUDO: pseudo})
        return Snapshot(snapshot.state, snapshot.tallies, snapshot.extra, network, snapshot.memory)

    def _whitened(self, network: NetworkState, world: World) -> tuple[NetworkState, Tensor]:
        """The network with the whitening of its features, and these: (N, A)."""
        features = world.features(world.rows, self.modules.body)
        axes = self.plan.num_features
        weight, offset = whitening(features, axes)
        flat = torch.cat([weight.reshape(-1), offset]).to(torch.float32)
        network = replaced(network, places_of(self.network, "encoder.1.axes"), flat)
        moved = features @ weight.T.to(torch.float32) + offset.to(torch.float32)
        return network, functional.normalize(moved)

    def rows(self, snapshot: Snapshot, rows: Tensor, epoch: int, positions: Tensor) -> Tensor:
        """As many of each cluster."""
        return balanced_rows(snapshot.memory[_PSEUDO], self.plan.config.seed, epoch, positions)

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """Cross-entropy of the pseudo-labels on strong views."""
        features = self.modules.body(self.strong(tile.samples, self.draws(tile, "strong")))
        wanted = snapshot.memory[_PSEUDO][tile.rows].to(features.device)
        total = functional.cross_entropy(self.modules.head(torch.relu(features)), wanted, reduction="sum")
        return {"pseudo_cross_entropy": Term(total, len(wanted), 1 / tile.num_samples)}, None

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Whitens once more and clusters into as many clusters as asked."""
        assert snapshot.network is not None
        network, features = self._whitened(snapshot.network, world)
        seed, restarts = self.plan.config.seed, self.rival.config.restarts
        centres, _ = k_means(features, self.rival.num_clusters, restarts, seed)
        return settled(Snapshot(snapshot.state, snapshot.tallies, snapshot.extra, network), centres, world, features)
