"""VQ-VAE with one code per sample: a fixed codebook in the place of the map.

N training rows, n samples of a round, D features, K codes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pipeline.deep.network import Network
from pipeline.rivals.autoencoder import AutoencoderRival
from pipeline.rivals.base import Term, Terms, Tile, plain_map, with_memory
from pipeline.rivals.clusters import settled
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot
from pipeline.training.tallies import added, deep_tallies
from somcore.sampling import sample_indices

if TYPE_CHECKING:
    from pipeline.training.plan import TrainingPlan

_CODES = "codes."
_FIRST_ROWS, _FIRST_EPOCH = 4096, -5  # a draw of its own


def make_quantizer(dim: int, codes: int, decay: float, least_wins: float) -> Any:
    """The codebook: moving means, k-means start, codes that win less are put on samples of the round.

    Args:
        dim: D.
        codes: K.
        decay: share of the past in the moving means.
        least_wins: moving mean of the wins below which a code is dead.
    """
    from vector_quantize_pytorch import VectorQuantize

    return VectorQuantize(
        dim,
        codes,
        decay=decay,
        kmeans_init=True,
        threshold_ema_dead_code=least_wins,
        commitment_weight=1.0,
        sync_codebook=False,  # every worker sees the whole round: the package must not add them up again
        rotation_trick=False,  # the gradient of the code is that of the features: straight through
    )


class VqVaeRival(AutoencoderRival):
    """Strong view to features, features to the nearest code, code to the clean sample.

    First the autoencoder alone: from scratch, decoder and codebook settle on the mean sample before there is anything
    to quantize (measured on the 8 x 8 digits: 2 of 10 codes in use). Then reconstruction and commitment train encoder
    and decoder, and the codebook follows by moving means over whole rounds.

    Source: van den Oord, Vinyals & Kavukcuoglu, NeurIPS 2017, with the moving means of its appendix A.1; the codebook
    is that of the package vector-quantize-pytorch.
    """

    terms: ClassVar[tuple[str, ...]] = ("reconstruction", "commitment")
    averaged: ClassVar[bool] = False

    def __init__(self, plan: TrainingPlan, network: Network, labels: Tensor) -> None:
        super().__init__(plan, network, labels)
        self.quantizer = self._fresh()

    def _fresh(self) -> Any:
        """A codebook that nothing was put into yet."""
        config, codes = self.rival.config, self.rival.num_clusters
        least = config.dead_code_share * self.plan.config.batch_size / codes
        return make_quantizer(self.plan.num_features, codes, config.code_decay, least).to(self.plan.device)

    def begin(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Puts the codebook on the features of some rows, once."""
        if snapshot.state.round < self.pretraining:
            return snapshot
        if not snapshot.memory:
            count, seed = len(world.rows), self.plan.config.seed
            places = sample_indices(seed, _FIRST_EPOCH, torch.arange(min(_FIRST_ROWS, count)), count)
            features = world.features(world.rows[places]).to(self.plan.device)
            self.quantizer = self._fresh()  # workers that stay for another run have an old one
            codebook = self.quantizer.train()._codebook
            with _seeded(seed):
                codebook.init_embed_(features.unsqueeze(0))
            codebook.cluster_size.mul_(self.plan.config.batch_size / len(features))  # wins of a round, not of these
            codebook.embed_avg.mul_(self.plan.config.batch_size / len(features))
            return self._kept(snapshot)
        self.quantizer.load_state_dict(
            {name.removeprefix(_CODES): tensor for name, tensor in snapshot.memory.items() if name.startswith(_CODES)}
        )
        return snapshot

    def loss(self, snapshot: Snapshot, tile: Tile) -> tuple[Terms, Tensor | None]:
        """Reconstruction, later from the code, and how far the features are from it."""
        if not snapshot.memory:
            return super().loss(snapshot, tile)
        features = self.network.encoder(self.strong(tile.samples, self.draws(tile, "strong")))
        codes, _, distance = self.quantizer.train()(features, freeze_codebook=True)
        count = len(features)
        commitment = Term(distance.sum() * count, count, self.rival.config.commitment_weight / tile.num_samples)
        return {"reconstruction": self.reconstruction(codes, tile), "commitment": commitment}, features

    def end(self, snapshot: Snapshot, features: Tensor | None) -> Snapshot:
        """The codebook moves by the features of the whole round; dead codes are put on some of them."""
        if features is None:
            return snapshot
        features = features.to(self.plan.device)
        _, chosen, _ = self.quantizer.eval()(features)
        with _seeded(self.plan.config.seed + 1 + snapshot.state.round), torch.no_grad():
            self.quantizer.train().update_indices(features, chosen)
        tallies = added(snapshot.tallies, deep_tallies({}, {"codes_in_use": len(chosen.unique())}))
        return self._kept(dataclasses.replace(snapshot, tallies=tallies))

    def _kept(self, snapshot: Snapshot) -> Snapshot:
        codes = {f"{_CODES}{name}": value.to("cpu", copy=True) for name, value in self.quantizer.state_dict().items()}
        return with_memory(
            dataclasses.replace(snapshot, state=plain_map(self.quantizer.codebook, snapshot.state)), codes
        )

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Nodes at the codes."""
        return settled(snapshot, self.quantizer.codebook, world)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The package draws from the global generator: it is seeded here, and put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
