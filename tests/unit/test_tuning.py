"""Prototypes tuned at the end of a deep run: the slope is that of the cross-entropy, and adds up over any workers."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipeline.deep.encoders import initialise, make_encoder
from pipeline.deep.sample_shape import SampleShape
from pipeline.deep.tuning import labelled_parts, tuned
from pipeline.prepared.shards import Dataset
from pipeline.training.reduction import LocalReduction
from somcore import MapConfig
from somcore.initial import initial_state
from somcore.latent import errors_to
from somcore.losses import cross_entropy
from somcore.tuning import prototype_slope

TEMPERATURE = 0.05


def a_map(generator, nodes=7, features=4, classes=3):
    state = initial_state(MapConfig(capacity=nodes), features, classes)
    return dataclasses.replace(
        state,
        prototypes=torch.rand(nodes, features, generator=generator, dtype=torch.float64),
        relevances=torch.rand(nodes, features, generator=generator, dtype=torch.float64) * 0.9 + 0.1,
        alive=torch.arange(nodes) != 2,
        classes=torch.tensor([0, 1, 2, 0, 1, -1, 0])[:nodes],
    )


def total_loss(state, features, labels):
    return cross_entropy(errors_to(state, features), labels, TEMPERATURE).sum


def test_the_slope_is_that_of_the_cross_entropy(generator):
    state = a_map(generator)
    features, labels = torch.rand(20, 4, generator=generator, dtype=torch.float64), torch.arange(20) % 3
    slope = prototype_slope(state, features, labels, TEMPERATURE)
    step = 1e-6
    for node in range(7):
        for feature in range(4):
            moved = []
            for sign in (1, -1):
                prototypes = state.prototypes.clone()
                prototypes[node, feature] += sign * step
                there = dataclasses.replace(state, prototypes=prototypes)
                moved.append(total_loss(there, features, labels).item())
            assert slope[node, feature].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-3, abs=1e-5)
    assert not slope[2].any() and not slope[5].any()  # dead, and without a class


def test_of_nodes_of_a_class_that_are_equally_near_the_first_alone_represents_it(generator):
    state = a_map(generator)
    state.prototypes[3], state.relevances[3] = state.prototypes[0], state.relevances[0]  # twins
    features, labels = torch.rand(20, 4, generator=generator), torch.arange(20) % 3
    slope = prototype_slope(state, features, labels, TEMPERATURE)
    alone = dataclasses.replace(state, alive=state.alive & (torch.arange(7) != 3))
    assert torch.allclose(slope, prototype_slope(alone, features, labels, TEMPERATURE))
    assert slope[0].any() and not slope[3].any()


def test_a_class_without_a_node_and_no_samples_have_no_slope(generator):
    state = dataclasses.replace(a_map(generator), classes=torch.tensor([0, 1, 1, 0, 1, -1, 0]))
    features = torch.rand(5, 4, generator=generator)
    assert not prototype_slope(state, features, torch.full((5,), 2), TEMPERATURE).any()
    assert not prototype_slope(state, features[:0], torch.zeros(0, dtype=torch.int64), TEMPERATURE).any()


@pytest.mark.parametrize("exact", [True, False])
def test_tuning_lowers_the_loss_and_moves_only_prototypes(exact, generator):
    state = a_map(generator)
    features, labels = torch.rand(64, 4, generator=generator), torch.arange(64) % 3
    parts = [(features[:40], labels[:40]), (features[40:], labels[40:])]
    calls = []
    after = tuned(
        state, parts, 2, TEMPERATURE, steps=30, rate=0.02, exact=exact, reduction=LocalReduction(),
        stay=lambda: calls.append(1),
    )  # fmt: skip
    assert total_loss(after, features, labels) < 0.9 * total_loss(state, features, labels)
    assert len(calls) == 30 and after.prototypes.min() >= 0 and after.prototypes.max() <= 1
    for field in ("relevances", "classes", "alive", "deviations"):
        assert torch.equal(getattr(after, field), getattr(state, field))
    assert torch.equal(after.prototypes[2], state.prototypes[2])


@pytest.mark.parametrize("exact", [True, False])
def test_tuning_is_adam_with_a_rate_that_falls_to_nothing_in_a_straight_line(exact, generator):
    state = a_map(generator)
    features, labels = torch.rand(60, 4, generator=generator), torch.arange(60) % 3
    moved = torch.nn.Parameter(state.prototypes.clone())
    adam = torch.optim.Adam([moved], betas=(0.9, 0.999), eps=1e-8)
    for step in range(8):
        adam.param_groups[0]["lr"] = 0.05 * (8 - step) / 8
        there = dataclasses.replace(state, prototypes=moved.detach().clone())
        moved.grad = prototype_slope(there, features, labels, TEMPERATURE).double()
        adam.step()
        moved.data.clamp_(0, 1)
    after = tuned(
        state, [(features, labels)], 1, TEMPERATURE, steps=8, rate=0.05, exact=exact, reduction=LocalReduction(),
        stay=lambda: None,
    )  # fmt: skip
    assert torch.allclose(after.prototypes, moved.data, atol=1e-6)
    assert (moved.data - state.prototypes).abs().max() > 0.1


def test_the_order_of_parts_does_not_matter(generator):
    state = a_map(generator)
    features, labels = torch.rand(90, 4, generator=generator), torch.arange(90) % 3
    parts = list(zip(features.split(30), labels.split(30), strict=True))

    def run(given):
        return tuned(
            state, given, 3, TEMPERATURE, steps=10, rate=0.02, exact=True, reduction=LocalReduction(),
            stay=lambda: None,
        ).prototypes  # fmt: skip

    assert torch.equal(run(parts), run(parts[::-1]))


class Joined:
    """Workers in threads that wait for each other at every sum."""

    def __init__(self, rank, world_size, barrier, board):
        self.rank, self.world_size, self._barrier, self._board = rank, world_size, barrier, board

    def _gather(self, value):
        self._board[self.rank] = value
        self._barrier.wait(60)
        values = list(self._board)
        self._barrier.wait(60)
        return values

    def max(self, value):
        return max(self._gather(value))

    def sum(self, values):
        return torch.stack(self._gather(values)).sum(0)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_any_number_of_workers_tunes_the_same_map(world_size, digits, generator):
    dataset = Dataset.open(digits)
    labels = dataset.labels("train")
    network = make_encoder("mlp", SampleShape("table", (64,)), dim=4, width=4)
    initialise(network, seed=0)
    state = a_map(generator, classes=10)
    rows = torch.arange(300)

    def run(reduction):
        parts, total = labelled_parts(network, dataset, labels, rows, 5, reduction, lambda: None)
        assert total == 4
        return tuned(
            state, parts, total, TEMPERATURE, steps=5, rate=0.02, exact=True, reduction=reduction, stay=lambda: None
        ).prototypes

    barrier, board = threading.Barrier(world_size), [None] * world_size
    with ThreadPoolExecutor(world_size) as pool:
        found = list(pool.map(run, [Joined(rank, world_size, barrier, board) for rank in range(world_size)]))
    alone = run(LocalReduction())
    assert not torch.equal(alone, state.prototypes)
    assert all(torch.equal(one, alone) for one in found)
