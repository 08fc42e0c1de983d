"""The state of a map: an immutable value.

Axes: K nodes (slots), D features.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from somcore.config import UNLABELLED

TENSORS = {
    "prototypes": (torch.float64, 2),
    "relevances": (torch.float64, 2),
    "deviations": (torch.float64, 2),
    "alive": (torch.bool, 1),
    "neighbours": (torch.bool, 2),
    "classes": (torch.int64, 1),
    "wins": (torch.int64, 1),
    "updates": (torch.int64, 1),
    "born": (torch.int64, 1),
}
SCALARS = {"clock": int, "round": int, "growing": bool, "finished": bool, "num_classes": int}


def digest_of(tensors: Mapping[str, Tensor], before: str = "") -> str:
    """sha256 over a text, then names, types, shapes and bytes of tensors, in their order."""
    sha = hashlib.sha256(before.encode())
    for name, tensor in tensors.items():
        sha.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


@dataclass(frozen=True, eq=False)
class MapState:
    """All that a map is, between two rounds: replaced, never edited; equal digests mean equal maps.

    Attributes:
        prototypes: (K, D) float64, c, feature units.
        relevances: (K, D) float64, ω, in (0, 1].
        deviations: (K, D) float64, δ, moving mean of |x − c|, feature units.
        alive: (K,) bool, slot in use. A dead slot holds canonical values, so that equal maps have equal bytes.
        neighbours: (K, K) bool, symmetric, zero diagonal.
        classes: (K,) int64, class of the node or UNLABELLED.
        wins: (K,) int64, samples won since the last pruning.
        updates: (K,) int64, deviation updates (ALTSS-SOM).
        born: (K,) int64, clock at insertion, 0 if before the last pruning.
        clock: samples presented since the last pruning.
        round: rounds done.
        growing: False in the convergence phase.
        finished: the convergence phase has ended (or the schedule of a lattice).
        num_classes: C.
    """

    prototypes: Tensor
    relevances: Tensor
    deviations: Tensor
    alive: Tensor
    neighbours: Tensor
    classes: Tensor
    wins: Tensor
    updates: Tensor
    born: Tensor
    clock: int
    round: int
    growing: bool
    finished: bool
    num_classes: int

    @property
    def capacity(self) -> int:
        """Number of slots K."""
        return self.prototypes.shape[0]

    @property
    def num_features(self) -> int:
        """Number of features D."""
        return self.prototypes.shape[1]

    @property
    def num_nodes(self) -> int:
        """Number of alive nodes (reads the device once)."""
        return int(self.alive.sum())

    @property
    def said_classes(self) -> set[int]:
        """Classes that some node has, which alone the map can say (reads the device once)."""
        return set(self.classes[self.alive].tolist()) - {UNLABELLED}

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.prototypes.device

    def to(self, device: torch.device | str) -> MapState:
        """The same state on another device."""
        return dataclasses.replace(self, **{name: getattr(self, name).to(device) for name in TENSORS})

    def copy(self) -> MapState:
        """The same state in tensors of its own, which can be trained on also where inference mode made it."""
        with torch.inference_mode(False):
            return dataclasses.replace(self, **{name: getattr(self, name).detach().clone() for name in TENSORS})

    def digest(self) -> str:
        """sha256 over the canonical little-endian bytes of every field, in a fixed order."""
        return digest_of(self.to_tensors())

    def to_tensors(self) -> dict[str, Tensor]:
        """Every field as a tensor; scalars become 0-d int64 tensors."""
        tensors = {name: getattr(self, name) for name in TENSORS}
        return tensors | {name: torch.tensor(int(getattr(self, name))) for name in SCALARS}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> MapState:
        """The inverse of `to_tensors`.

        Raises:
            ValueError: a field is missing, or has another dtype or shape than a map can have.
        """
        for name in (*TENSORS, *SCALARS):
            if name not in tensors:
                raise ValueError(f"The map's tensors must include '{name}'. Got {sorted(tensors)}.")
        num_nodes, num_features = tensors["prototypes"].shape[0], tensors["prototypes"].shape[-1]
        for name, (dtype, rank) in TENSORS.items():
            second = num_nodes if name == "neighbours" else num_features
            shape = (num_nodes, second)[:rank]
            tensor = tensors[name]
            if tensor.dtype != dtype or tuple(tensor.shape) != shape:
                raise ValueError(
                    f"'{name}' of the map must be {dtype} {shape}. Got {tensor.dtype} {tuple(tensor.shape)}."
                )
        fields: dict[str, Any] = {name: tensors[name] for name in TENSORS}
        scalars = {name: kind(tensors[name].item()) for name, kind in SCALARS.items()}
        return cls(**fields, **scalars)


def blank_state(capacity: int, num_features: int, num_classes: int, device: torch.device | str = "cpu") -> MapState:
    """A map of K dead slots, each with its canonical values."""
    long = {"dtype": torch.int64, "device": device}
    double = {"dtype": torch.float64, "device": device}
    return MapState(
        prototypes=torch.zeros(capacity, num_features, **double),  # type: ignore[call-overload]
        relevances=torch.ones(capacity, num_features, **double),  # type: ignore[call-overload]
        deviations=torch.zeros(capacity, num_features, **double),  # type: ignore[call-overload]
        alive=torch.zeros(capacity, dtype=torch.bool, device=device),
        neighbours=torch.zeros(capacity, capacity, dtype=torch.bool, device=device),
        classes=torch.full((capacity,), UNLABELLED, **long),  # type: ignore[call-overload]
        wins=torch.zeros(capacity, **long),  # type: ignore[call-overload]
        updates=torch.zeros(capacity, **long),  # type: ignore[call-overload]
        born=torch.zeros(capacity, **long),  # type: ignore[call-overload]
        clock=0,
        round=0,
        growing=True,
        finished=False,
        num_classes=num_classes,
    )
