"""Fixed point: sums that do not depend on the order of addition.

Values of a round are rounded to multiples of 2^−q, the same q everywhere. Within a tile their sums are whole numbers
in float64, beyond it int64; both are exact.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from somcore import device

EXACT_ROWS = 4096
_MANTISSA = 40  # bits of |x|·2^q: 4096 of |x − c| add up exactly in float64
_HEADROOM = 61
_LEAST_BITS = 20
LARGEST_WEIGHT = 2 ** (_MANTISSA - _LEAST_BITS)
"""Of a sample, where features lie in [-1, 1]; a half of it where they lie in [-2, 2], and so on."""


def fixed_point_scale(max_abs: float, num_samples: int, weight_max: int = 1) -> int:
    """q: values are rounded to multiples of 2^−q, so that sums over a round cannot overflow int64.

    Args:
        max_abs: bound of |x| and |c| over the round, feature units.
        num_samples: samples of the round, weights included.
        weight_max: largest sample weight.

    Returns:
        q, with max_abs · num_samples · 2^q ≤ 2^61.

    Raises:
        ValueError: fewer than 20 fractional bits would be left.

    Example:
        >>> fixed_point_scale(1.0, 512)
        40
    """
    if not math.isfinite(max_abs):
        raise ValueError(f"Features must be finite. The largest absolute value was {max_abs}.")
    exponent = math.ceil(math.log2(max_abs)) if max_abs > 0 else 0
    samples = math.ceil(math.log2(max(1, num_samples)))
    scale = min(_MANTISSA - exponent - math.ceil(math.log2(max(1, weight_max))), _HEADROOM - exponent - samples)
    if scale < _LEAST_BITS:
        heavy = weight_max > 1 and _MANTISSA - exponent >= _LEAST_BITS  # without weights the features would do
        wrong, weights = ("sample_weight", f"weights up to {weight_max} and ") if heavy else ("Features", "")
        remedy = "Scale the features, to [0, 1] for instance."
        if heavy:
            remedy = f"Divide all weights by a common factor.{f' {remedy}' * (max_abs > 1)}"
        raise ValueError(
            f"{wrong} must be small enough for exact sums ({weights}|x| up to {max_abs:g} over {num_samples} samples "
            f"leaves {scale} fractional bits, {_LEAST_BITS} are needed). {remedy}"
        )
    return scale


def to_fixed(values: Tensor, scale: int | None) -> Tensor:
    """round(x · 2^q), half to even: whole numbers, in float64; unchanged if there is no scale (plain float sums).

    Whole numbers below 2^53 add up exactly in float64, which is several times faster than int64 on a CPU. A tile
    is small enough for that; its sums become int64 at once (`as_sums`).
    """
    return values if scale is None else torch.round(values * 2.0**scale)


def check_range(fixed: Tensor, scale: int | None) -> None:
    """Refuse values beyond the bound that the scale was made for; on a CPU, where asking is free (else `advance` does).

    Rounds of more than 2^21 samples have a smaller scale than |x| alone asks for: this check is wider than their bound
    then, which whoever makes the scale keeps.
    """
    if scale is None or not device.asking_is_free(fixed) or fixed.numel() == 0:
        return
    low, high = (float(bound) for bound in fixed.aminmax())
    if max(-low, high) > 2.0**_MANTISSA:
        row, column = (fixed.abs() > 2.0**_MANTISSA).nonzero()[0].tolist()
        raise ValueError(
            f"|x| must be within the bound that the sums are made for ({2.0 ** (_MANTISSA - scale):g}). "
            f"Got {float(fixed[row, column]) * 2.0**-scale:g} in row {row} of the tile, feature {column}; "
            "scale the samples, or end the encoder in a sigmoid or give its SOMLayer a bound."
        )


def in_range(fixed: Tensor, scale: int | None) -> Tensor:
    """(n,) bool: all values of the row are numbers within the bound that the scale was made for."""
    return (fixed.abs() <= (sys.float_info.max if scale is None else 2.0**_MANTISSA)).all(1)


def as_sums(totals: Tensor, scale: int | None) -> Tensor:
    """Whole-number totals of a tile as int64, which any number of tiles can be added to."""
    return totals if scale is None else totals.to(torch.int64)


def from_fixed(sums: Tensor, scale: int | None) -> Tensor:
    """The float64 value of fixed-point sums."""
    return sums if scale is None else sums.to(torch.float64) * 2.0**-scale


def error_scale(scale: int | None, num_features: int) -> int | None:
    """Scale for sums of distances, which are at most 2√D times the bound of a feature."""
    return None if scale is None else scale - math.ceil(math.log2(2 * math.sqrt(num_features)))
