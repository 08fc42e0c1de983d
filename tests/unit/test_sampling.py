"""The order of the samples: a bijection, uniform, and independent of how it is cut."""

import pytest
import torch

from somcore.sampling import hash_uniform, sample_indices

EXPECTED_PERMUTATION = [583, 958, 355, 70, 982, 430, 747, 44]
EXPECTED_PERMUTATION_OF_A_SQUARE = [624, 188, 709, 391, 354, 627, 816, 793]
EXPECTED_REPLACEMENT = [346, 476, 657, 553]
EXPECTED_HASHES = [1841393261538717934, 3637260410717760037]


@pytest.mark.parametrize("num_samples", [*range(1, 66), 99, 100, 101, 1000, 1797, 4096, 4097])
def test_permutation_visits_every_sample_once(num_samples: int) -> None:
    order = sample_indices(7, 3, torch.arange(num_samples), num_samples)
    assert torch.equal(order.sort().values, torch.arange(num_samples))


def test_same_values_on_every_machine() -> None:
    assert sample_indices(0, 0, torch.arange(8), 1000).tolist() == EXPECTED_PERMUTATION
    assert sample_indices(0, 0, torch.arange(8), 900).tolist() == EXPECTED_PERMUTATION_OF_A_SQUARE
    assert sample_indices(0, 0, torch.arange(4), 1000, "replacement").tolist() == EXPECTED_REPLACEMENT
    assert hash_uniform(0, "labels", torch.arange(2)).tolist() == EXPECTED_HASHES


@pytest.mark.parametrize("sampling", ["permutation", "replacement"])
def test_independent_of_the_cut(sampling: str) -> None:
    whole = sample_indices(1, 2, torch.arange(1000), 1000, sampling)
    parts = [sample_indices(1, 2, torch.arange(i, min(i + 37, 1000)), 1000, sampling) for i in range(0, 1000, 37)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole.flip(0), sample_indices(1, 2, torch.arange(1000).flip(0), 1000, sampling))


@pytest.mark.parametrize("num_samples", [2, 3, 4, 5])
def test_every_order_of_a_few_samples_is_equally_likely(num_samples: int) -> None:
    epochs = 3000
    orders: dict[tuple[int, ...], int] = {}
    for epoch in range(epochs):
        order = tuple(sample_indices(0, epoch, torch.arange(num_samples), num_samples).tolist())
        orders[order] = orders.get(order, 0) + 1
    cells = torch.arange(1, num_samples + 1).prod().item()
    assert len(orders) == cells
    chi_square = sum((count - epochs / cells) ** 2 for count in orders.values()) / (epochs / cells)
    assert chi_square < (cells - 1) + 5 * (2 * (cells - 1)) ** 0.5


@pytest.mark.parametrize("sampling", ["permutation", "replacement"])
def test_each_position_holds_each_sample_equally_often(sampling: str) -> None:
    size, epochs = 100, 1000
    table = torch.zeros(size, size, dtype=torch.int64)
    for epoch in range(epochs):
        order = sample_indices(5, epoch, torch.arange(size), size, sampling)
        table[torch.arange(size), order] += 1
    freedom = (size - 1) ** 2 if sampling == "permutation" else size * (size - 1)
    expected = epochs / size
    chi_square = float(((table - expected) ** 2).sum()) / expected
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_neighbouring_positions_are_unrelated() -> None:
    size = 100_000
    order = sample_indices(0, 0, torch.arange(size), size).double()
    correlation = torch.corrcoef(torch.stack([order[:-1], order[1:]]))[0, 1]
    assert abs(float(correlation)) < 5 / size**0.5
    fixed = (order == torch.arange(size)).sum()
    assert int(fixed) < 10


def test_seed_and_epoch_change_the_order() -> None:
    positions = torch.arange(50)
    orders = {tuple(sample_indices(seed, epoch, positions, 50).tolist()) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_hash_is_uniform_and_depends_on_seed_and_purpose() -> None:
    values = hash_uniform(0, "a", torch.arange(40_000))
    assert int(values.min()) >= 0 and int(values.max()) < 1 << 62
    for shift in (0, 20, 58):
        cells = torch.bincount((values >> shift) & 15, minlength=16)
        assert float(((cells - 2500.0) ** 2).sum() / 2500) < 15 + 5 * 30**0.5
    assert not torch.equal(values, hash_uniform(1, "a", torch.arange(40_000)))
    assert not torch.equal(values, hash_uniform(0, "b", torch.arange(40_000)))


def test_errors_name_the_value() -> None:
    with pytest.raises(ValueError, match=r"num_samples must be in \[1, 2\*\*60\]\. Got 0\."):
        sample_indices(0, 0, torch.arange(1), 0)
    with pytest.raises(ValueError, match=r"positions must be in \[0, 3\)\. Got 0 to 3\."):
        sample_indices(0, 0, torch.arange(4), 3)
    with pytest.raises(ValueError, match="sampling must be"):
        sample_indices(0, 0, torch.arange(3), 3, "shuffle")
    assert sample_indices(0, 0, torch.arange(0), 3).numel() == 0
