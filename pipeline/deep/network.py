"""The trained network between two rounds, as a value: flat tensors, an optimiser step that is the same everywhere.

P trainable parameters. All encoders and decoders keep their numbers in parameters; there are no running statistics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from somcore.state import digest_of

_TENSORS = ("values", "first", "second", "average")
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, eq=False)
class NetworkState:
    """Parameters and optimiser, and what the deep training remembers between rounds.

    Attributes:
        values: (P,) float32 parameters of encoder and decoder, in the order of the modules.
        first: (P,) float32, Adam's mean of gradients.
        second: (P,) float32, Adam's mean of squared gradients.
        average: (P,) float32, moving mean of the parameters.
        steps: optimiser steps done.
        threshold: a_t of the map, as calibrated last; 0 before.
        alarms: rounds in a row that looked collapsed.
        crossings: (K, K) int64 between the nodes of the final map, where they were counted.
    """

    values: Tensor
    first: Tensor
    second: Tensor
    average: Tensor
    steps: int = 0
    threshold: float = 0.0
    alarms: int = 0
    crossings: Tensor | None = None

    @classmethod
    def of(cls, module: nn.Module) -> NetworkState:
        """The state of a module before its first step."""
        values = flat_parameters(module)
        return cls(values, torch.zeros_like(values), torch.zeros_like(values), values.clone())

    def digest(self) -> str:
        """sha256 over the bytes of every field."""
        return digest_of(self.to_tensors())

    def to(self, device: torch.device | str) -> NetworkState:
        """The same state on another device."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        crossings = None if self.crossings is None else self.crossings.to(device)
        return dataclasses.replace(self, **moved, crossings=crossings)

    def to_tensors(self) -> dict[str, Tensor]:
        """Every field as a tensor."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        if self.crossings is not None:
            tensors["crossings"] = self.crossings
        counts = {name: torch.tensor(getattr(self, name), dtype=torch.int64) for name in ("steps", "alarms")}
        return tensors | counts | {"threshold": torch.tensor(self.threshold, dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> NetworkState:
        """The inverse of `to_tensors`.

        Raises:
            ValueError: a field is missing.
        """
        missing = [name for name in (*_TENSORS, "steps", "alarms", "threshold") if name not in tensors]
        if missing:
            raise ValueError(f"The network's tensors must include '{missing[0]}'. Got {sorted(tensors)}.")
        values: dict[str, Any] = {name: tensors[name] for name in _TENSORS}
        values |= {"steps": int(tensors["steps"]), "alarms": int(tensors["alarms"])}
        return cls(**values, threshold=float(tensors["threshold"]), crossings=tensors.get("crossings"))


class Network(nn.Module):
    """Encoder and, if something is to be reconstructed, decoder; beside the map, if it has a weight, a classifier."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module | None = None, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier

    def forward(self, samples: Tensor) -> Tensor:
        """(n, P) scaled samples to (n, D) in (0, 1)."""
        features: Tensor = self.encoder(samples)
        return features

    @property
    def body(self) -> nn.Module:
        """What has learned to represent samples: the encoder, without a classifier behind it."""
        return getattr(self.encoder, "body", self.encoder)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that are trained, in their order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def flat_parameters(module: nn.Module) -> Tensor:
    """(P,) float32 copy of all trainable parameters."""
    parts = [parameter.detach().reshape(-1).to(torch.float32) for parameter in trainable(module)]
    return torch.cat(parts) if parts else torch.zeros(0)


def load_flat(module: nn.Module, values: Tensor) -> None:
    """Writes flat values into the module's parameters; a gradient that a broken step left there is none of theirs."""
    start = 0
    with torch.no_grad():
        for parameter in trainable(module):
            parameter.grad = None
            parameter.copy_(values[start : start + parameter.numel()].view_as(parameter))
            start += parameter.numel()
    if start != values.numel():
        raise ValueError(f"The network must have {start} parameters. Got {values.numel()}; another encoder?")


def flat_gradient(module: nn.Module) -> Tensor:
    """(P,) float32 gradient of the last backward pass, 0 where it did not reach; cleared afterwards."""
    parts = []
    for parameter in trainable(module):
        gradient = parameter.grad
        parts.append((torch.zeros_like(parameter) if gradient is None else gradient).reshape(-1).to(torch.float32))
        parameter.grad = None
    return torch.cat(parts)


@contextlib.contextmanager
def single_precision() -> Iterator[None]:
    """New tensors are float32, also in a process whose default (`torch.set_default_dtype`) is another."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def narrowed(precision: str, device: torch.device | str) -> torch.autocast:
    """What forward passes of a training run in: bfloat16 for products and convolutions, or everything as it stands."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bfloat16")


@dataclass(frozen=True)
class StepSize:
    """The learning rate over a training: a linear warm-up, then half a cosine.

    Attributes:
        rate: largest rate.
        final_share: share of it at the end.
        warmup: rounds of the warm-up.
        total: rounds of the training.
    """

    rate: float
    final_share: float
    warmup: int
    total: int

    def at(self, round_index: int) -> float:
        """Rate of a round."""
        if round_index < self.warmup:
            return self.rate * (round_index + 1) / self.warmup
        progress = (round_index - self.warmup) / max(1, self.total - self.warmup)
        cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        return self.rate * (self.final_share + (1 - self.final_share) * cosine)


def adam_moments(first: Tensor, second: Tensor, slope: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moving means of gradient and square after a step (from 1), and their corrected quotient: above and below."""
    first = _BETA_1 * first + (1 - _BETA_1) * slope
    second = _BETA_2 * second + (1 - _BETA_2) * slope * slope
    return first, second, first / (1 - _BETA_1**step), (second / (1 - _BETA_2**step)).sqrt_().add_(_EPSILON)


def adam_step(
    network: NetworkState, gradient: Tensor, rate: float, *, weight_decay: float, clip_norm: float, average_decay: float
) -> NetworkState:
    """One step of Adam with decoupled weight decay: elementwise, so the same bits in give the same bits out.

    Args:
        network: before the step.
        gradient: (P,) float64 of the whole round.
        rate: learning rate.
        weight_decay: per step and unit of rate.
        clip_norm: longest gradient; 0 = any.
        average_decay: of the moving mean of parameters; its first steps count more.

    Source: Kingma & Ba 2015; Loshchilov & Hutter 2019.
    """
    if clip_norm:
        norm = float(gradient.square().sum().sqrt())
        gradient = gradient * min(1.0, clip_norm / max(norm, 1e-30))
    steps = network.steps + 1
    slope = gradient.to(torch.float32)
    first, second, mean, scale = adam_moments(network.first, network.second, slope, steps)
    values = network.values * (1 - rate * weight_decay) - rate * mean / scale
    kept = min(average_decay, steps / (10 + steps)) if average_decay else 0.0
    average = kept * network.average + (1 - kept) * values
    return dataclasses.replace(network, values=values, first=first, second=second, average=average, steps=steps)
