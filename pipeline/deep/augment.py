"""Weak and strong views of samples, drawn from (seed, epoch, position) alone: never from a worker or a generator.

Everything is vectorised over a tile and runs on its device. No distortion changes a class: digits and letters are
shifted, turned a little, sheared and partly covered, never mirrored. n samples of a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from somcore.sampling import hash_uniform

_UNIT = 2.0**-62


@dataclass(frozen=True)
class Strength:
    """How far a view may be from its sample.

    Attributes:
        shift: share of height and width, to each side.
        turn: radians, to each side.
        scale: relative size, up and down.
        shear: to each side.
        tone: brightness and contrast.
        cover: share of height and width that a grey square covers.
        elastic: share of height and width of smooth local displacements.
        mirror: left and right may be exchanged.
    """

    shift: float = 0.0
    turn: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    tone: float = 0.0
    cover: float = 0.0
    elastic: float = 0.0
    mirror: bool = False


WEAK = {
    "digits": Strength(shift=0.08, turn=0.1, scale=0.08),
    "clothes": Strength(shift=0.06, mirror=True),
    "objects": Strength(shift=0.125, mirror=True),
    "characters": Strength(shift=0.08, turn=0.05),
}
STRONG = {
    "digits": Strength(shift=0.08, turn=0.2, scale=0.12, shear=0.15, elastic=0.04),  # more makes other digits
    "clothes": Strength(shift=0.1, turn=0.15, scale=0.15, shear=0.1, tone=0.3, cover=0.4, mirror=True),
    "objects": Strength(shift=0.125, turn=0.25, scale=0.2, shear=0.2, tone=0.5, cover=0.5, mirror=True),
    "characters": Strength(shift=0.12, turn=0.15, scale=0.15, shear=0.2, tone=0.5, cover=0.3),
}
KINDS = ("none", "audio", "table", *WEAK)


class Draws:
    """Uniform numbers for each sample of a tile, one stream per purpose.

    Args:
        seed: of the run.
        epoch: number of the pass.
        positions: (n,) int64, place of each sample in the epoch.
        view: name of the view: different views draw independently.
    """

    def __init__(self, seed: int, epoch: int, positions: Tensor, view: str) -> None:
        self._seed, self._epoch, self._positions, self._view = seed, epoch, positions, view

    def uniform(self, purpose: str, count: int = 1) -> Tensor:
        """(n, count) float32 in [0, 1]: the highest draws round to 1."""
        counters = self._positions.unsqueeze(1) * count + torch.arange(count, device=self._positions.device)
        drawn = hash_uniform(self._seed, f"augment/{self._view}/{purpose}/{self._epoch}", counters)
        return (drawn.to(torch.float64) * _UNIT).to(torch.float32)

    def around(self, purpose: str, reach: float, count: int = 1) -> Tensor:
        """(n, count) float32 in [−reach, reach]."""
        return (self.uniform(purpose, count) * 2 - 1) * reach


def image_view(samples: Tensor, shape: tuple[int, int, int], strength: Strength, draws: Draws) -> Tensor:
    """A view of each image.

    Args:
        samples: (n, P) scaled images.
        shape: (C, H, W).
        strength: how far it may go.
        draws: where the numbers come from.

    Returns:
        (n, P) in [0, 1].
    """
    images = samples.unflatten(1, shape)
    images = functional.grid_sample(
        images, _grid(len(images), shape, strength, draws), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    if strength.tone:
        tone = draws.around("tone", strength.tone, 2)
        gain, offset = 1 + tone[:, 0].view(-1, 1, 1, 1), tone[:, 1].view(-1, 1, 1, 1) / 2
        mean = images.mean((1, 2, 3), keepdim=True)
        images = ((images - mean) * gain + mean * (1 + offset)).clamp(0, 1)
    if strength.cover:
        images = _covered(images, strength.cover, draws)
    return images.flatten(1)


def _grid(count: int, shape: tuple[int, int, int], strength: Strength, draws: Draws) -> Tensor:
    """(n, H, W, 2): where each pixel of the view is taken from."""
    angle = draws.around("turn", strength.turn)[:, 0]
    size = 1 + draws.around("scale", strength.scale, 2)
    shear = draws.around("shear", strength.shear)[:, 0]
    shift = draws.around("shift", 2 * strength.shift, 2)
    flip = torch.ones_like(angle)
    if strength.mirror:
        flip = torch.where(draws.uniform("mirror")[:, 0] < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    tall = shape[1] / shape[2]  # places are -1 ... 1 on both sides: a pixel down is 1 / tall of one across
    top = torch.stack([flip * cosine * size[:, 0], (shear * cosine - sine) * size[:, 1] * tall, shift[:, 0]], 1)
    bottom = torch.stack([flip * sine * size[:, 0] / tall, (shear * sine + cosine) * size[:, 1], shift[:, 1]], 1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), [count, *shape], align_corners=False)
    if strength.elastic:
        coarse = draws.around("elastic", 2 * strength.elastic, 2 * 5 * 5).view(-1, 2, 5, 5)
        smooth = functional.interpolate(coarse, size=shape[1:], mode="bicubic", align_corners=True)
        grid = grid + smooth.permute(0, 2, 3, 1)
    return grid


def _covered(images: Tensor, share: float, draws: Draws) -> Tensor:
    """A square of the image's mean, of a random size up to `share`, at a random place."""
    height, width = images.shape[2:]
    place, size = draws.uniform("place", 2), draws.uniform("size") * share / 2
    rows = (torch.arange(height, device=images.device) + 0.5) / height
    columns = (torch.arange(width, device=images.device) + 0.5) / width
    inside = ((rows - place[:, :1]).abs() <= size).unsqueeze(2) & ((columns - place[:, 1:]).abs() <= size).unsqueeze(1)
    return torch.where(inside.unsqueeze(1), images.mean((1, 2, 3), keepdim=True), images)


def audio_view(samples: Tensor, strong: bool, draws: Draws) -> Tensor:
    """A recording moved in time, louder or softer, faster and higher or slower and lower, as if others spoke.

    The strong view goes further, and has noise and a silenced part.
    """
    wave = samples - 0.5  # silence is one half
    length = wave.shape[1]
    shift = draws.around("shift", 0.1 if strong else 0.05) * length
    speed = 1 + draws.around("speed", 0.2 if strong else 0.05)
    middle = (length - 1) / 2
    places = (torch.arange(length, device=wave.device) - middle) * speed + middle - shift
    first = places.floor()
    after = torch.lerp(_at(wave, first), _at(wave, first + 1), places - first)
    wave = torch.where((places >= 0) & (places <= length - 1), after, 0.0)
    wave = wave * torch.exp(draws.around("gain", 0.7 if strong else 0.3))
    if strong:
        time = torch.arange(length, device=wave.device) / length
        start, width = draws.uniform("start"), draws.uniform("width") * 0.15
        wave = torch.where((time >= start) & (time < start + width), 0.0, wave)
        level = wave.abs().amax(1, keepdim=True) * draws.uniform("noise") * 0.02
        wave = wave + level * draws.around("grain", 1.0, length)
    return (wave + 0.5).clamp(0, 1)


def _at(wave: Tensor, places: Tensor) -> Tensor:
    """Values at whole places (n, S), the ends beyond them."""
    return wave.gather(1, places.clamp(0, wave.shape[1] - 1).to(torch.int64))


def table_view(samples: Tensor, strong: bool, draws: Draws) -> Tensor:
    """A row with a little noise; in the strong view some of its values are set to one half as well."""
    noisy = samples + draws.around("noise", 0.1 if strong else 0.02, samples.shape[1])
    if strong:
        noisy = torch.where(draws.uniform("drop", samples.shape[1]) < 0.2, 0.5, noisy)
    return noisy


View = Callable[[Tensor, Draws], Tensor]


def views_of(kind: str, shape: tuple[int, ...]) -> tuple[View, View]:
    """The weak and the strong view for a kind of data: functions of samples (n, P) and draws.

    Args:
        kind: one of `KINDS`.
        shape: of one sample.
    """
    if kind == "none":
        return (lambda samples, draws: samples), (lambda samples, draws: samples)
    if kind == "audio":
        return (lambda s, d: audio_view(s, False, d)), (lambda s, d: audio_view(s, True, d))
    if kind == "table":
        return (lambda s, d: table_view(s, False, d)), (lambda s, d: table_view(s, True, d))
    size = (shape[0], shape[1], shape[2])
    return (
        lambda samples, draws: image_view(samples, size, WEAK[kind], draws),
        lambda samples, draws: image_view(samples, size, STRONG[kind], draws),
    )
