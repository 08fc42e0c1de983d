"""Lattices, neighbourhood kernels and decay schedules of the fixed maps.

Axes: R rows, Q columns, K = R * Q nodes; node k is at row k // Q, column k % Q. Lengths are in lattice steps.
"""

import math

import torch
from torch import Tensor

_LATTICES = ("rectangular", "hexagonal")
_ADJACENT = {"rectangular": 1.5, "hexagonal": 1.1}


def lattice_positions(rows: int, columns: int, lattice: str) -> Tensor:
    """Where each node stands.

    Args:
        rows: R >= 1.
        columns: Q >= 1.
        lattice: "rectangular" (row, col) or "hexagonal" (sqrt(3)/2 row, col + 1/2 (row mod 2)).

    Returns:
        (K, 2) float64: vertical, then horizontal coordinate.

    Example:
        >>> lattice_positions(1, 2, "rectangular").tolist()
        [[0.0, 0.0], [0.0, 1.0]]
    """
    row, across = _coordinates(rows, columns, lattice)
    return torch.stack([row * _row_height(lattice), across], dim=1)


def lattice_distances(rows: int, columns: int, lattice: str, toroidal: bool = False) -> Tensor:
    """Distance between every two nodes; on a torus the smallest over the nine translates.

    Squares are sums of multiples of 1/4 and hence exact: equal distances are equal numbers, and the six
    neighbours of a hexagonal node lie at exactly 1.

    Args:
        rows: R >= 1; even for a toroidal hexagonal lattice.
        columns: Q >= 1.
        lattice: "rectangular" or "hexagonal".
        toroidal: opposite borders meet.

    Returns:
        (K, K) float64, symmetric, zero diagonal.

    Raises:
        ValueError: odd R on a toroidal hexagonal lattice, or an unknown lattice.

    Source: Kohonen, Proc. IEEE 78(9), 1990.
    """
    if toroidal and lattice == "hexagonal" and rows % 2:
        raise ValueError(f"rows must be even for a toroidal hexagonal lattice, or its rows do not meet. Got {rows}.")
    row, across = _coordinates(rows, columns, lattice)
    down, right = row[:, None] - row, across[:, None] - across
    square_height = 1.0 if lattice == "rectangular" else 0.75
    shifts = (-1, 0, 1) if toroidal else (0,)
    squares = torch.full_like(down, math.inf)
    for vertical in shifts:
        for horizontal in shifts:
            translate = (down + vertical * rows) ** 2 * square_height + (right + horizontal * columns) ** 2
            squares = torch.minimum(squares, translate)
    return squares.sqrt()


def adjacency(rows: int, columns: int, lattice: str, toroidal: bool = False) -> Tensor:
    """Which nodes are next to each other: 8 on a rectangular lattice, 6 on a hexagonal one.

    Returns:
        (K, K) bool, symmetric, zero diagonal.

    Example:
        >>> adjacency(3, 3, "rectangular").sum(dim=1).tolist()
        [3, 5, 3, 5, 8, 5, 3, 5, 3]
    """
    near = lattice_distances(rows, columns, lattice, toroidal) < _ADJACENT[lattice]
    return near.fill_diagonal_(False)


def lattice_window(rows: int, columns: int, radius: int, toroidal: bool = False) -> Tensor:
    """Which nodes lie in the square window of each node: |row difference|, |column difference| <= radius.

    Args:
        rows: R.
        columns: Q.
        radius: half side of the window, >= 0; the node itself is always inside.
        toroidal: differences wrap.

    Returns:
        (K, K) bool, symmetric, true diagonal.

    Source: the kernel cut of Bassani & Araújo's released DSSOM.
    """
    row, column = _coordinates(rows, columns, "rectangular")
    down, right = (row[:, None] - row).abs(), (column[:, None] - column).abs()
    if toroidal:
        down, right = torch.minimum(down, rows - down), torch.minimum(right, columns - right)
    return (down <= radius) & (right <= radius)


def kernel(kind: str, distances: Tensor, radius: float) -> Tensor:
    """Neighbourhood strength h at a lattice distance.

    Args:
        kind: "gaussian", exp(-distance^2 / 2 radius^2), or "bubble", 1 up to the radius.
        distances: tensor of lattice distances.
        radius: > 0.

    Returns:
        float64 tensor of the same shape, in [0, 1].

    Example:
        >>> kernel("bubble", torch.tensor([0.0, 1.0, 2.0]), 1.0).tolist()
        [1.0, 1.0, 0.0]
    """
    if not radius > 0:
        raise ValueError(f"radius must be > 0. Got {radius}.")
    distances = distances.to(torch.float64)
    if kind == "gaussian":
        return torch.exp((distances / radius).square() * -0.5)
    if kind == "bubble":
        return (distances <= radius).to(torch.float64)
    raise ValueError(f"kernel must be one of gaussian | bubble. Got {kind!r}.")


def schedule(kind: str, start: float, end: float, progress: float) -> float:
    """Value of a decaying parameter; every kind but "constant" runs from `start` to `end` exactly.

    Args:
        kind: "linear", "exponential", "inverse" or "constant".
        start: value at progress 0; > 0 for exponential and inverse.
        end: value at progress 1; > 0 for inverse.
        progress: t / max(T - 1, 1), clipped to [0, 1].

    Returns:
        float, in the unit of `start`.

    Example:
        >>> schedule("inverse", 4.0, 1.0, 1.0)
        1.0
    """
    if kind not in ("linear", "exponential", "inverse", "constant"):
        raise ValueError(f"decay must be one of linear | exponential | inverse | constant. Got {kind!r}.")
    if kind == "constant" or start == end or progress <= 0:
        return start
    if progress >= 1:
        return end
    if kind == "linear":
        return start + (end - start) * progress
    if start <= 0 or (kind == "inverse" and end <= 0):
        raise ValueError(f"The {kind} decay must run between positive values. Got {start} to {end}.")
    if kind == "exponential":
        return start * math.pow(end / start, progress)
    return start / (1 + progress * (start / end - 1))


def decayed_rate(start: float, step: int, num_steps: int, decay_constant: float) -> float:
    """DSSOM's rate: start * exp(-t / (T * constant)), at least 1e-5.

    Source: Bassani & Araújo's released DSSOM.
    """
    return max(start * math.exp(-step / (num_steps * decay_constant)), 1e-5)


def decayed_radius(start: float, step: int, num_steps: int, decay_constant: float) -> float:
    """DSSOM's radius: start * exp(-(t + 1) / (T * constant)), at least 1e-6.

    Source: Bassani & Araújo's released DSSOM.
    """
    return max(start * math.exp(-(step + 1) / (num_steps * decay_constant)), 1e-6)


def _row_height(lattice: str) -> float:
    return 1.0 if lattice == "rectangular" else math.sqrt(3.0) / 2.0


def _coordinates(rows: int, columns: int, lattice: str) -> tuple[Tensor, Tensor]:
    """Row number and horizontal coordinate of each node, (K,) float64 each."""
    if lattice not in _LATTICES:
        raise ValueError(f"lattice must be one of rectangular | hexagonal. Got {lattice!r}.")
    for name, value in (("rows", rows), ("columns", columns)):
        if value < 1:
            raise ValueError(f"{name} must be a whole number >= 1. Got {value}.")
    index = torch.arange(rows * columns)
    row, column = index // columns, index % columns
    across = column.to(torch.float64)
    if lattice == "hexagonal":
        across = across + 0.5 * (row % 2)
    return row.to(torch.float64), across
