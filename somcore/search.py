"""The exact BMUs of a fixed data set, again and again, without most of the distance products: batch maps in memory.

Per map the samples are written in the few orthonormal directions in which its prototypes vary most; one small float32
product in these bounds all distances from below and above. A node whose lower bound exceeds the upper bound of another
cannot win. That decides most samples; for the others the nodes left over are compared by float32 dot products, and
what these cannot tell apart in float64.

With sample x, its mean μ, prototype c, mean prototype a and directions Q the score of a node is
‖x − c‖² − ‖x − a‖² = κ − 2 (x − μ)·(c − a), κ = ‖c − a‖² + 2 (a − μ)·(c − a), and by Cauchy and Schwarz
|(x − μ)·(c − a) − Qᵀ(x − μ)·Qᵀ(c − a)| ≤ r s, where r and s are the lengths of what Q leaves of x − μ and c − a.

Axes: N samples, B of a block, D features, K nodes, L slots for nodes (K in whole words), M directions, P pairs.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from somcore import device
from somcore.config import MapConfig
from somcore.desk import WORD, Desk
from somcore.directions import leading_directions, linear
from somcore.pairs import decided, dots, least, rivals, taken
from somcore.state import MapState
from somcore.statistics import TALLIES, BatchStatistics

_DIRECTIONS = 64  # of the prototypes of one map, at most
_LEFT = 0.01  # share of the prototypes' lengths that may be left outside the directions if fewer will do
_WIDE = 0.1  # share of the prototypes' lengths outside all directions that makes bounds by directions too loose
_SUBSAMPLE = 2048  # samples that choose μ, at least
_BLOCK = 512  # samples at a time: they and their scores stay in the cache
_U32, _U64 = 2.0**-24, 2.0**-53  # unit roundoff
_TINY = 2.0**-100  # far above where float32 loses relative precision
_Result = TypeVar("_Result")


class Each(Protocol):
    """`map`, or what does the same in threads."""

    def __call__(self, function: Callable[[int], _Result], starts: Iterable[int], /) -> Iterable[_Result]:
        """The results for all starts, in order."""


@dataclass(frozen=True)
class PreparedSamples:
    """Samples and what bounds need of them, whatever the map; holds N float32 numbers beside them.

    Attributes:
        features: (N, D) float32 or float64 on a CPU, complete, small enough for `fixed_point_scale`.
        centre: (D,) μ, of the type of the features.
        norms: (N,) float32, ‖x − μ‖.
    """

    features: Tensor
    centre: Tensor
    norms: Tensor

    @classmethod
    def of(cls, features: Tensor, each: Each = map) -> PreparedSamples:
        """Measure all samples from about their mean, part by part."""
        centre = features[:: max(1, len(features) // _SUBSAMPLE)].mean(0)
        norms = torch.empty(len(features), dtype=torch.float32)

        def write(first: int) -> None:
            rows = slice(first, first + _BLOCK)
            torch.linalg.vector_norm((features[rows] - centre).to(torch.float32), dim=1, out=norms[rows])

        for _ in each(write, range(0, len(features), _BLOCK)):
            pass
        with warnings.catch_warnings():  # torch says once that sparse tensors may change: not from a thread
            warnings.simplefilter("ignore")
            torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), norms[:0])
        return cls(features, centre, norms)


@dataclass(frozen=True)
class _Nodes:
    """A map as the bounds need it: computed in float64, once per round."""

    across: Tensor | None  # (M, D) float32, Qᵀ; None = all features are compared
    factors: Tensor  # (L, M + 1) float32, −2 [Qᵀ(c − a), s], or (L, D), −2 (c − a); zero for slots beyond K
    offsets: Tensor  # (L,) float32, κ; +inf for slots beyond K
    spread: Tensor  # (L,) float32, 4 s
    gaps: Tensor  # (K, D) float32, −2 (c − a)
    lengths: Tensor  # (K,) float64, ‖c − a‖
    reach: float  # the largest of them
    size: float  # ‖a‖ + ‖a − μ‖ + reach
    defect: float  # ‖QᵀQ − 1‖
    growth: float  # max Σ |qᵀ(c − a)| over the directions q, and more: how an error of qᵀ(x − μ) moves a score

    @classmethod
    def of(cls, state: MapState, samples: PreparedSamples) -> _Nodes:
        centre, mean = samples.centre.to(torch.float64), state.prototypes.mean(0)
        gaps = state.prototypes - mean
        directions = leading_directions(gaps.to(torch.float32), _DIRECTIONS, _LEFT)
        q = directions.to(torch.float64)
        inside, gram = gaps @ q, q.T @ q
        defect = float(torch.linalg.matrix_norm(gram - torch.eye(len(gram), dtype=torch.float64)))
        norms = torch.linalg.vector_norm(gaps, dim=1)
        reach = float(norms.max())
        # ‖g − QQᵀg‖² with g = c − a. QᵀQ errs by D roundoffs an element, by M D ‖Qᵀg‖² altogether; the rest is less.
        left = norms.square() - (inside * (2 * inside - inside @ gram)).sum(1)
        left = left.clamp_min_(0) + 4 * _U64 * (q.shape[0] + 8) * q.shape[1] * norms.square()
        rest = left.sqrt_() + (defect + _U32) * norms
        offsets = norms.square() + 2 * (gaps @ (mean - centre))
        filler = -len(gaps) % WORD
        wide = float(rest.norm()) > _WIDE * float(norms.norm())
        factors = gaps if wide else torch.cat([inside, rest.unsqueeze(1)], dim=1)
        return cls(
            across=None if wide else directions.T.contiguous(),
            factors=pad(-2 * factors, (0, 0, 0, filler)).to(torch.float32),
            offsets=pad(offsets, (0, filler), value=torch.inf).to(torch.float32),
            spread=pad(0 * rest if wide else 4 * rest, (0, filler)).to(torch.float32),
            gaps=(-2 * gaps).to(torch.float32),
            lengths=norms,
            reach=reach,
            size=float(mean.norm() + (mean - centre).norm()) + reach,
            defect=0.0 if wide else defect,
            growth=0.0 if wide else 1.01 * (1 + defect) * float(inside.abs().sum(1).max()) + reach,
        )

    def slacks(self, samples: PreparedSamples) -> _Slacks:
        """What rounding does to the scores of all samples.

        From directions it is the rotation of the sample and the product; from all features a float32 dot product in
        any order. Both hold what float64 itself does to an error, so that float64 orders alike what they tell apart.

        A coordinate of a sample errs by D roundoffs ‖x − μ‖ at most, and so the sum of the squares of M of them by
        2 √M D roundoffs ‖x − μ‖². As much again is for the sums of squares and what is smaller. That Q is not quite
        orthonormal adds no more than twice its defect: ‖Qᵀg‖² ≤ (1 + defect) ‖g‖² for g among the directions.
        """
        norms, features = samples.norms.to(torch.float64), samples.features.shape[1]
        size = norms + self.size
        base = 2 * _U64 * (features + 8) * size.square() + 8 * _U32 * self.reach * size + _TINY
        slope = 2.02 * _U32 * (features + 8) * norms
        rotation = _U32 * (features + 8) * self.growth + self.defect * self.reach
        products = 4 * _U32 * self.factors.shape[1] * self.reach
        bound = 1.01 * (2 * rotation * norms + products * size) + base + slope * self.reach
        left = 4 * 1.01 * _U32 * (features + 8) * math.sqrt(self.factors.shape[1]) + 2 * self.defect
        return _Slacks((1 + left) * samples.norms.square(), (2 * bound).to(torch.float32), base, slope)


class _Slacks(NamedTuple):
    """Samples, or those of a block, as the bounds need them: computed once per round.

    Attributes:
        rest: (N,) float32, ‖x − μ‖² and what rounding does to ‖x − μ‖² − ‖Qᵀ(x − μ)‖².
        bounds: (N,) float32, twice the error of a score from directions.
        base, slope: (N,) float64, base + slope ‖c − a‖ = error of a score from all features.
    """

    rest: Tensor
    bounds: Tensor
    base: Tensor
    slope: Tensor

    def of(self, rows: slice) -> _Slacks:
        """Those of a block."""
        return _Slacks(*(values[rows] for values in self))


def pays(config: MapConfig, features: Tensor) -> bool:
    """Whether a batch map of these samples is found faster by a prepared search: many features, complete, on a CPU."""
    whole = config.algorithm == "batch" and config.sampling == "permutation" and config.missing == "error"
    plain = features.device.type == "cpu" and device.factor_roundoff(features) == 0
    return whole and plain and features.shape[1] >= 256 and len(features) >= 4096


def winners(
    samples: PreparedSamples, state: MapState, scale: int | None = None, each: Each = map
) -> tuple[Tensor, Tensor]:
    """The BMU of every sample as `matching.nearest` decides it, and the sums of the samples by BMU.

    Args:
        samples: the prepared data set.
        state: a map without relevances whose nodes are all alive.
        scale: fixed-point scale of the sums; None = no sums.
        each: `map`, or what does the same in threads.

    Returns:
        bmu: (N,) int64, ties to the lowest index.
        sums: (K, D) int64 fixed point, zero without a scale.
    """
    nodes = _Nodes.of(state, samples)
    slacks = nodes.slacks(samples)
    spare: list[Desk] = []
    bmu = torch.empty(len(samples.features), dtype=torch.int64)

    def work(first: int) -> None:
        try:
            desk = spare.pop()
        except IndexError:  # one desk for each thread at most
            desk = Desk.of(state, samples.features, _BLOCK)
        rows = slice(first, min(first + _BLOCK, len(bmu)))
        bmu[rows] = _block_winners(samples, nodes, state, rows, slacks.of(rows), desk)
        if scale is not None:
            desk.add(samples.features[rows], bmu[rows], scale)
        spare.append(desk)

    for _ in each(work, range(0, len(bmu), _BLOCK)):
        pass
    sums = torch.zeros_like(state.prototypes, dtype=torch.int64)
    for desk in spare:
        sums += desk.total()
    return bmu, sums


def batch_statistics(
    samples: PreparedSamples, state: MapState, empty: BatchStatistics, scale: int, each: Each = map
) -> BatchStatistics:
    """What a round of the batch map needs of all samples: numbers and sums by BMU; no errors, no monitoring.

    Args:
        samples: the prepared data set.
        state: the frozen map.
        empty: statistics of no samples, of any round.
        scale: fixed-point scale of the round.
        each: `map`, or what does the same in threads.
    """
    bmu, sums = winners(samples, state, scale, each)
    number = torch.bincount(bmu, minlength=state.capacity)
    tally = torch.tensor([len(bmu) if name == "samples" else 0 for name in TALLIES])
    known = {"won": torch.cat([number.unsqueeze(1), sums], dim=1), "wins": number, "hits": number, "tally": tally}
    return dataclasses.replace(empty, scale=scale, round=state.round, sums=empty.sums | known)


def _block_winners(
    samples: PreparedSamples, nodes: _Nodes, state: MapState, rows: slice, slacks: _Slacks, desk: Desk
) -> Tensor:
    """The BMUs of one block."""
    features = samples.features[rows]
    number = len(features)
    x = torch.sub(features, samples.centre, out=desk.x[:number])
    known, rest = _coordinates(nodes, x, slacks.rest)
    lower = linear(known, nodes.factors, nodes.offsets)
    upper = torch.addcmul(lower, rest, nodes.spread, out=desk.upper[:number])
    owner, node = desk.pairs(lower, upper.amin(1).add_(slacks.bounds))
    bmu = torch.empty(number, dtype=torch.int64)
    bmu[owner] = node  # final where a sample has one node left
    owner, node = rivals(owner, node, number)
    if len(owner):
        owner, node = _closest(x, nodes, owner, node, slacks)
        bmu[owner] = node
        owner, node = rivals(owner, node, number)
    return decided(state, features, bmu, owner, node) if len(owner) else bmu


def _coordinates(nodes: _Nodes, x: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """What is multiplied with the nodes' factors, and the lengths (B, 1) of what is left of the samples."""
    if nodes.across is None:
        return x, x.new_zeros(len(x), 1)
    inside = linear(x, nodes.across)
    rest = (rest - inside.square().sum(1)).clamp_min_(0).sqrt_().unsqueeze(1)
    return torch.cat([inside, rest], dim=1), rest


def _closest(x: Tensor, nodes: _Nodes, owner: Tensor, node: Tensor, slacks: _Slacks) -> tuple[Tensor, ...]:
    """Owner and node of the pairs that may be the closest of their sample by scores from all features."""
    scores = dots(x, nodes.gaps, owner, node).to(torch.float64).add_(nodes.offsets.index_select(0, node))
    slope, base = taken(owner, slacks.slope, slacks.base)
    slack = slope.mul_(nodes.lengths.index_select(0, node)).add_(base)
    most = least(scores + slack, owner, len(x)).index_select(0, owner)
    return taken((scores.sub_(slack) <= most).nonzero().squeeze(1), owner, node)
