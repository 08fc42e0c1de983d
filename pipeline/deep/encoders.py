"""Encoders and decoders: from samples to latent features in (0, 1) and back.

Normalisation is per sample (GroupNorm), never over a batch: a sample's features depend on the sample alone, so
neither its tile nor its worker can be seen in them. n samples, D latent features, P scaled values of a sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.deep.audio import WORD_FRAMES, LogMel, LogMelWord, SpectrogramCNN
from pipeline.deep.pretrained import frozen_features
from pipeline.deep.sample_shape import SampleShape
from pipeline.deep.user_encoder import calls_of, user_encoder
from pipeline.errors import UserError
from somcore.device import one_thread

GROUPS = 4
_SPREAD, _SPREAD_TILE, _CONSTANT = 0.7, 128, 1e-6
_SHORTEST = 1e-6  # filter


class Latent(nn.Module):
    """h to z = (tanh(h) + 1) / 2: features in (0, 1), the scale that thresholds are meant for."""

    def forward(self, features: Tensor) -> Tensor:
        """(n, D) to (n, D)."""
        return (torch.tanh(features) + 1) / 2


class LinearClassifier(nn.Linear):
    """Features to class scores; those in (0, 1) are moved to (−1, 1) first."""

    def forward(self, features: Tensor) -> Tensor:
        """(n, D) to (n, C)."""
        return super().forward(2 * features - 1)


class Image(nn.Module):
    """(n, P) to (n, C, H, W), in the memory order that convolutions and pooling are fastest in."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, samples: Tensor) -> Tensor:
        """Same values, another shape."""
        return samples.unflatten(1, self.shape).contiguous(memory_format=torch.channels_last)


def _block(inputs: int, outputs: int, stride: int = 1, pool: bool = False) -> nn.Sequential:
    """Convolution, pooling at once (a quarter of the work for what follows), normalisation, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
    return nn.Sequential(*layers, nn.GroupNorm(GROUPS, outputs), nn.ReLU())


class StandardisedConv(nn.Conv2d):
    """A 3x3 convolution whose filters have mean 0 and length 1: the step size of each is its own, whatever its length.

    Source: Qiao et al. 2019 (weight standardization): what normalisation over a batch gives, without a batch.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, outputs, H, W)."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        length = centred.flatten(1).norm(dim=1).clamp_min(_SHORTEST).view(-1, 1, 1, 1)
        return functional.conv2d(images, centred / length, padding=1)


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(inputs, outputs, stride),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, bias=False)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """(n, inputs, H, W) to (n, outputs, H / stride, W / stride)."""
        # Not a convolution with a stride: of 4 channels its gradient writes beyond its memory on processors with AVX2.
        kept = features[:, :, :: self.stride, :: self.stride]
        return torch.relu(self.body(features) + self.shortcut(kept))


def _shrunk(size: int, steps: int) -> int:
    """Pixels that are left after so many poolings by two, each rounded up."""
    return -(-size // 2**steps)


def image_cnn(shape: tuple[int, int, int], dim: int, width: int) -> nn.Module:
    """Three convolutions, each followed by pooling: for 28x28x1 and its like; six on colour images."""
    channels, height, there = shape
    deep = channels > 1
    layers: list[nn.Module] = [Image(shape)]
    inputs = channels
    for step in range(3):
        outputs = width * 2**step
        if deep:
            layers.append(_block(inputs, outputs))
        layers.append(_block(outputs if deep else inputs, outputs, pool=True))
        inputs = outputs
    places = _shrunk(height, 3) * _shrunk(there, 3)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * places, dim), Latent())


def image_standardised(shape: tuple[int, int, int], dim: int, width: int) -> nn.Module:
    """Four convolutions with standardised weights, pooled three times: twice the work of `image_cnn` on grey images."""
    plan = ((shape[0], 1, True), (width, 2, False), (2 * width, 2, True), (2 * width, 4, False))
    blocks = []
    for inputs, times, pool in plan:
        layers: list[nn.Module] = [StandardisedConv(inputs, times * width)]
        if pool:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        blocks.append(nn.Sequential(*layers, nn.GroupNorm(GROUPS, times * width), nn.ReLU()))
    places = _shrunk(shape[1], 3) * _shrunk(shape[2], 3)
    end = (nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(4 * width * places, dim), Latent())
    return nn.Sequential(Image(shape), *blocks, *end)


def image_residual(shape: tuple[int, int, int], dim: int, width: int) -> nn.Module:
    """A small residual network: three stages of one residual block each, then the mean over places."""
    stages = [Residual(width * 2 ** max(0, s - 1), width * 2**s, 2 if s else 1) for s in range(3)]
    return nn.Sequential(
        Image(shape), _block(shape[0], width), *stages,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 4, dim), Latent(),
    )  # fmt: skip


def table_mlp(features: int, dim: int, width: int) -> nn.Module:
    """Two hidden layers, for tables and feature vectors."""
    hidden = 4 * width
    return nn.Sequential(
        nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, dim), Latent(),
    )  # fmt: skip


def make_encoder(name: str, sample: SampleShape, dim: int, width: int, weights: str | None = None) -> nn.Module:
    """The encoder of a run: (n, P) scaled samples to (n, D) in (0, 1).

    Args:
        name: as of `encoder.name`; "auto" chooses by the kind of data; or "module:function" of the user, called with
            sample, dim and width, see `user_encoder`: a module from (n, P) to (n, dim), of any range.
        sample: what it will see.
        dim: D.
        width: channels of the first layer; a multiple of 4.
        weights: of "pretrained": a file, or the name of a torchvision model whose weights are in its cache.

    Raises:
        UserError: the encoder does not fit the data, or that of the user is not what it must be.
    """
    if name == "auto":
        name = {"image": "cnn", "audio": "audio", "table": "mlp"}[sample.kind]
    if ":" in name:
        return nn.Sequential(user_encoder(name, sample, dim, width), Latent())
    if name == "mlp":
        return table_mlp(math.prod(sample.shape), dim, width)
    if name in ("audio", "word"):
        if sample.kind != "audio":
            raise UserError(f"encoder.name '{name}' must be used on recordings. Got {sample.kind} data.")
        front = LogMel if name == "audio" else LogMelWord
        body = SpectrogramCNN(dim, width, None if name == "audio" else WORD_FRAMES)
        return _fast(nn.Sequential(front(sample.sample_rate), body, Latent()))
    if sample.kind != "image" or len(sample.shape) != 3:
        raise UserError(f"encoder.name '{name}' must be used on images. Got {sample.kind} data; use auto or mlp.")
    shape = (sample.shape[0], sample.shape[1], sample.shape[2])
    if name == "pretrained":
        features, outputs = frozen_features(weights, shape)
        return nn.Sequential(features, nn.LayerNorm(outputs), nn.Linear(outputs, dim), Latent())
    makers = {"cnn": image_cnn, "standardised": image_standardised, "residual": image_residual}
    return _fast(makers[name](shape, dim, width))


def _fast(encoder: nn.Module) -> nn.Module:
    """The encoder with its filters in the memory order that convolutions and pooling are fastest in."""
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def make_decoder(sample: SampleShape, dim: int, width: int) -> nn.Module:
    """Symmetric to the encoder: (n, D) to (n, P) in (0, 1).

    Recordings and tables get a perceptron; images the convolutions of the encoder in reverse order.
    """
    if sample.kind != "image":
        size, hidden = sample.shape[0], 4 * width
        return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, size), nn.Sigmoid())
    channels, height, there = sample.shape
    start = (4 * width, _shrunk(height, 2), _shrunk(there, 2))
    return nn.Sequential(
        nn.Linear(dim, start[0] * start[1] * start[2]), nn.Unflatten(1, start), nn.ReLU(),
        nn.Upsample(size=(_shrunk(height, 1), _shrunk(there, 1))), _block(4 * width, 2 * width),
        nn.Upsample(size=(height, there)), _block(2 * width, width),
        nn.Conv2d(width, channels, 3, padding=1), nn.Flatten(), nn.Sigmoid(),
    )  # fmt: skip


def initialise(module: nn.Module, seed: int) -> None:
    """Fill all trainable parameters from the seed alone: the same on every machine and worker.

    He's normal initialisation for weights, 1 and 0 for scales and offsets of normalisations.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or not layer.weight.requires_grad:
            continue
        fan_in = layer.weight[0].numel()
        with torch.no_grad():
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(drawn * (2.0 / fan_in) ** 0.5)
            if layer.bias is not None:
                layer.bias.zero_()


@torch.no_grad()
def spread_features(encoder: nn.Module, samples: Tensor) -> None:
    """Scales the linear layer that is called last: each feature before the squashing has mean 0 and deviation 0.7 then.

    Untrained features hardly differ between samples: a map on them says little, and its losses are flat. The bits of a
    convolution may depend on the number of threads, so there is one, whoever calls.

    Args:
        encoder: modules in a row: ..., the last linear layer or one that ends in it, `Latent`.
        samples: (n, P) scaled samples.
    """
    assert isinstance(encoder, nn.Sequential)
    with one_thread():
        _, calls = calls_of(encoder[:-1], samples[:1])
        last = [layer for layer, _ in calls if isinstance(layer, nn.Linear)][-1]
        before = torch.cat([encoder[:-1](part) for part in samples.split(_SPREAD_TILE)]).to(torch.float64)
        mean, deviation = before.mean(0), before.std(0, correction=0)
        gain = torch.where(deviation > _CONSTANT, _SPREAD / deviation.clamp_min(_CONSTANT), 1.0)
        last.weight.copy_(last.weight * gain.unsqueeze(1))
        last.bias.copy_((last.bias - mean) * gain)
