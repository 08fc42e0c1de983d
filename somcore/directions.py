"""Linear algebra of the prepared search: directions that matter, products in float32.

Axes: n vectors, D features, M directions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def leading_directions(rows: Tensor, number: int, beside: Tensor | None = None) -> Tensor:
    """Orthonormal directions close to the principal ones of some rows, by subspace iteration from the rows themselves.

    Args:
        rows: (n, D) vectors.
        number: directions wanted; there may be room for fewer.
        beside: (D, M) float32, orthonormal directions to stay orthogonal to.

    Returns:
        (D, at most number) float32.
    """
    room = rows.shape[1] - (0 if beside is None else beside.shape[1])
    number = min(number, len(rows), room)
    q = rows[:: max(1, len(rows) // max(1, number))][:number].T
    for _ in range(2):
        q = rows.T @ (rows @ torch.linalg.qr(q)[0])
    q = torch.linalg.qr(q.to(torch.float64))[0]
    if beside is not None:
        others = beside.to(torch.float64)
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            q = torch.linalg.qr(q - others @ (others.T @ q))[0]
    directions: Tensor = q.to(torch.float32)
    return directions


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b in float32, by oneDNN where torch has it: on some processors twice as fast as torch.mm."""
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return result
    return torch.nn.functional.linear(x, weight, bias)
