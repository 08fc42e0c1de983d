"""Lattices, kernels and schedules against hand-computed values and brute force."""

import math

import pytest
import torch

from somcore import MapConfig, initial_state
from somcore.topology import (
    adjacency,
    decayed_radius,
    decayed_rate,
    kernel,
    lattice_distances,
    lattice_positions,
    lattice_window,
    schedule,
)

SHAPES = [
    ("rectangular", False, 3, 5),
    ("rectangular", True, 3, 5),
    ("hexagonal", False, 5, 4),
    ("hexagonal", True, 4, 5),
]


def _brute_distance(rows: int, columns: int, lattice: str, toroidal: bool, a: int, b: int) -> float:
    step = 1.0 if lattice == "rectangular" else math.sqrt(3) / 2

    def place(k: int) -> tuple[float, float]:
        row, column = divmod(k, columns)
        return row * step, column + (0.5 * (row % 2) if lattice == "hexagonal" else 0.0)

    (y1, x1), (y2, x2) = place(a), place(b)
    shifts = (-1, 0, 1) if toroidal else (0,)
    return min(math.hypot(y1 - y2 + i * rows * step, x1 - x2 + j * columns) for i in shifts for j in shifts)


@pytest.mark.parametrize(("lattice", "toroidal", "rows", "columns"), SHAPES)
def test_distances_equal_brute_force(lattice: str, toroidal: bool, rows: int, columns: int) -> None:
    distances = lattice_distances(rows, columns, lattice, toroidal)
    size = rows * columns
    expected = [[_brute_distance(rows, columns, lattice, toroidal, a, b) for b in range(size)] for a in range(size)]
    torch.testing.assert_close(distances, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.equal(distances, distances.T) and bool((distances.diagonal() == 0).all())


@pytest.mark.parametrize(("lattice", "count"), [("rectangular", 8), ("hexagonal", 6)])
def test_every_node_of_a_torus_has_the_same_number_of_neighbours(lattice: str, count: int) -> None:
    near = adjacency(4, 5, lattice, toroidal=True)
    assert near.sum(dim=1).tolist() == [count] * 20
    assert torch.equal(near, near.T)


def test_planar_neighbours() -> None:
    assert adjacency(3, 3, "rectangular").sum(dim=1).tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    middle = adjacency(3, 3, "hexagonal")[4]
    assert middle.nonzero().squeeze(1).tolist() == [1, 2, 3, 5, 7, 8]
    assert int(adjacency(1, 1, "hexagonal").sum()) == 0


def test_hexagonal_neighbours_lie_at_exactly_one() -> None:
    distances = lattice_distances(6, 6, "hexagonal")
    assert bool((distances[adjacency(6, 6, "hexagonal")] == 1.0).all())


def test_positions_agree_with_distances() -> None:
    for lattice in ("rectangular", "hexagonal"):
        positions = lattice_positions(5, 4, lattice)
        torch.testing.assert_close(torch.cdist(positions, positions), lattice_distances(5, 4, lattice))


def test_window_is_chebyshev_and_wraps() -> None:
    planar = lattice_window(4, 5, 1)
    assert planar[0].nonzero().squeeze(1).tolist() == [0, 1, 5, 6]
    wrapped = lattice_window(4, 5, 1, toroidal=True)
    assert wrapped.sum(dim=1).tolist() == [9] * 20
    assert torch.equal(lattice_window(4, 5, 0), torch.eye(20, dtype=torch.bool))


def test_kernels() -> None:
    distances = torch.tensor([0.0, 1.0, 2.0])
    expected = [1.0, math.exp(-0.125), math.exp(-0.5)]
    torch.testing.assert_close(kernel("gaussian", distances, 2.0), torch.tensor(expected, dtype=torch.float64))
    assert kernel("bubble", distances, 1.0).tolist() == [1.0, 1.0, 0.0]
    assert kernel("gaussian", distances, 1e-6).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["linear", "exponential", "inverse"])
@pytest.mark.parametrize(("start", "end"), [(0.3, 0.1), (10.0, 1.0), (7.0, 0.01)])
def test_schedules_reach_both_ends_and_fall(kind: str, start: float, end: float) -> None:
    values = [schedule(kind, start, end, t / 30) for t in range(31)]
    assert values[0] == start and values[-1] == end
    assert all(a > b for a, b in zip(values, values[1:], strict=False))


def test_schedule_midpoints() -> None:
    assert schedule("linear", 4.0, 1.0, 0.5) == 2.5
    assert schedule("exponential", 4.0, 1.0, 0.5) == 2.0
    assert schedule("inverse", 4.0, 1.0, 0.5) == pytest.approx(1.6)
    assert schedule("constant", 4.0, 1.0, 1.0) == 4.0
    assert schedule("exponential", 0.5, 0.0, 1.0) == 0.0


def test_authors_schedules_have_floors() -> None:
    assert decayed_rate(0.01, 0, 100, 0.2) == 0.01
    assert decayed_rate(0.01, 20, 100, 0.2) == pytest.approx(0.01 / math.e)
    assert decayed_rate(0.01, 10_000, 100, 0.2) == 1e-5
    assert decayed_radius(0.3, 99, 100, 1.0) == pytest.approx(0.3 / math.e)
    assert decayed_radius(0.3, 10_000, 100, 1.0) == 1e-6


def test_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match="rows must be even for a toroidal hexagonal lattice.* Got 3"):
        lattice_distances(3, 4, "hexagonal", toroidal=True)
    with pytest.raises(ValueError, match="lattice must be one of rectangular | hexagonal. Got 'cubic'"):
        lattice_positions(3, 4, "cubic")
    with pytest.raises(ValueError, match="rows must be a whole number >= 1. Got 0"):
        lattice_positions(0, 4, "rectangular")
    with pytest.raises(ValueError, match="radius must be > 0"):
        kernel("gaussian", torch.zeros(1), 0.0)
    with pytest.raises(ValueError, match="kernel must be"):
        kernel("box", torch.zeros(1), 1.0)
    with pytest.raises(ValueError, match="decay must be"):
        schedule("cosine", 1.0, 0.1, 0.5)
    with pytest.raises(ValueError, match="positive values"):
        schedule("inverse", 1.0, 0.0, 0.5)


@pytest.mark.parametrize(("rows", "columns", "along"), [(3, 3, "columns"), (2, 4, "columns"), (4, 2, "rows")])
def test_the_longer_side_of_a_linear_start_lies_along_the_first_axis_and_columns_where_both_are_equal(
    rows: int, columns: int, along: str
) -> None:
    config = MapConfig(variant="kohonen", rows=rows, columns=columns, initialisation="linear")
    config = config.resolve(num_samples=10, num_features=2)
    moments = torch.zeros(2, dtype=torch.float64), torch.tensor([[1.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    grid = initial_state(config, 2, moments=moments).prototypes.reshape(rows, columns, 2)
    first = grid[0, :, 1] if along == "columns" else grid[:, 0, 1]
    assert first[[0, -1]].tolist() == pytest.approx([-3.0, 3.0]), "3 is the deviation of the wider feature"
