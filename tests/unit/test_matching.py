"""Winners are those of exact errors: of samples with many rivals, and of samples far outside the map."""

import dataclasses
from threading import Event, Thread

import pytest
import torch

from somcore import MapConfig, initial_state, matching
from somcore.config import VARIANTS
from somcore.device import one_thread
from somcore.distance import Scores, Tile, exact_errors, project, squared_errors
from somcore.matching import box, box_ratios, match, predict_classes


def test_portions_are_the_whole(monkeypatch, generator):
    """Nodes so near to one another that float32 cannot tell them apart, for all samples or for some."""
    config = MapConfig(variant="kohonen", rows=5, columns=6).resolve(num_samples=400, num_features=20)
    nodes = 1000 + 1e-6 * torch.rand(30, 20, generator=generator, dtype=torch.float64)
    nodes[20:] += torch.arange(1, 11).unsqueeze(1)
    state = dataclasses.replace(initial_state(config, 20, samples=nodes), prototypes=nodes)
    reach = torch.tensor([0.3, 12.0], dtype=torch.float64).repeat_interleave(200).unsqueeze(1)
    samples = 1000 + reach * torch.rand(400, 1, generator=generator, dtype=torch.float64) + torch.zeros(400, 20)
    rows, sizes = torch.arange(400), []
    counted = exact_errors

    def watched(state, tile, nodes):
        sizes.append(nodes.numel())
        return counted(state, tile, nodes)

    monkeypatch.setattr(matching, "exact_errors", watched)
    whole = match(state, samples, config=config)
    assert max(sizes) > 4_000, "the case must have rivals"
    monkeypatch.setattr(matching, "_AT_ONCE", 20 * 30 * 7)
    sizes.clear()
    portions = match(state, samples, config=config)
    assert max(size for size in sizes if size != len(rows)) <= 7 * 30
    assert torch.equal(whole.bmu, portions.bmu) and torch.equal(whole.rho, portions.rho)


def test_scores_that_err_by_their_margin_in_both_directions_do_not_choose_the_winner():
    """One node may look nearer by the margin than it is, the nearest one farther by as much."""
    config = MapConfig(variant="kohonen", rows=1, columns=2).resolve(num_samples=2, num_features=1)
    nodes = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    state = dataclasses.replace(initial_state(config, 1, samples=nodes), prototypes=nodes)
    tile = Tile.of(torch.tensor([[0.49]], dtype=torch.float64), "error")  # errors 0.2601 and 0.2401
    scores = Scores(torch.tensor([[0.1602, 0.3400]]), torch.tensor([0.1]))
    node, rho = matching.nearest(state, tile, project(state, config), scores)
    assert node.tolist() == [1] and rho.tolist() == pytest.approx([0.2401])


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("far", [1e10, 1e18, 3e19, 1e25, 1e38, 1e40, 1e150])
@pytest.mark.parametrize("variant", ["kohonen", "sssom"])
def test_samples_beyond_float32_have_the_winner_of_exact_errors(variant, far, missing, generator):
    size = {"rows": 3, "columns": 4} if variant == "kohonen" else {"capacity": 12, "activation_threshold": 0.9}
    config = MapConfig(variant=variant, missing=missing, **size).resolve(num_samples=9, num_features=5, num_classes=2)
    nodes = torch.rand(12, 5, generator=generator, dtype=torch.float64)
    state = initial_state(config, 5, 2 if variant == "sssom" else 0, samples=nodes)
    state = dataclasses.replace(state, prototypes=nodes, alive=torch.arange(12) != 4)
    if variant == "sssom":
        relevances = 0.1 + 0.9 * torch.rand(12, 5, generator=generator, dtype=torch.float64)
        state = dataclasses.replace(state, relevances=relevances, classes=torch.arange(12) % 3 - 1)
    samples = far * (torch.rand(9, 5, generator=generator, dtype=torch.float64) - 0.5)
    if missing == "mask":
        samples[::2, 1] = torch.nan
    errors = squared_errors(state, Tile.of(samples, missing)).masked_fill(~state.alive, torch.inf)
    found = match(state, samples, config=config)
    assert torch.equal(found.bmu, errors.argmin(1))
    if variant == "sssom":
        classed = errors.masked_fill(state.classes < 0, torch.inf).argmin(1)
        nearest = torch.where(state.classes[found.bmu] < 0, classed, found.bmu)
        assert torch.equal(predict_classes(state, samples, config), state.classes[nearest])


def test_one_wide_error_has_the_same_bits_for_any_number_of_threads(generator):
    wide = 40_000
    config = MapConfig(variant="larfdssom", capacity=6).resolve(num_samples=9, num_features=wide)
    nodes = torch.rand(6, wide, generator=generator, dtype=torch.float64)
    state = dataclasses.replace(initial_state(config, wide), prototypes=nodes, alive=torch.ones(6, dtype=torch.bool))
    tile = Tile.of(torch.rand(9, wide, generator=generator, dtype=torch.float64), "error")
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        alone = [
            exact_errors(state, tile.take(torch.tensor([i])), torch.tensor([[j]])) for i in range(9) for j in range(6)
        ]
        found.append(torch.cat(alone).view(9, 6))
    torch.set_num_threads(before)
    assert torch.equal(found[0], squared_errors(state, tile))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("wide", [98_304, 100_003])
def test_all_errors_of_one_node_have_the_same_bits_for_any_number_of_threads(wide, missing, generator):
    config = MapConfig(variant="larfdssom", capacity=2).resolve(num_samples=9, num_features=wide)
    numbers = torch.rand(2, 2, wide, generator=generator, dtype=torch.float64)
    state = dataclasses.replace(
        initial_state(config, wide), prototypes=numbers[0], relevances=numbers[1], alive=torch.arange(2) == 1
    )
    tile = Tile.of(torch.rand(1, wide, generator=generator, dtype=torch.float64), missing)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        found.append(squared_errors(state, tile))
        assert torch.equal(found[-1], exact_errors(state, tile, torch.arange(2).expand(1, -1)))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize(("capacity", "dim", "rows"), [(7, 3, 40), (300, 50, 70), (5, 900, 90), (1, 1, 1), (9, 4, 0)])
def test_errors_of_all_nodes_have_the_bits_of_the_errors_of_given_ones(capacity, dim, rows, missing, generator):
    config = MapConfig(variant="larfdssom", capacity=capacity).resolve(num_samples=9, num_features=dim)
    numbers = torch.rand(2, capacity, dim, generator=generator, dtype=torch.float64)
    alive = torch.arange(capacity) % 3 != 1
    state = dataclasses.replace(
        initial_state(config, dim), prototypes=numbers[0], relevances=0.1 + 0.9 * numbers[1], alive=alive
    )
    samples = torch.rand(rows, dim, generator=generator, dtype=torch.float64)
    if missing == "mask" and dim > 1:
        samples[:, 1:] = torch.where(torch.rand(rows, dim - 1, generator=generator) < 0.4, torch.nan, samples[:, 1:])
    tile = Tile.of(samples, missing)
    every = torch.arange(capacity).expand(rows, -1)
    assert torch.equal(squared_errors(state, tile), exact_errors(state, tile, every))


@pytest.mark.parametrize("missing", ["error", "mask"])
def test_the_way_to_the_border_of_a_box_is_above_one_exactly_where_the_box_ends(missing, generator):
    """Samples at the border of one feature, a double inside it and a double outside it; others anywhere."""
    config = MapConfig(variant="altsssom", capacity=5, missing=missing).resolve(num_samples=9, num_features=3)
    nodes, deviations = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64)
    state = dataclasses.replace(
        initial_state(config, 3), prototypes=nodes, deviations=deviations / 50, alive=torch.arange(5) != 4
    )
    state = dataclasses.replace(state, updates=torch.tensor([0, 1, 30, 500, 7]))
    border = nodes[:4] + box(state, config)[:4] * torch.tensor([1.0, 0.3, 0.0])
    up, down = torch.tensor([torch.inf, -torch.inf], dtype=torch.float64)
    near = torch.cat([border.nextafter(down), border, border.nextafter(up)])
    samples = torch.cat([nodes[:4], near, torch.rand(400, 3, generator=generator, dtype=torch.float64)])
    if missing == "mask":
        samples[::3, 1] = torch.nan
    ratio, matched = box_ratios(state, samples, config), match(state, samples, config=config).matched
    assert torch.equal(ratio > 1, ~matched) and torch.equal(ratio / (1 + ratio) > 0.5, ~matched)
    assert 4 < matched.sum() < len(samples) and (ratio[:4] == 0).all()
    assert ratio[4:16].tolist() == pytest.approx([1.0] * 12, rel=1e-6, abs=1e-6)
    assert (ratio[4:8] < ratio[12:16]).all()


def test_no_sample_is_within_a_box_of_an_empty_map():
    config = MapConfig(variant="altsssom", capacity=5).resolve(num_samples=9, num_features=3)
    assert box_ratios(initial_state(config, 3), torch.zeros(2, 3), config).tolist() == [torch.inf, torch.inf]


@pytest.mark.parametrize("variant", VARIANTS)
def test_nodes_of_a_growing_map_accept_by_one_threshold_or_by_boxes(variant):
    config = MapConfig(variant=variant)
    assert config.has_threshold + config.has_boxes == config.is_growing


def test_one_thread_leaves_every_python_thread_the_number_it_had():
    """Two that overlapped left the process at one thread: the second took the number of the first for its own."""
    before, found = torch.get_num_threads(), []
    first_in, second_in, first_out = Event(), Event(), Event()

    def first():
        with one_thread():
            first_in.set()
            second_in.wait(30)
        first_out.set()

    def second():
        first_in.wait(30)
        with one_thread(), one_thread():
            second_in.set()
            first_out.wait(30)
            found.append(torch.get_num_threads())
        found.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        for together in ([first, second], [lambda: found.append(torch.get_num_threads())]):
            threads = [Thread(target=work) for work in together]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert found == [1, 2, 2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
