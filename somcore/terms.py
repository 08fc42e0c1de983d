"""Terms of the loss that do not look at the map: they keep what it stands on alive.

Axes: n samples of a tile, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.config import UNLABELLED
from somcore.device import unnarrowed

_STD_FLOOR = 1e-8  # keeps the derivative of the root finite for a constant feature


@dataclass(frozen=True)
class Term:
    """One term of the loss on one tile.

    Attributes:
        sum: () floating point, with a gradient to the features.
        count: () int64, samples (tiles for variance and covariance) that contributed.
    """

    sum: Tensor
    count: Tensor


def at(table: Tensor, columns: Tensor) -> Tensor:
    """(n,) one entry of each row; anything where the column is −1."""
    return table.gather(1, columns.clamp_min(0).unsqueeze(1)).squeeze(1)


def masked(values: Tensor, mask: Tensor) -> Term:
    """Σ over the mask; values outside it may be infinite, no gradient goes there."""
    return Term(torch.where(mask, values, 0.0).sum(), mask.sum())


def negative_log_likelihood(logits: Tensor, classes: Tensor, mask: Tensor) -> Term:
    """−log softmax of the logits (n, C) at the given classes (n,), over the samples in the mask (n,)."""
    return masked(-at(torch.log_softmax(logits, dim=1), classes), mask)


def classifier(scores: Tensor, labels: Tensor) -> Term:
    """Labelled samples: −log of what a classifier beside the map gives to their class, (n, C) scores."""
    return negative_log_likelihood(scores, labels, labels != UNLABELLED)


def reconstruction(inputs: Tensor, decoded: Tensor) -> Term:
    """Mean over pixels of (x − g(z))², summed over all samples."""
    wide = _wide(decoded)
    gap = (wide - inputs.to(wide.dtype)).flatten(1)
    return Term(gap.square().mean(1).sum(), torch.full((), len(gap), dtype=torch.int64, device=gap.device))


def _wide(values: Tensor) -> Tensor:
    """Half precision as float32: it has no 1e-8, and its sums overflow."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def variance(features: Tensor, floor: float) -> Term:
    """Mean over features of max(0, γ − std), the deviation within the tile; no coupling between tiles.

    A tile of one sample has no deviation and contributes nothing.
    """
    one = torch.full((), int(len(features) > 1), dtype=torch.int64, device=features.device)
    if len(features) < 2:
        return Term(features.sum() * 0, one)
    features = _wide(features)
    spread = (features.var(0, correction=0) + _STD_FLOOR).sqrt()
    return Term((floor - spread).clamp_min(0).mean(), one)


def covariance(features: Tensor) -> Term:
    """Σ over pairs of features of their squared covariance within the tile, divided by D."""
    one = torch.full((), int(len(features) > 1), dtype=torch.int64, device=features.device)
    if len(features) < 2:
        return Term(features.sum() * 0, one)
    features = _wide(features)
    centred = features - features.mean(0)
    with unnarrowed(centred):
        table = centred.T @ centred / (len(features) - 1)
    return Term((table.square().sum() - table.diagonal().square().sum()) / features.shape[1], one)
