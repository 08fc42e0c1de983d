"""One encoded image to an array.

Axes: C channels, H height, W width.
"""

from __future__ import annotations

import contextlib
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import must
from pipeline.sources.base import SourceOptions, unreadable

_DAMAGED_NOTES = (TypeError, ValueError, SyntaxError, struct.error)  # what Pillow raises of EXIF beside sound pixels
_GRAY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA")  # Pillow converts these to 8 bits as they are meant


@dataclass(frozen=True)
class Decoder:
    """Encoded bytes to one (C, H, W) array.

    Args:
        options: --size and --channels.
        expected: shape of every sample; None while the first image is looked at.
    """

    options: SourceOptions
    expected: tuple[int, ...] | None = None

    def __call__(self, raw: bytes | Path, place: str) -> np.ndarray:
        """Decode one image; `place` names it in messages.

        Raises:
            UnreadableSample: it cannot be decoded.
            UserError: it is of a kind that 8 bits do not hold, or of another size or colour.
        """
        from PIL import Image, ImageOps

        try:
            with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw) as file:
                channels = self._channels(file.mode, place)
                with contextlib.suppress(*_DAMAGED_NOTES):
                    ImageOps.exif_transpose(file, in_place=True)  # as a camera that was held otherwise meant it
                image = file.convert("L" if channels == 1 else "RGB")
                if self.options.size is not None:
                    height, width = self.options.size
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(image, dtype=np.uint8)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise unreadable(f"{place} cannot be decoded ({error}).", "images") from error
        pixels = pixels[None] if channels == 1 else np.moveaxis(pixels, 2, 0)
        if self.expected and pixels.shape != self.expected:
            size, got = (f"{shape[1]}x{shape[2]} pixels" for shape in (self.expected, pixels.shape))
            raise must("image", f"{size} (height x width)", got, where=place, remedy="Pass --size HEIGHTxWIDTH.")
        return np.ascontiguousarray(pixels)

    def _channels(self, mode: str, place: str) -> int:
        if mode not in _GRAY + _COLOUR:  # convert() cuts 16 bits and floats off at 255, and knows no profile of inks
            wanted = f"8-bit gray, RGB or palette (mode {', '.join(_GRAY + _COLOUR)})"
            remedy = "Scale or convert it to 8-bit gray or RGB, or leave it out."
            raise must("image", wanted, f"mode {mode}", where=place, remedy=remedy)
        if self.options.channels is not None:
            return self.options.channels
        gray = mode in _GRAY
        channels = self.expected[0] if self.expected else (1 if gray else 3)
        if gray != (channels == 1):
            wanted, got = ("gray", "colour") if channels == 1 else ("in colour", "gray")
            raise must("image", f"{wanted}, as the first", got, where=place, remedy="Pass --channels 1 or 3.")
        return channels
