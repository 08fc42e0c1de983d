"""A look at some rows with an encoder that stands still: what a refresh of the map and the last judgement read.

D features, W workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.deep.network import Network
from pipeline.deep.plan import encode
from pipeline.deep.step import check_finite
from pipeline.prepared.shards import Dataset
from pipeline.training.reduction import Reduction, dealt
from somcore.config import UNLABELLED, MapConfig
from somcore.latent import MOST_MOMENTS, LatentMoments
from somcore.sampling import sample_indices
from somcore.state import MapState
from somcore.statistics import BatchStatistics
from somcore.threshold import NUM_BINS, pair_histogram
from somcore.update import accumulate, empty_statistics

_PAIR = 2
_RARE = 0.25  # share of labelled rows below which a refresh looks at more of them
# Orders apart from the epochs of training. Of as many rows, refresh n has that of pass 900 + n over the labelled ones
# (`DeepRound`): a long training meets it, without harm, and another number would move every deep run.
_REFRESH_EPOCH = -1000


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        statistics: of all workers, on the map that was looked with.
        histogram: (NUM_BINS,) of distances between pairs of features, of all workers.
        moments: of the features, of all workers; of many rows the first `MOST_MOMENTS`, which are a random choice.
        marked: features (n, D) and labels (n,) of the labelled rows of each own tile, where they were asked for.
        num_tiles: over all workers.
    """

    statistics: BatchStatistics
    histogram: Tensor
    moments: LatentMoments
    marked: list[tuple[Tensor, Tensor]]
    num_tiles: int


def look_at(
    rows: Tensor,
    opened: MapState,
    config: MapConfig,
    network: Network,
    dataset: Dataset,
    labels: Tensor,
    reduction: Reduction,
    stay: Callable[[], None],
    scale: int | None,
    *,
    keep: bool,
) -> Look:
    """Clean views of some rows, measured on a map.

    Args:
        rows: (N,) rows of the training split.
        opened: the map, and `config` its configuration, as of `somcore.refresh.open_map`.
        network: the encoder.
        dataset: with a training split.
        labels: (all rows,) what may be read of them.
        reduction: joins the workers.
        stay: called before every tile; may raise to leave early.
        scale: fixed-point scale of the statistics; None for plain sums.
        keep: whether the features of labelled rows are wanted.

    Raises:
        Diverged: a feature is not finite.
    """
    statistics = empty_statistics(opened, config, scale)
    histogram = torch.zeros(NUM_BINS, dtype=torch.int64, device=opened.device)
    moments = LatentMoments.zero(opened.num_features, opened.device)
    size = max(_PAIR, config.tile_size)  # a tile of one sample has no pair to calibrate the threshold by
    tiles = range(0, len(rows), size)
    marked: list[tuple[Tensor, Tensor]] = []
    for start in tiles[dealt(len(tiles), reduction.rank, reduction.world_size)]:
        stay()
        places = torch.arange(start, min(start + size, len(rows)))
        taken = rows[places]
        features = encode(network, dataset.read("train", taken)[0].to(opened.device))
        part = f"the tile at row {start} of a refresh"
        check_finite(features, "The encoder's output", opened.round, part, taken, dataset.row_in_words)
        histogram += pair_histogram(features)
        if start < MOST_MOMENTS:
            moments = moments.merge(LatentMoments.of(features))
        seen = labels[taken].to(opened.device) if opened.num_classes else None
        own = accumulate(opened, features, seen, config, positions=places.to(opened.device), scale=scale)
        statistics = statistics.merge(own)
        if keep and seen is not None:
            known = seen != UNLABELLED
            marked.append((features[known], seen[known]))
    joined = reduction.sum(torch.cat([histogram, moments.table.flatten()]))
    histogram, table = joined.split([NUM_BINS, moments.table.numel()])
    moments = LatentMoments(table.view_as(moments.table))
    return Look(reduction.reduce(statistics), histogram, moments, marked, len(tiles))


def rows_to_look_at(rows: Tensor, labels: Tensor, seed: int, number: int, limit: int) -> Tensor:
    """Rows that a refresh looks at, in random order: some of all, and more labelled ones where they are rare.

    Args:
        rows: (N,) that are trained on.
        labels: (all rows,) what may be read of them.
        seed: of the run.
        number: of the refresh.
        limit: rows, beside the labelled ones.
    """
    count = len(rows)
    chosen = rows[sample_indices(seed, _REFRESH_EPOCH - number, torch.arange(min(limit, count)), count)]
    marked = (labels != UNLABELLED).nonzero().squeeze(1)
    if limit < count and 0 < len(marked) < _RARE * count:
        places = torch.arange(min(limit // 2, len(marked)))
        more = marked[sample_indices(seed, _REFRESH_EPOCH - number, places, len(marked))]
        chosen = torch.unique(torch.cat([chosen, more]))
        chosen = chosen[sample_indices(seed, _REFRESH_EPOCH - number, torch.arange(len(chosen)), len(chosen))]
    return chosen
