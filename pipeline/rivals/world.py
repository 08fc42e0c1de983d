"""All workers of a rival's round as one: features of any rows, gathered exactly, the same on every worker.

Each worker encodes its tiles; the bits of the features travel as integers whose sum is a gathering, because all but one
worker bring zeros. n rows, D features, W workers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.deep.plan import encode
from pipeline.prepared.shards import Dataset
from pipeline.training.reduction import Reduction, dealt

_TILE_ROWS = 1024


class World:
    """What a rival may ask of all workers together.

    Args:
        dataset: read by every worker.
        network: the modules, with the values of the round.
        rows: rows of the training split that are trained on.
        labels: (N,) what may be read of the labels.
        reduction: joins the workers.
        stay: called before every tile; may raise to leave early.
        device: where is computed.
    """

    def __init__(
        self,
        dataset: Dataset,
        network: nn.Module,
        rows: Tensor,
        labels: Tensor,
        reduction: Reduction,
        stay: Callable[[], None],
        device: str = "cpu",
    ) -> None:
        self.rows, self.labels = rows, labels
        self._dataset, self._network, self._stay = dataset, network, stay
        self._reduction, self._device = reduction, device

    def features(self, rows: Tensor, module: nn.Module | None = None) -> Tensor:
        """(n, D) float32 features of clean training samples, in the order of the rows.

        Args:
            rows: (n,) row numbers.
            module: who encodes; None = the network.
        """
        tiles = range(0, len(rows), _TILE_ROWS)
        share = dealt(len(tiles), self._reduction.rank, self._reduction.world_size)
        parts = []
        for start in tiles[share]:
            self._stay()
            samples = self._dataset.read("train", rows[start : start + _TILE_ROWS])[0]
            parts.append(encode(module or self._network, samples.to(self._device)).cpu())
        own = torch.cat(parts) if parts else None
        return self.gather(own, share.start * _TILE_ROWS, len(rows))

    def gather(self, own: Tensor | None, start: int, count: int) -> Tensor:
        """(n, D) float32 of all workers from the consecutive rows of each.

        Args:
            own: (m, D) float32 rows of this worker; None if it has none.
            start: place of its first row.
            count: n.
        """
        if self._reduction.world_size == 1:
            assert own is not None
            return own
        width = int(self._reduction.max(float(own.shape[1] if own is not None else 0)))
        bits = torch.zeros(count, width, dtype=torch.int64)
        if own is not None:
            bits[start : start + len(own)] = own.contiguous().view(torch.int32).to(torch.int64)
        return self._reduction.sum(bits).to(torch.int32).view(torch.float32)
