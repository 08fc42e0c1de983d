"""Stored values to features in [0, 1], the same way for training and for prediction.

Axes: N rows, D features. Tables are scaled by the smallest and largest value of each column over the *training*
rows, so values of other splits may lie a little outside [0, 1]; they are not clipped. Images and recordings are
scaled by the range of their type. The arithmetic is float64, the result float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from pipeline.prepared.manifest import Manifest

MAX_ABS = 1.0  # bound of |x| over the training rows: `Scaling` puts them in [0, 1], as encoders do with their features


@dataclass(frozen=True)
class Scaling:
    """Maps low to 0 and high to 1; a constant column (low = high) becomes 0.

    Args:
        low, high: one value per feature, or one for all.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Scaling:
        """The scaling of a prepared data set."""
        if manifest.kind == "table":
            assert manifest.feature_min is not None and manifest.feature_max is not None
            return cls(tuple(manifest.feature_min), tuple(manifest.feature_max))
        assert manifest.value_range is not None
        return cls((manifest.value_range[0],), (manifest.value_range[1],))

    def __call__(self, raw: np.ndarray) -> torch.Tensor:
        """Scale samples.

        Args:
            raw: (n, ...) as stored; NaN stays NaN.

        Returns:
            (n, D) float32.

        Example:
            >>> Scaling((0.0,), (255.0,))(np.array([[0, 255]], dtype=np.uint8)).tolist()
            [[0.0, 1.0]]
        """
        flat = torch.from_numpy(np.ascontiguousarray(raw.reshape(len(raw), int(np.prod(raw.shape[1:])))))
        if self.low == (0.0,) and raw.dtype == np.uint8:  # exact in float32: one rounding
            return flat.to(torch.float32).div_(self.high[0])
        low, span, constant = self._tensors
        scaled = flat.to(torch.float64).sub_(low).div_(span)
        if constant is not None:
            scaled = torch.where(constant & ~scaled.isnan(), 0.0, scaled)
        return scaled.to(torch.float32)

    def undone(self, scaled: np.ndarray) -> np.ndarray:
        """Features in the units of the source: 0 is low, 1 is high.

        Args:
            scaled: (n, D).

        Example:
            >>> Scaling((10.0, 5.0), (20.0, 5.0)).undone(np.array([[0.5, 0.0]])).tolist()
            [[15.0, 5.0]]
        """
        low = np.asarray(self.low, dtype=np.float64)
        return low + scaled * (np.asarray(self.high, dtype=np.float64) - low)

    @cached_property
    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Low, span (1 where it is 0) and, if there is one, the mask of the constant columns."""
        low = torch.tensor(self.low, dtype=torch.float64)
        span = torch.tensor(self.high, dtype=torch.float64) - low
        constant = span == 0
        return low, torch.where(constant, 1.0, span), constant if bool(constant.any()) else None
