"""The calibrated activation threshold: how close two samples of one node are, read from pairs without labels.

Axes: n samples of a tile, D features. Integer histograms add up: the result does not depend on workers.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from somcore.config import MapConfig
from somcore.sampling import sample_indices

NUM_BINS = 256
"""Bins of the histogram: four per octave of the mean squared difference, from 2**-32 to 2**32."""
TILE_ROWS = 512
"""Rows per calibration tile, whatever the tiles of the training are: a tile of one row has no pairs."""
NUM_TILES = 16
"""Tiles of epoch 0 that are looked at: about 500,000 pairs."""
DEFAULT_THRESHOLD = 0.95
"""The threshold where there is no pair to look at (one sample, or all samples equal)."""

_BINS_PER_OCTAVE, _LOWEST_EXPONENT = 4, -32
_OFFSETS = range(1, 65)


def calibration_tiles(num_samples: int) -> list[Tensor]:
    """Positions in epoch 0 of the samples to look at, one int64 tensor per tile.

    Example:
        >>> [len(tile) for tile in calibration_tiles(1000)]
        [512, 488]
    """
    starts = range(0, min(num_samples, NUM_TILES * TILE_ROWS), TILE_ROWS)
    return [torch.arange(start, min(start + TILE_ROWS, num_samples)) for start in starts]


def pair_histogram(features: Tensor) -> Tensor:
    """Histogram of mean_d (x_d - x'_d)^2 over pairs of samples, fixed by their position inside the tile.

    The pairs are all (i, i + o) with o = 1 ... 64. A difference with a missing value (NaN) on a side takes
    no part; a pair without a common feature is left out, and so are two equal samples: copies and blanks say
    nothing of how far samples of one node are apart, and enough of them would make every other sample a node.

    Args:
        features: (n, D), feature units.

    Returns:
        (256,) int64, to be added over tiles.

    Source: this project, docs/concepts.md (distance).

    Example:
        >>> int(pair_histogram(torch.rand(10, 3)).sum())
        45
    """
    features = features.to(torch.float64)
    num_rows = features.shape[0]
    histogram = torch.zeros(NUM_BINS, dtype=torch.int64, device=features.device)
    masked = bool(features.isnan().any())
    edges = _edges().to(features.device)
    for offset in _OFFSETS:
        if offset >= num_rows:
            break
        squares = (features[offset:] - features[:-offset]).square()
        means = squares.nanmean(dim=1) if masked else squares.mean(dim=1)
        bins = torch.bucketize(means[means > 0], edges, right=True)  # NaN, of no common feature, is not above 0
        histogram += torch.bincount(bins, minlength=NUM_BINS)
    return histogram


def threshold_from_histogram(histogram: Tensor, quantile: float) -> float:
    """The activation threshold a_t = 1 / (1 + rho_t), rho_t = the quantile of the histogram.

    Inside its bin the quantile is placed by its rank, on a logarithmic scale.

    Args:
        histogram: (256,) int64, from `pair_histogram`, added over tiles.
        quantile: p in (0, 1), the share of pairs taken to lie inside one node.

    Returns:
        a_t in (0, 1); 0.95 if the histogram is empty.

    Raises:
        ValueError: quantile outside (0, 1), or a histogram of another length.

    Source: this project, docs/concepts.md (distance).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"threshold_quantile must be in (0, 1). Got {quantile}.")
    if tuple(histogram.shape) != (NUM_BINS,):
        raise ValueError(f"histogram must have shape ({NUM_BINS},). Got {tuple(histogram.shape)}.")
    counts = histogram.tolist()
    total = sum(counts)
    if total == 0:
        return DEFAULT_THRESHOLD
    target, below = quantile * total, 0
    position = 0.0
    for index, count in enumerate(counts):
        if count and below + count >= target:
            position = index + (target - below) / count
            break
        below += count
    rho = math.pow(2.0, _LOWEST_EXPONENT + position / _BINS_PER_OCTAVE)
    return 1.0 / (1.0 + rho)


def calibrated(config: MapConfig, histogram: Tensor) -> MapConfig:
    """The configuration with "auto" replaced by a number; unchanged if it is a number or not used."""
    if config.activation_threshold != "auto" or not config.has_threshold:
        return config
    assert config.threshold_quantile is not None, "not resolved"
    threshold = threshold_from_histogram(histogram, config.threshold_quantile)
    return dataclasses.replace(config, activation_threshold=threshold)


def calibrate(config: MapConfig, num_samples: int, read: Callable[[Tensor], Tensor]) -> MapConfig:
    """The configuration with "auto" read from the first tiles of epoch 0; unchanged if it is a number or not used.

    Args:
        config: resolved but for the threshold.
        num_samples: N.
        read: row numbers (n,) to features (n, D).
    """
    if config.activation_threshold != "auto" or not config.has_threshold:
        return config
    histogram = torch.zeros(NUM_BINS, dtype=torch.int64)
    for positions in calibration_tiles(num_samples):
        rows = sample_indices(config.seed, 0, positions, num_samples, config.sampling)
        histogram += pair_histogram(read(rows)).cpu()
    return calibrated(config, histogram)


def _edges() -> Tensor:
    """(255,) float64: the lower edges of bins 1 ... 255."""
    exponents = (_LOWEST_EXPONENT + k / _BINS_PER_OCTAVE for k in range(1, NUM_BINS))
    return torch.tensor([math.pow(2.0, exponent) for exponent in exponents], dtype=torch.float64)
