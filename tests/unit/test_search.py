"""The prepared search: the same BMUs, sums and maps as the plain path, to the bit, on easy and on nasty data."""

import dataclasses
import gzip
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from somcore import KohonenSOM, MapConfig, accumulate, advance, empty_statistics, initial_state, round_scale, search
from somcore.desk import Desk
from somcore.directions import leading_directions
from somcore.estimators import training
from somcore.matching import match
from tests.conftest import real_data


def _data(kind: str, generator: torch.Generator) -> torch.Tensor:
    number, features = {"one feature": (300, 1), "few rows": (3, 7), "one row": (1, 5)}.get(kind, (700, 40))
    x = torch.rand(number, features, generator=generator)
    if kind == "duplicates":
        x = x[torch.randint(0, 9, (number,), generator=generator)]
    elif kind == "constant columns":
        x[:, ::2] = 0.3
    elif kind == "all equal":
        x[:] = 0.7
    elif kind == "whole numbers":
        x = torch.round(3 * x)
    elif kind == "far from the origin":
        x = (1000 + x.to(torch.float64)) + 1e-9 * torch.rand(x.shape, generator=generator)
    elif kind == "tiny":
        x = x * 1e-25
    elif kind == "one outlier":
        x[0] = 100.0
    return x


KINDS = (
    "uniform", "duplicates", "constant columns", "all equal", "whole numbers", "far from the origin", "tiny",
    "one outlier", "one feature", "few rows", "one row",
)  # fmt: skip


def _config(x: torch.Tensor, rows: int, columns: int) -> MapConfig:
    config = MapConfig(variant="kohonen", rows=rows, columns=columns, epochs=4, tile_size=64)
    return config.resolve(num_samples=len(x), num_features=x.shape[1])


def _prototypes(kind: str, x: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Samples (twice if there are too few), then as close together as the first rounds of a map bring them."""
    rows = x[torch.randint(0, len(x), (size,), generator=generator)].to(torch.float64)
    mean = x.to(torch.float64).mean(0)
    return {"samples": rows, "contracted": mean + 1e-6 * (rows - mean), "one point": mean.expand(size, -1)}[kind]


def _plain(state, x, config, scale):
    total = None
    for first in range(0, len(x), config.tile_size):
        part = accumulate(state, x[first : first + config.tile_size], None, config, scale=scale)
        total = part if total is None else total.merge(part)
    return total


@pytest.mark.parametrize("directions", (1, 5, 96))
@pytest.mark.parametrize("spread", ("samples", "contracted", "one point"))
@pytest.mark.parametrize("kind", KINDS)
def test_winners_sums_and_the_next_map_are_those_of_the_plain_path(kind, spread, directions, generator, monkeypatch):
    monkeypatch.setattr(search, "_DIRECTIONS", directions)
    monkeypatch.setattr(search, "_BLOCK", 64)
    x = _data(kind, generator)
    config = _config(x, 3, 7)
    state = initial_state(config, num_features=x.shape[1], num_classes=0, samples=x[torch.arange(21) % len(x)])
    state = dataclasses.replace(state, prototypes=_prototypes(spread, x, 21, generator).contiguous())
    scale = round_scale(state, max(1.0, float(x.abs().max())), len(x))
    prepared = search.PreparedSamples.of(x)
    bmu, sums = search.winners(prepared, state, scale)
    plain = _plain(state, x, config, scale)
    assert torch.equal(bmu, match(state, x, config=config).bmu)
    assert torch.equal(sums, plain.sums["won"][:, 1:])
    statistics = search.batch_statistics(prepared, state, empty_statistics(state, config, scale), scale)
    assert torch.equal(statistics.sums["won"], plain.sums["won"])
    assert advance(state, statistics, config).digest() == advance(state, plain, config).digest()


def test_sums_are_exact_however_many_rows_one_node_wins():
    largest = torch.tensor([[1.0 - 2.0**-24, -1.0]])
    state = initial_state(_config(largest, 1, 1), num_features=2, num_classes=0, samples=largest)
    own = Desk.of(state, largest.expand(1024, 2), 1024)
    for _ in range(20):
        own.add(largest.expand(1024, 2), torch.zeros(1024, dtype=torch.int64), 40)
    assert own.total().tolist() == [[20 * 1024 * (2**40 - 2**16), -20 * 1024 * 2**40]]


@pytest.mark.parametrize("copies", (2, 40))
def test_a_block_of_rivals_that_only_float64_tells_apart(copies, generator):
    x = torch.rand(300, 60, generator=generator)
    config = _config(x, 1, 5 * copies)
    state = initial_state(config, num_features=60, num_classes=0, samples=x[torch.arange(5 * copies) % 5])
    shift = 1e-9 * torch.rand(state.prototypes.shape, generator=generator, dtype=torch.float64)
    state = dataclasses.replace(state, prototypes=state.prototypes + shift)
    bmu, _ = search.winners(search.PreparedSamples.of(x), state)
    assert torch.equal(bmu, match(state, x, config=config).bmu)


@pytest.mark.parametrize("nodes", (1, 2))
def test_a_map_of_hardly_any_nodes(nodes, generator):
    x = torch.rand(300, 60, generator=generator)
    config = _config(x, 1, nodes)
    state = initial_state(config, num_features=60, num_classes=0, samples=x[:nodes])
    bmu, sums = search.winners(search.PreparedSamples.of(x), state, 40)
    assert torch.equal(bmu, match(state, x, config=config).bmu)
    assert torch.equal(sums, _plain(state, x, config, 40).sums["won"][:, 1:])


@pytest.mark.parametrize(("rank", "number"), ((3, 16), (20, 32), (60, 48)))
def test_directions_are_orthonormal_and_as_many_as_the_prototypes_need(rank, number, generator):
    rows = torch.randn(90, rank, generator=generator) @ torch.randn(rank, 70, generator=generator)
    q = leading_directions(rows, 48, 0.01)
    assert q.shape == (70, number)
    torch.testing.assert_close(q.T @ q, torch.eye(number), atol=1e-6, rtol=0)
    if rank < 48:
        assert (rows - rows @ q @ q.T).norm() < 0.01 * rows.norm()


def test_directions_of_rows_that_are_all_zero():
    assert leading_directions(torch.zeros(5, 40), 64, 0.01).shape == (40, 5)


def test_threads_give_the_same_sums(generator):
    x = torch.rand(3000, 30, generator=generator)
    config = _config(x, 4, 4)
    state = initial_state(config, num_features=30, num_classes=0, samples=x[:16])
    prepared = search.PreparedSamples.of(x)
    alone = search.winners(prepared, state, 40)
    with ThreadPoolExecutor(3) as pool:
        assert all(map(torch.equal, search.winners(prepared, state, 40, pool.map), alone))


def test_ties_go_to_the_lowest_index():
    x = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    config = _config(x, 2, 2)
    state = initial_state(config, num_features=2, num_classes=0, samples=x[[0, 0, 0, 0]])
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    bmu, _ = search.winners(search.PreparedSamples.of(x), dataclasses.replace(state, prototypes=corners))
    assert bmu.tolist() == [0, 3]


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_an_estimator_fits_the_same_map_with_and_without_it(dtype, rng, monkeypatch):
    X = rng.random((600, 30)).astype(dtype)
    used = []
    monkeypatch.setattr(training, "pays", lambda config, features: used.append(1) or True)
    fast = KohonenSOM(rows=5, columns=6, epochs=6, seed=3).fit(X)
    monkeypatch.setattr(training, "pays", lambda config, features: False)
    plain = KohonenSOM(rows=5, columns=6, epochs=6, seed=3).fit(X)
    assert used and fast.state_.digest() == plain.state_.digest()
    np.testing.assert_array_equal(fast.labels_, plain.labels_)
    np.testing.assert_array_equal(fast.predict(X), fast.labels_)


def test_it_is_used_for_many_complete_features_only():
    x = torch.rand(5000, 256)
    config = _config(x, 3, 3)
    assert search.pays(config, x)
    assert not search.pays(config, x[:, :255]) and not search.pays(config, x[:1000])
    assert not search.pays(dataclasses.replace(config, missing="mask"), x)
    assert not search.pays(dataclasses.replace(config, sampling="replacement"), x)
    assert not search.pays(dataclasses.replace(config, algorithm="superstep", batch_size=64), x)


@pytest.mark.data
def test_pixels_give_the_same_map():
    pixels = gzip.decompress(real_data("FashionMNIST/raw/t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    x = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(-1, 784)[:4096] / 255
    config = dataclasses.replace(_config(x, 10, 10), num_rounds=2)
    state = initial_state(config, num_features=784, num_classes=0, samples=x[:100])
    prepared = search.PreparedSamples.of(x)
    for _ in range(2):
        scale = round_scale(state, 1.0, len(x))
        plain = advance(state, _plain(state, x, config, scale), config)
        empty = empty_statistics(state, config, scale)
        state = advance(state, search.batch_statistics(prepared, state, empty, scale), config)
        assert state.digest() == plain.digest()


def test_it_is_not_used_where_torch_may_round_its_products():
    x = torch.rand(5000, 256)
    try:
        torch.set_float32_matmul_precision("medium")
        assert not search.pays(_config(x, 3, 3), x)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert search.pays(_config(x, 3, 3), x)


def test_the_prepared_search_does_not_read_the_default_type(generator):
    X = torch.rand(4096, 256, generator=generator).numpy()
    usual = KohonenSOM(rows=2, columns=2, epochs=1).fit(X).state_.digest()
    try:
        torch.set_default_dtype(torch.float64)
        assert KohonenSOM(rows=2, columns=2, epochs=1).fit(X).state_.digest() == usual
    finally:
        torch.set_default_dtype(torch.float32)
