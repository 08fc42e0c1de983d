"""Counter-based randomness: the order of the samples is a function of (seed, epoch), never of a worker.

Axes: N samples. Every value is computed from its counter alone, so any part of an epoch can be drawn by any
process, in any cut, with O(1) memory beyond the counters. int64 products wrap modulo 2**64 in torch on every
device, which is what the mixing below relies on.
"""

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["permutation", "replacement"]

# Measured: with six rounds the orders of 5 or 6 samples are visibly uneven, with ten they are not.
_ROUNDS, _ROUNDS_SMALL, _SMALL = 6, 12, 1024
_MASK_62 = (1 << 62) - 1
_MASK_32 = (1 << 32) - 1
# Odd multipliers of splitmix64 (Steele, Lea & Flood 2014) as signed 64-bit integers.
_M1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_M2 = 0x94D049BB133111EB - (1 << 64)


def _keys(count: int, *parts: object) -> list[int]:
    """`count` signed 64-bit keys that depend on every part and nothing else."""
    digest = hashlib.shake_256("/".join(map(str, parts)).encode()).digest(8 * count)
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "little", signed=True) for i in range(count)]


def _mix(counters: Tensor, key: int) -> Tensor:
    """62-bit non-negative hash of each counter under `key`; `>>` is arithmetic, hence the masks."""
    x = (counters ^ key).mul_(_M1)
    x ^= (x >> 32).bitwise_and_(_MASK_32)
    x.mul_(_M2)
    x ^= (x >> 32).bitwise_and_(_MASK_32)
    return x.bitwise_and_(_MASK_62)


def hash_uniform(seed: int, purpose: str, counters: Tensor) -> Tensor:
    """Independent uniform integers in [0, 2**62), one per counter.

    Args:
        seed: seed of the run.
        purpose: name of the stream; different purposes give unrelated values.
        counters: int64 tensor of any shape.

    Returns:
        int64 tensor of the same shape and device.

    Example:
        >>> hash_uniform(0, "labels", torch.arange(3)).shape
        torch.Size([3])
    """
    first, second = _keys(2, "hash", seed, purpose)
    return _mix(_mix(counters.to(torch.int64), first), second)


def sample_indices(seed: int, epoch: int, positions: Tensor, num_samples: int, sampling: str = "permutation") -> Tensor:
    """Which sample stands at each position of an epoch.

    "permutation" is a bijection of [0, N): an alternating Feistel network over Z_a x Z_b, a = ceil(sqrt(N))
    and a*b - N < a, so about 1/sqrt(N) of the values fall outside and walk on until they are inside.
    "replacement" draws each position independently; the bias of its modulus is below N / 2**62.

    Args:
        seed: seed of the run.
        epoch: number of the pass; each has its own order.
        positions: int64 tensor of places in the epoch, each in [0, N).
        num_samples: N, in [1, 2**60].
        sampling: "permutation" or "replacement".

    Returns:
        int64 tensor of sample indices in [0, N), same shape and device as `positions`.

    Raises:
        ValueError: N out of range, a position outside [0, N), or an unknown `sampling`.

    Source: Black & Rogaway, Ciphers with Arbitrary Finite Domains (2002), for the network and the walk.

    Example:
        >>> sorted(sample_indices(0, 0, torch.arange(5), 5).tolist())
        [0, 1, 2, 3, 4]
    """
    if not 1 <= num_samples <= 1 << 60:
        raise ValueError(f"num_samples must be in [1, 2**60]. Got {num_samples}.")
    positions = positions.to(torch.int64)
    if sampling == "replacement":
        return hash_uniform(seed, f"replacement/{epoch}", positions).remainder_(num_samples)
    if sampling != "permutation":
        raise ValueError(f"sampling must be 'permutation' or 'replacement'. Got {sampling!r}.")
    if positions.numel() == 0:
        return positions.clone()
    low, high = torch.aminmax(positions)
    if int(low) < 0 or int(high) >= num_samples:
        raise ValueError(f"positions must be in [0, {num_samples}). Got {int(low)} to {int(high)}.")
    rounds = _ROUNDS if num_samples > _SMALL else _ROUNDS_SMALL
    keys = _keys(rounds, "permutation", seed, epoch)
    out = _network(positions, keys, num_samples)
    outside = out >= num_samples
    while bool(outside.any()):  # cycle walking: the walk from an inside value returns inside
        out[outside] = _network(out[outside], keys, num_samples)
        outside = out >= num_samples
    return out


def _network(values: Tensor, keys: list[int], num_samples: int) -> Tensor:
    """One pass of the Feistel network: a bijection of [0, a*b), a*b >= N."""
    a = _ceil_sqrt(num_samples)
    b = -(-num_samples // a)
    left = values.remainder(a)
    right = values.div(a, rounding_mode="floor")
    for index, key in enumerate(keys):
        if index % 2 == 0:
            left = _mix(right, key).add_(left).remainder_(a)
        else:
            right = _mix(left, key).add_(right).remainder_(b)
    return right.mul_(a).add_(left)


def _ceil_sqrt(value: int) -> int:
    root = math.isqrt(value)
    return root if root * root == value else root + 1
