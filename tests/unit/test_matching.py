"""Samples with many rivals are decided a few at a time, to the same winners."""

import dataclasses

import torch

from somcore import MapConfig, initial_state, matching
from somcore.distance import exact_errors
from somcore.matching import match


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
