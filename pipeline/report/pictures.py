"""Pictures of samples and prototypes, small and many on one sheet.

n samples, A nodes. A picture is (h, w, 3) or (h, w) uint8, all of one size: images as they are, upright, recordings as
spectrograms with high frequencies on top and time to the right.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline.deep.audio import LogMel
from pipeline.report.data import MapData

_MOST_PIXELS = 48
_SHEET_TILES = 2500
_LOSSLESS_BYTES = 1 << 21
_SMALL: tuple[str, dict[str, Any]] = ("webp", {"quality": 85, "method": 4})
_DB = 3.0  # deviations from the mean of a spectrogram between the two ends of its colours


class Gallery:
    """Collects pictures, and packs them into sheets."""

    def __init__(self) -> None:
        self._pictures: list[np.ndarray] = []

    def add(self, picture: np.ndarray) -> int:
        """Takes a picture; its number."""
        self._pictures.append(picture)
        return len(self._pictures) - 1

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture."""
        return (self._pictures[0].shape[1], self._pictures[0].shape[0]) if self._pictures else (1, 1)

    @property
    def columns(self) -> int:
        """Pictures in a row of a sheet."""
        return math.ceil(math.sqrt(min(len(self._pictures), _SHEET_TILES))) if self._pictures else 1

    def sheets(self) -> list[str]:
        """Data URIs of the sheets, each of `columns` columns and as many rows, filled row by row."""
        per_sheet = self.columns**2
        starts = range(0, len(self._pictures), per_sheet)
        return [self._sheet(self._pictures[start : start + per_sheet]) for start in starts]

    def _sheet(self, pictures: list[np.ndarray]) -> str:
        width, height = self.size
        colour = any(picture.ndim == 3 for picture in pictures)
        rows = math.ceil(len(pictures) / self.columns)
        sheet = np.zeros((rows * height, self.columns * width, 3 if colour else 1), dtype=np.uint8)
        for number, picture in enumerate(pictures):
            y, x = (number // self.columns) * height, (number % self.columns) * width
            sheet[y : y + height, x : x + width] = picture if picture.ndim == 3 else picture[..., None]
        image = Image.fromarray(sheet if colour else sheet[..., 0])
        buffer = io.BytesIO()
        kind, options = ("png", {"optimize": True}) if sheet.size < _LOSSLESS_BYTES or not colour else _SMALL
        image.save(buffer, kind.upper(), **options)
        return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def sample_pictures(data: MapData, split: str, rows: np.ndarray) -> np.ndarray | None:
    """Pictures of rows of the data, (n, h, w[, 3]) uint8; None for tables, and without data."""
    if data.dataset is None or data.predictor.spec.kind == "table":
        return None
    if data.predictor.spec.kind == "image":
        return as_images(data.dataset.read(split, rows)[0].numpy().reshape(-1, *data.predictor.spec.shape))
    rate = int(data.dataset.manifest.details.get("sample_rate", 0)) or 8000
    with torch.no_grad():
        bands = LogMel(rate)(data.dataset.read(split, rows)[0]).squeeze(1).numpy()
    levels = np.clip((bands[:, ::-1] + 1) / (1 + _DB), 0, 1)  # the lowest band is the first: it belongs below
    return _resized(coloured(levels))


def prototype_pictures(data: MapData) -> tuple[np.ndarray | None, str]:
    """Pictures of the prototypes, (A, h, w[, 3]) uint8 or None, and in words what is shown for a prototype."""
    kind, deep, shape = data.predictor.spec.kind, data.predictor.deep, data.predictor.spec.shape
    if kind == "image" and deep is None:
        return as_images(data.prototypes.reshape(-1, *shape)), "the prototype itself"
    if kind == "image" and deep is not None and deep.network.decoder is not None:
        decoded = deep.decode(torch.from_numpy(data.prototypes)).numpy().reshape(-1, *shape)
        return as_images(decoded), "the decoded prototype"
    if kind == "table":
        return None, "the values of the prototype"
    return None, "its nearest sample"


def relevance_pictures(data: MapData) -> np.ndarray | None:
    """Relevances as pictures where features are pixels: (A, h, w), black 0, white 1."""
    shape = data.predictor.spec.shape
    if data.predictor.spec.kind != "image" or data.predictor.deep is not None or bool((data.relevances == 1).all()):
        return None
    return as_images(data.relevances.reshape(-1, *shape).mean(1, keepdims=True))


def as_images(scaled: np.ndarray) -> np.ndarray:
    """(n, C, H, W) in [0, 1] to (n, h, w) of one channel, else (n, h, w, 3), uint8."""
    raw = np.clip(np.nan_to_num(scaled) * 255, 0, 255).round().astype(np.uint8)
    if raw.shape[1] == 1:
        return _resized(raw[:, 0])
    channels = raw[:, :3] if raw.shape[1] >= 3 else raw[:, [0, 1, 1]]
    return _resized(np.ascontiguousarray(channels.transpose(0, 2, 3, 1)))


def coloured(levels: np.ndarray) -> np.ndarray:
    """Levels in [0, 1] in the colours of viridis: (..., 3) uint8."""
    from matplotlib import colormaps

    table = (colormaps["viridis"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    found: np.ndarray = table[np.clip(levels * 255, 0, 255).round().astype(np.uint8)]
    return found


def _resized(pictures: np.ndarray) -> np.ndarray:
    height, width = pictures.shape[1:3]
    if max(height, width) <= _MOST_PIXELS:
        return pictures
    scale = _MOST_PIXELS / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX)) for p in pictures])
