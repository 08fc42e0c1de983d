"""Linear algebra of the prepared search: directions that matter, products in float32.

Axes: n vectors, D features, M directions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def leading_directions(rows: Tensor, most: int, share: float) -> Tensor:
    """Orthonormal directions close to the principal ones of some rows, as many as leave little outside.

    One step of subspace iteration from some of the rows, then the principal axes of all rows in that subspace.

    Args:
        rows: (n, D) float32.
        most: directions at most.
        share: of the rows' length, the root of all squares, that may be left outside.

    Returns:
        (D, M) float32; M is a multiple of 16, as products like it, unless there is no room.
    """
    number = min(most, *rows.shape)
    q = rows[:: len(rows) // number][:number].T
    q = rows.T @ linear(rows, torch.linalg.qr(q)[0].T.contiguous())
    q = torch.linalg.qr(q.to(torch.float64))[0]
    inside = linear(rows, q.T.to(torch.float32).contiguous()).to(torch.float64)
    squares, axes = torch.linalg.eigh(inside.T @ inside)
    whole = rows.square().sum(dtype=torch.float64)
    needed = 1 + int((whole - squares.flip(0).cumsum(0) > share**2 * whole).sum())
    directions: Tensor = (q @ axes.flip(1)[:, : needed + -needed % 16]).to(torch.float32)
    return directions


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b in float32, by oneDNN where torch has it: on some processors twice as fast as torch.mm."""
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return result
    return torch.nn.functional.linear(x, weight, bias)
