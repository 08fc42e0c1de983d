"""The exact all-reduce over real process groups: three processes, gloo, no Ray."""

import multiprocessing
import os
import threading
import time

import psutil
import pytest
import torch

import pipeline.training.reduction
from pipeline.training.reduction import LocalReduction, ReductionBroken, Rendezvous, _choose_interface, address_towards
from somcore import MapConfig, accumulate, advance, empty_statistics, initial_state

WORLD = 3
SCALES = {"exact": 40, "fast": None}
WAYS = {"dense": 2**15, "touched": 0}  # numbers up to which tables travel whole


def a_trained_map():
    """A map with nodes, neighbours and two classes, and samples that some of its nodes do not accept."""
    config = MapConfig(variant="sssom", activation_threshold=0.97, capacity=60, connection_threshold=1.0)
    config = config.resolve(num_samples=600, num_features=3, num_classes=2)
    generator = torch.Generator().manual_seed(3)
    samples = torch.rand(600, 3, generator=generator)
    labels = torch.randint(-1, 2, (600,), generator=generator)
    state = initial_state(config, 3, 2)
    for start in range(0, 60, 20):
        part = slice(start, start + 20)
        state = advance(state, accumulate(state, samples[part], labels[part], config, scale=40), config)
    return state, config, samples[300:], labels[300:]


def statistics_of(state, config, samples, labels, tiles, scale):
    """Statistics of some of the six tiles of a round of 300."""
    total = empty_statistics(state, config, scale)
    for tile in tiles:
        rows = torch.arange(tile * 50, tile * 50 + 50)
        total = total.merge(accumulate(state, samples[rows], labels[rows], config, positions=rows, scale=scale))
    return total


def _worker(rank, addresses, results, deals):
    torch.set_num_threads(1)
    state, config, samples, labels = a_trained_map()
    meeting = Rendezvous()
    if rank == 0:
        address = meeting.listen("127.0.0.1", 60)
        for _ in range(WORLD - 1):
            addresses.put(address)
    else:
        address = addresses.get(timeout=60)
    reduction = meeting.join(address, rank, WORLD, join_s=60, collective_s=60)
    found = {"max": reduction.max(float(rank))}
    for name, deal in deals.items():
        for kind, scale in SCALES.items():
            own = statistics_of(state, config, samples, labels, deal[rank], scale)
            for way, limit in WAYS.items():
                pipeline.training.reduction._DENSE, before = limit, reduction.sent_bytes
                merged = reduction.reduce(own)
                flat, rows = merged.pack()
                found[name, kind, way] = (flat.numpy(), rows.numpy(), advance(state, merged, config).digest())
                found[name, way, "bytes"] = reduction.sent_bytes - before
    threading.Timer(1.0, meeting.leave).start()  # nobody else comes to this collective any more
    began = time.monotonic()
    try:
        if rank != 1:
            reduction.reduce(statistics_of(state, config, samples, labels, [0], 40))
        found["freed"] = rank == 1
    except ReductionBroken:
        found["freed"] = time.monotonic() - began < 10
    results.put((rank, found))


DEALS = {"even": [[0, 1], [2, 3], [4, 5]], "uneven": [[5, 0, 3], [], [1, 2, 4]], "one": [[], [], list(range(6))]}


@pytest.fixture(scope="module")
def reduced():
    """What each of three processes got out of the same reductions."""
    context = multiprocessing.get_context("spawn")
    addresses, results = context.Queue(), context.Queue()
    workers = [context.Process(target=_worker, args=(r, addresses, results, DEALS)) for r in range(WORLD)]
    for worker in workers:
        worker.start()
    found = dict(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(timeout=30)
    return found


@pytest.fixture(scope="module")
def alone():
    state, config, samples, labels = a_trained_map()
    parts = {k: statistics_of(state, config, samples, labels, range(6), scale) for k, scale in SCALES.items()}
    return state, config, parts


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("deal", DEALS)
def test_three_processes_have_the_statistics_of_one_to_the_bit(reduced, alone, deal, way):
    state, config, parts = alone
    flat, rows = LocalReduction().reduce(parts["exact"]).pack()
    assert rows.shape[0] > 0, "the case must have rows of variable number"
    for rank in range(WORLD):
        got_flat, got_rows, digest = reduced[rank][deal, "exact", way]
        assert got_flat.tolist() == flat.tolist()
        assert got_rows.tolist() == rows.tolist()
        assert digest == advance(state, parts["exact"], config).digest()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("deal", DEALS)
def test_the_fast_reduction_is_the_same_everywhere_and_close_to_the_exact_one(reduced, alone, deal, way):
    flat, _ = alone[2]["fast"].pack()
    assert len({reduced[rank][deal, "fast", way][2] for rank in range(WORLD)}) == 1
    for rank in range(WORLD):
        assert torch.allclose(torch.from_numpy(reduced[rank][deal, "fast", way][0]), flat, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("deal", DEALS)
def test_nodes_without_news_do_not_travel(reduced, deal):
    """Of 60 slots most are empty; tables of what nobody did (a push, a clone) do not travel at all."""
    for rank in range(WORLD):
        assert reduced[rank][deal, "touched", "bytes"] < 0.8 * reduced[rank][deal, "dense", "bytes"]


def test_half_of_the_parts_is_not_the_whole(alone):
    state, config, parts = alone
    _, _, samples, labels = a_trained_map()
    half = statistics_of(state, config, samples, labels, [0, 2, 4], 40)
    assert half != parts["exact"]
    assert advance(state, half, config).digest() != advance(state, parts["exact"], config).digest()


def test_the_largest_value_of_all_is_known_to_all(reduced):
    assert [reduced[rank]["max"] for rank in range(WORLD)] == [2.0] * WORLD
    assert LocalReduction().max(1.5) == 1.5


def test_leaving_from_another_thread_frees_a_worker_that_waits_for_a_peer(reduced):
    assert all(reduced[rank]["freed"] for rank in range(WORLD))


def test_a_group_that_cannot_form_says_so_in_time():
    meeting = Rendezvous()
    address = meeting.listen("127.0.0.1", 1)
    began = time.monotonic()
    with pytest.raises(ReductionBroken):
        meeting.join(address, 0, 2, join_s=1, collective_s=5)
    assert time.monotonic() - began < 30
    meeting.leave()
    meeting.leave()


def test_the_way_to_this_machine_is_this_machine():
    assert address_towards("127.0.0.1") == "127.0.0.1"


def test_gloo_uses_the_interface_of_the_address_unless_the_user_says_which(monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth9")
    _choose_interface("127.0.0.1")
    assert os.environ["GLOO_SOCKET_IFNAME"] == "eth9"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    _choose_interface("127.0.0.1")
    name = os.environ["GLOO_SOCKET_IFNAME"]
    assert "127.0.0.1" in [one.address for one in psutil.net_if_addrs()[name]]
