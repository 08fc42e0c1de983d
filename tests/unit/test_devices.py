"""The inner loop never asks the device: a meta tensor has no values to ask for, so any question fails here.

CUDA itself was not at hand; where it is, `test_cuda_gives_the_same_map` runs.
"""

import dataclasses

import pytest
import torch

from pipeline.training.advice import slow_here
from pipeline.training.trainer import train
from somcore import (
    UNLABELLED,
    MapConfig,
    MapState,
    accumulate,
    advance,
    device,
    expected,
    initial_indices,
    initial_state,
    layer,
    match,
    measure,
    update,
)
from somcore.distance import Tile, squared_errors
from somcore.growth import take_nodes
from tests.training import small

N, D, C = 24, 5, 3


def map_and_data(variant: str, missing: str = "error") -> tuple[MapState, MapConfig, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(N, D, generator=generator)
    labels = torch.randint(-1, C, (N,), generator=generator)
    lattice = variant in ("kohonen", "dssom")
    settings = {"rows": 3, "columns": 3, "initialisation": "sample"} if lattice else {"capacity": 12}
    if variant in ("larfdssom", "sssom"):
        settings["activation_threshold"] = 0.95
    config = MapConfig(variant=variant, missing=missing, **settings)
    config = config.resolve(num_samples=N, num_features=D, num_classes=C)
    rows = initial_indices(config, N)
    state = initial_state(config, D, C, samples=None if rows is None else features[rows])
    statistics = accumulate(state, features, labels, config, scale=40)
    return advance(state, statistics, config), config, features, labels


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("variant", ["kohonen", "dssom", "larfdssom", "sssom", "altsssom"])
@pytest.mark.parametrize("growing", [True, False], ids=["growing", "converging"])
def test_a_tile_is_accumulated_without_asking_the_device(variant, missing, growing):
    state, config, features, labels = map_and_data(variant, missing)
    state = dataclasses.replace(state, growing=growing and config.is_growing).to("meta")
    weights = torch.ones(N, dtype=torch.int64, device="meta")
    statistics = accumulate(state, features.to("meta"), labels.to("meta"), config, weights=weights, scale=40)
    assert all(total.device.type == "meta" for total in statistics.sums.values())


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("variant", ["kohonen", "dssom", "larfdssom", "sssom", "altsssom"])
def test_the_way_of_accelerators_gives_the_same_bits(variant, missing, monkeypatch):
    """There every row is computed and masked; the sums and proposals are those of the way that asks."""
    state, config, features, labels = map_and_data(variant, missing)
    weights = torch.arange(N) % 3 + 1
    usual = accumulate(state, features, labels, config, weights=weights, scale=38)
    monkeypatch.setattr(device, "asking_is_free", lambda tensor: False)
    unusual = accumulate(state, features, labels, config, weights=weights, scale=38)
    monkeypatch.undo()
    assert usual == unusual
    assert advance(state, usual, config).digest() == advance(state, unusual, config).digest()


@pytest.mark.parametrize("variant", ["sssom", "altsssom"])
@pytest.mark.parametrize("last_slot", ["free", "of a class that no sample has"])
def test_what_an_accelerator_leaves_unpacked_asks_for_no_node(variant, last_slot, monkeypatch):
    """Tiles are kept there with their padding, whose key is the number before the first node's: no node's."""
    state, config, features, labels = map_and_data(variant)
    if last_slot == "free":
        state = initial_state(config, D, C)
    else:
        last = torch.arange(state.capacity) == state.capacity - 1
        nodes = torch.where(last, 0, torch.arange(state.capacity))
        state = dataclasses.replace(take_nodes(state, nodes), classes=torch.where(last, C - 1, state.classes))
        labels = torch.where(labels == C - 1, UNLABELLED, labels)

    def next_map():
        return advance(state, accumulate(state, features, labels, config, scale=40), config)

    usual = next_map()
    monkeypatch.setattr(device, "asking_is_free", lambda tensor: False)
    assert next_map().digest() == usual.digest()


@pytest.mark.parametrize("variant", ["dssom", "sssom"])
@pytest.mark.parametrize(
    ("value", "label"), [(torch.nan, 0), (torch.inf, 0), (1e9, 0), (0.5, C)], ids=["nan", "infinite", "large", "label"]
)
def test_what_no_map_may_learn_is_refused_after_the_round(variant, value, label, monkeypatch):
    """An accelerator is not asked tile by tile."""
    state, config, features, labels = map_and_data(variant)
    features[3, 1], labels[3] = value, label
    for module in (device, update):
        monkeypatch.setattr(module, "asking_is_free", lambda tensor: False)
    statistics = accumulate(state, features, labels, config, scale=40)
    if variant == "dssom" and label == C:  # reads no labels
        advance(state, statistics, config)
        return
    with pytest.raises(ValueError, match=r"finite and within the bound .* Got 1 other samples"):
        advance(state, statistics.merge(accumulate(state, features[:2], labels[:2], config, scale=40)), config)


@pytest.mark.parametrize("variant", ["kohonen", "sssom"])
def test_an_accelerator_finds_the_nearest_of_any_number_of_nodes_that_float32_cannot_tell_apart(variant, monkeypatch):
    """As of an encoder that has not learned yet: all features, and all nodes, in one place."""
    generator = torch.Generator().manual_seed(2)
    size = {"rows": 5, "columns": 8} if variant == "kohonen" else {"capacity": 40, "activation_threshold": 0.9}
    config = MapConfig(variant=variant, **size).resolve(num_samples=60, num_features=D, num_classes=C)
    nodes = 0.5 + 1e-6 * torch.rand(40, D, generator=generator, dtype=torch.float64)
    nodes[:3] = 0.0  # far from the others
    state = initial_state(config, D, C, samples=nodes)
    alive, classes = torch.arange(40) != 7, torch.arange(40) % (C + 1) - 1
    state = dataclasses.replace(state, prototypes=nodes, alive=alive, classes=classes)
    samples = 0.5 + 1e-6 * torch.rand(60, D, generator=generator, dtype=torch.float64)
    labels = torch.arange(60) % (C + 1) - 1
    usual = match(state, samples, labels, config=config)
    monkeypatch.setattr(device, "asking_is_free", lambda tensor: False)
    unusual = match(state, samples, labels, config=config)
    assert torch.equal(usual.bmu, squared_errors(state, Tile.of(samples, "error")).argmin(1))
    assert torch.equal(unusual.bmu, usual.bmu) and torch.equal(unusual.compatible_bmu, usual.compatible_bmu)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["dssom", "sssom", "altsssom", "deep"])
def test_a_training_on_the_way_of_accelerators_gives_the_same_bits(model, digits, tmp_path, monkeypatch):
    more = {"encoder__width": 4, "encoder__dim": 8, "map__batch_size": 200} if model == "deep" else {}
    if model == "deep":  # strong views of all samples: an encoder rounds otherwise in other company
        more["loss__agreement_weight"] = 0.1
    settings = small(model, digits, map__epochs=1, train__evaluate_epochs=0, **more)
    usual = train(settings, tmp_path / "usual")
    for module in (device, update, expected, layer, measure):
        monkeypatch.setattr(module, "asking_is_free", lambda tensor: False)
    unusual = train(settings, tmp_path / "unusual")
    assert unusual["map_digest"] == usual["map_digest"] and unusual["nodes"] == usual["nodes"] > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("variant", ["kohonen", "dssom", "larfdssom", "sssom", "altsssom"])
def test_cuda_gives_the_same_map(variant):
    state, config, features, labels = map_and_data(variant)
    here = advance(state, accumulate(state, features, labels, config, scale=40), config)
    there = state.to("cuda")
    there = advance(there, accumulate(there, features.cuda(), labels.cuda(), config, scale=40), config).to("cpu")
    assert torch.equal(here.alive, there.alive) and torch.equal(here.wins, there.wins)
    torch.testing.assert_close(here.prototypes, there.prototypes, rtol=0, atol=1e-9)


@pytest.mark.parametrize("precision, told", [("medium", True), ("highest", False)])
def test_products_that_torch_may_round_still_find_the_nearest_node(precision, told, monkeypatch):
    """The factors are rounded here as a processor with such products does it; unless told, bounds would not hold."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(400, 6, generator=generator)
    config = MapConfig(variant="kohonen", rows=12, columns=12).resolve(num_samples=400, num_features=6)
    state = initial_state(config, 6, 0, samples=0.5 + 0.01 * torch.rand(144, 6, generator=generator))
    plain = match(state, x, config=config).bmu

    def rounded(bias, a, b):
        return bias + a.to(torch.bfloat16).to(torch.float32) @ b.to(torch.bfloat16).to(torch.float32)

    monkeypatch.setattr(torch, "addmm", rounded)
    try:
        torch.set_float32_matmul_precision(precision)
        assert (device.factor_roundoff(x) > 0) == told
        assert torch.equal(match(state, x, config=config).bmu, plain) == told
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "precision, device, processor, told",
    [
        ("bfloat16", "cpu", "AVX2", True),
        ("bfloat16", "cpu", "AVX512", False),
        ("float32", "cpu", "AVX2", False),
        ("bfloat16", "cuda", "AVX2", False),
    ],
)
def test_a_precision_that_the_processor_imitates_is_told(precision, device, processor, told, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    line = slow_here(precision, device)
    assert (line is not None and "deep.precision=float32" in line) == told
