"""What a network sees of a prepared data set."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.prepared.manifest import Manifest


@dataclass(frozen=True)
class SampleShape:
    """One sample as an encoder sees it.

    Attributes:
        kind: image, table or audio.
        shape: (C, H, W), (P,) or (samples,).
        sample_rate: of audio, in Hz.
    """

    kind: str
    shape: tuple[int, ...]
    sample_rate: int = 0

    @classmethod
    def of(cls, manifest: Manifest) -> SampleShape:
        """Of a prepared data set."""
        return cls(manifest.kind, manifest.shape, int(manifest.details.get("sample_rate", 0)))
