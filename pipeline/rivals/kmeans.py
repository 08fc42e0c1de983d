"""k-means on the samples as they are prepared: pixels, spectra, table columns, or features of another model.

N training rows, D features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from pipeline.deep.network import Network
from pipeline.rivals.base import Rival
from pipeline.rivals.clusters import k_means, settled
from pipeline.rivals.config import RivalPlan
from pipeline.rivals.world import World
from pipeline.training.checkpoint import Snapshot

if TYPE_CHECKING:
    from pipeline.deep.plan import DeepPlan


class KMeansRival(Rival):
    """One round, nothing learned by gradient: the clustering is all.

    Source: Lloyd 1982; scikit-learn's `KMeans`. For encoded features, train it on what `jobs.features` has written.
    """

    @classmethod
    def build(cls, deep: DeepPlan) -> Network:
        """No network: features are the samples."""
        return Network(nn.Identity())

    @classmethod
    def num_features(cls, rival: RivalPlan, dim: int, sample_size: int) -> int:
        """The values of a sample."""
        return sample_size

    def finish(self, snapshot: Snapshot, world: World) -> Snapshot:
        """Clusters the trained rows."""
        features = world.features(world.rows)
        centres, _ = k_means(features, self.rival.num_clusters, self.rival.config.restarts, self.plan.config.seed)
        return settled(snapshot, centres, world, features)
