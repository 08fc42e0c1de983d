"""Frozen features of a pretrained torchvision network: weights from a file or from the cache, never a download."""

from __future__ import annotations

import hashlib
import math
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError, line_of, must
from pipeline.places import absolute

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect
_SIZE = 224
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DEFAULT = "resnet18"
_AUXILIARY = ("aux1", "aux2", "AuxLogits")  # classifiers of GoogLeNet and Inception that help in training
_SAVED = "It must hold what torch.save(network.state_dict(), FILE) writes, or {'state_dict': ...} of it."


class FrozenFeatures(nn.Module):
    """A network without its classifier, in evaluation mode for ever; nothing in it is trained.

    Args:
        network: gives (n, F) features of (n, 3, 224, 224) images.
        shape: (C, H, W) of the samples.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.shape = shape
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Stays in evaluation mode: its batch normalisations use the statistics they were trained with."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """(n, P) scaled images to (n, F)."""
        images = samples.unflatten(1, self.shape)
        images = images.expand(-1, 3, -1, -1) if self.shape[0] == 1 else images
        images = functional.interpolate(images, size=(_SIZE, _SIZE), mode="bilinear", antialias=True)
        images = (images - self.get_buffer("mean")) / self.get_buffer("deviation")
        features: Tensor = self.network(images)
        return features.flatten(1)


def weights_digest(weights: str | None) -> str:
    """sha256 of the file of weights: of a frozen network it is a part of what a run is.

    Raises:
        UserError: unknown model, or there is no such file.
    """
    _, path = file_of(weights)
    try:
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        raise _absent(path) from None


def placed(weights: str | None) -> str | None:
    """The same weights for a process with another working directory."""
    name, _, file = (weights or "").partition(":")
    return f"{name}:{absolute(file)}" if file else weights


def check_weights(weights: str | None, digest: str) -> None:
    """Refuses another file than that a run was begun with; on every node, at a resume, and when the model is opened."""
    try:
        found = weights_digest(weights)
    except UserError as error:
        raise UserError(f"{error} The run was begun with a file with sha256 {digest[:12]}.") from None
    if found != digest:
        remedy = "Give the file that the run was begun with, the same on every node."
        raise must("encoder.weights", f"the file with sha256 {digest[:12]}", weights, remedy=remedy)


def frozen_features(weights: str | None, shape: tuple[int, int, int]) -> tuple[FrozenFeatures, int]:
    """A frozen feature extractor and its number of features.

    Args:
        weights: "model" (its weights lie in torchvision's cache) or "model:file.pth"; None = resnet18. For how many
            classes its head was trained does not matter.
        shape: (C, H, W) of the samples.

    Raises:
        UserError: unknown model, or its weights are neither in the file nor in the cache.
    """
    from torchvision import models

    name, path = file_of(weights)
    network: Any = models.get_model(name, weights=None)
    head = next((head for head in ("fc", "classifier", "heads", "head") if hasattr(network, head)), None)
    auxiliary = [name for name in _AUXILIARY if hasattr(network, name)]
    for part in auxiliary:
        setattr(network, part, None)
    if head is not None:
        layers = getattr(network, head).modules()
        pooling = (layer for layer in layers if isinstance(layer, nn.AdaptiveAvgPool2d))  # squeezenet's is in its head
        setattr(network, head, next(pooling, nn.Identity()))
    try:
        network.load_state_dict(
            {key: value for key, value in _read(path).items() if key.split(".")[0] not in (head, *auxiliary)}
        )
    except RuntimeError as error:
        reason = textwrap.shorten(line_of(error), 160, placeholder=" ...")
        raise UserError(f"encoder.weights must name weights of {name}. Got '{path}': {reason} {_SAVED}") from None
    features = FrozenFeatures(network, shape)
    return features, features(torch.zeros(1, math.prod(shape))).shape[1]


def file_of(weights: str | None) -> tuple[str, Path]:
    """The model that is meant, and the file of its weights: the one given, or that in torchvision's cache.

    Raises:
        UserError: unknown model, or its weights are not in the cache.
    """
    from torchvision import models

    name, _, file = (weights or _DEFAULT).partition(":")
    if name not in models.list_models(module=models):
        raise UserError(f"encoder.weights must name a torchvision model, such as resnet18. Got '{name}'.")
    return name, Path(file) if file else _cached(name)


def _cached(name: str) -> Path:
    """Where torchvision keeps the default weights of a model."""
    from torchvision import models

    url = str(models.get_model_weights(name).DEFAULT.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        raise UserError(
            f"The weights of '{name}' must be in torchvision's cache ({path.name}). They are not. Put the file there, "
            f"or give it: encoder.weights={name}:FILE."
        )
    return path


def _absent(path: Path) -> UserError:
    place = absolute(path)
    return UserError(f"encoder.weights must name a file of weights. Got '{place}', which does not exist. Put it there.")


def _read(path: Path) -> dict[str, Tensor]:
    """Weights by name: those of a network, or of one that was trained in `DataParallel`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise _absent(path) from None
    except Exception:  # of many kinds, with the advice to read it unsafely
        content = {}
    found = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not isinstance(found, dict) or not found:
        raise UserError(f"encoder.weights must name a file of weights. Got '{path}', which holds none. {_SAVED}")
    floats = {key: value for key, value in found.items() if torch.is_tensor(value) and value.dtype in _FLOATS}
    odd = next((key for key, value in floats.items() if not bool(torch.isfinite(value).all())), None)
    if odd is not None:
        raise UserError(f"encoder.weights must hold finite numbers. Got infinity or NaN in '{odd}' of '{path}'.")
    return {str(key).removeprefix("module."): value for key, value in found.items()}
