"""Memory and sums of one thread of the prepared search.

Axes: B samples of a block, D features, K nodes, L slots for nodes (K in whole words).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from somcore.state import MapState

WORD = 8  # marks of nodes that are read as one int64
_EXACT = 8192  # fixed-point rows that float64 adds up exactly: 2^13 · 2^40 = 2^53


@dataclass
class Desk:
    """Where one thread works at a time: memory that block after block uses, and the sums of its blocks.

    Attributes:
        x: (B, D) float32, the samples of a block less their mean.
        upper: (B, L) float32, upper bounds, then 1 where a lower bound is no higher than the limit, else 0.
        marks: (B, L) bool, the same.
        scaled: (B, D) of the type of the features, the samples of a block in fixed point.
        fixed: (B, D) float64, the same.
        part: (K, D) float64, sums of whole numbers, exact up to _EXACT rows of one node.
        number: (K,) int64, rows in `part`.
        earlier: (K, D) int64, sums of what was in `part` before.
    """

    x: Tensor
    upper: Tensor
    marks: Tensor
    scaled: Tensor
    fixed: Tensor
    part: Tensor
    number: Tensor
    earlier: Tensor

    @classmethod
    def of(cls, state: MapState, features: Tensor, block: int) -> Desk:
        """An empty desk for blocks of so many samples at most."""
        block, width = min(block, len(features)), features.shape[1]
        slots = state.capacity + -state.capacity % WORD
        part = torch.zeros_like(state.prototypes)
        return cls(
            x=torch.empty(block, width, dtype=torch.float32),
            upper=torch.empty(block, slots, dtype=torch.float32),
            marks=torch.empty(block, slots, dtype=torch.bool),
            scaled=torch.empty(block, width, dtype=features.dtype),
            fixed=torch.empty(block, width, dtype=torch.float64),
            part=part,
            number=torch.zeros(state.capacity, dtype=torch.int64),
            earlier=part.to(torch.int64),
        )

    def pairs(self, lower: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Samples, ascending, and nodes where lower bounds (B, L) are no higher than the limits (B,)."""
        number = len(lower)
        # torch compares faster into float32 than into bool, even with the conversion after it.
        marks = self.marks[:number].copy_(torch.le(lower, limit.unsqueeze(1), out=self.upper[:number]))
        owner, word = marks.view(torch.int64).nonzero(as_tuple=True)  # eight marks at a time
        place, bit = marks.view(number, -1, WORD)[owner, word].nonzero(as_tuple=True)
        return owner.index_select(0, place), word.index_select(0, place).mul_(WORD).add_(bit)

    def add(self, features: Tensor, bmu: Tensor, scale: int) -> None:
        """Add the samples of a block to the sums of their nodes."""
        number = torch.bincount(bmu, minlength=len(self.number))
        if int((self.number + number).max()) > _EXACT:
            self.earlier, self.part = self.total(), torch.zeros_like(self.part)
            self.number.zero_()
        self.number += number
        # A float32 number times a power of two, and that rounded to a whole number, are exact in float32.
        whole = torch.mul(features, 2.0**scale, out=self.scaled[: len(bmu)]).round_()
        self.part.index_add_(0, bmu, self.fixed[: len(bmu)].copy_(whole))

    def total(self) -> Tensor:
        """(K, D) int64 sums of everything added."""
        return self.part.to(torch.int64).add_(self.earlier)
