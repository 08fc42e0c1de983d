"""Recordings: wav files in folders per class, or an npz with all of them end to end.

Axes: N recordings, S samples. Every recording becomes S = duration * rate samples of int16, mono: longer ones are
cut at the end, shorter ones end in silence. One recording is read at a time.
"""

from __future__ import annotations

import itertools
import struct
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipeline.errors import UserError, must
from pipeline.sources.base import Batch, SourceOptions, SourceSpec, Undecoded, by_split, required_root, unreadable
from pipeline.sources.folders import FolderListing
from pipeline.sources.npz import Npz

_BROKEN = (ValueError, EOFError, OSError, IndexError, TypeError, UnboundLocalError, ZeroDivisionError, struct.error)
_SHORTEST_S = 0.001
_MOST_HZ = 768_000  # what recorders have; a damaged header may say billions, which no memory resamples
_MOST_FLOAT = 4.0  # full scales that a float sample may reach before it is one of another scale
_MOST_SAMPLES = 2**31 - 1  # that an array of Arrow has in a row
_OPTIONS = ("test_fraction", "seed", "unlabelled_value", "duration_s", "sample_rate")


def open_audio(root: Path | None, options: SourceOptions) -> AudioFolder | AudioNpz:
    """The source for a folder of wav files or an npz (or a folder that holds one npz)."""
    root = required_root(root, "audio")
    options.only("audio", *_OPTIONS)
    if not _SHORTEST_S <= options.duration_s < float("inf"):
        raise must("--duration", f"at least {_SHORTEST_S} seconds, and finite", options.duration_s)
    if options.sample_rate is not None and options.sample_rate > _MOST_HZ:
        raise must("--sample-rate", f"at most {_MOST_HZ} Hz", options.sample_rate)
    archives = [root] if root.is_file() else sorted(root.glob("*.npz"))
    if root.is_file() and root.suffix != ".npz":
        raise UserError(f"--root must be a folder of wav files or an .npz file. Got {root}.")
    return AudioNpz(archives[0], options) if len(archives) == 1 else AudioFolder(root, options)


def _audio_spec(rate: int, options: SourceOptions, names: tuple[str, ...], files: list[Path]) -> SourceSpec:
    if options.duration_s * rate > _MOST_SAMPLES:
        raise must("--duration", f"at most {_MOST_SAMPLES // rate} seconds at {rate} Hz", options.duration_s)
    return SourceSpec(
        kind="audio",
        shape=(max(1, round(options.duration_s * rate)),),
        dtype="int16",
        class_names=names,
        value_range=(-32768.0, 32767.0),
        files=tuple(files),
        details={"sample_rate": rate},
    )


class AudioFolder:
    """ROOT/class/recording.wav, or ROOT/train/class/... with ROOT/test/class/..."""

    name = "audio"

    def __init__(self, root: Path, options: SourceOptions) -> None:
        self.options = options
        self._listing = FolderListing(root, {".wav"}, options)
        self.not_read = self._listing.not_read
        rate = options.sample_rate or self._listing.first(_read_wav)[0]
        self.spec = _audio_spec(rate, options, self._listing.names, self._listing.files)
        self.fitted: Counter[str] = Counter()

    def batches(self) -> Iterator[Batch | Undecoded]:
        """All recordings, in the order of their paths."""
        self.fitted.clear()
        yield from self._listing.batches(self._read, self.spec.rows_per_batch, "Recordings")

    def _read(self, path: Path) -> np.ndarray:
        rate = int(self.spec.details["sample_rate"])
        got, samples = _read_wav(path)
        if got != rate and self.options.sample_rate is None:
            remedy = f"Pass --sample-rate {rate} to resample."
            raise must("sample rate", f"{rate} Hz, as the first file", got, where=str(path), remedy=remedy)
        row = np.zeros(self.spec.shape, dtype=np.int16)
        self.fitted[_fit(_resampled(samples, got, rate), row)] += 1
        return row


class AudioNpz:
    """An npz with `samples` (int16, end to end), `offsets` (N + 1,), `rate`, `labels` and, if present, `split`."""

    name = "audio"

    def __init__(self, path: Path, options: SourceOptions) -> None:
        self.options = options
        self._npz = Npz(path)
        total, dtype = self._npz.shape("samples"), self._npz.dtype("samples")
        if dtype != np.int16 or len(total) != 1:
            raise must("samples", "a vector of int16", f"{total} {dtype}", where=path.name)
        self._offsets = self._npz.array("offsets").astype(np.int64)
        increasing = self._offsets.ndim == 1 and len(self._offsets) > 1 and bool((np.diff(self._offsets) >= 0).all())
        if not increasing or self._offsets[0] != 0 or self._offsets[-1] != total[0]:
            raise must("offsets", f"rising from 0 to {total[0]}", _short(self._offsets), where=path.name)
        count = len(self._offsets) - 1
        if "rate" not in self._npz.names and options.sample_rate is None:
            raise UserError(f"{path.name} has no 'rate'. Pass --sample-rate.")
        self._rate = _rate(self._npz) if "rate" in self._npz.names else int(options.sample_rate or 0)
        names, self._labels, self._splits = self._npz.labelled(count, options)
        self.spec = _audio_spec(options.sample_rate or self._rate, options, names, [path])
        self.fitted: Counter[str] = Counter()

    def batches(self) -> Iterator[Batch | Undecoded]:
        """All recordings, in the order of the file."""
        self.fitted.clear()
        rate, size, place = int(self.spec.details["sample_rate"]), self.spec.rows_per_batch, self._npz.path.name
        lengths = np.diff(self._offsets)
        recordings = self._npz.chunks("samples", iter(lengths.tolist()))
        for start in range(0, len(self._labels), size):
            rows = np.arange(start, min(start + size, len(self._labels)), dtype=np.int64)
            features = np.zeros((len(rows), *self.spec.shape), dtype=np.int16)
            fits = [_fit(_resampled(next(recordings), self._rate, rate), row) for row in features]
            good = lengths[rows] > 0
            self.fitted.update(itertools.compress(fits, good))
            for row in rows[~good]:
                where = f"{place}: recording {row}"
                yield Undecoded(name=where, error=unreadable(f"{where} holds no samples.", "recordings"))
            batch = Batch(
                features=features,
                labels=self._labels[rows],
                keys=rows,
                rows=rows,
                split="train",
                place=place,
            )
            yield from by_split(batch.pick(good), self._splits[rows][good])


def _rate(npz: Npz) -> int:
    """The array `rate`: Hz of all recordings."""
    shape, dtype = npz.shape("rate"), npz.dtype("rate")
    wanted = f"one whole number of Hz, 1 to {_MOST_HZ}"
    if shape != () or dtype.kind not in "iuf":
        raise must("array 'rate'", wanted, f"shape {shape}, {dtype}", where=npz.path.name)
    rate = npz.array("rate").item()
    if not 1 <= rate <= _MOST_HZ or rate != int(rate):
        raise must("array 'rate'", wanted, rate, where=npz.path.name)
    return int(rate)


def _read_wav(path: Path) -> tuple[int, np.ndarray]:
    """Rate in Hz and mono int16 samples of a wav file (8 to 32 bit or float)."""
    import warnings

    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # unknown chunks are harmless,
            warnings.filterwarnings("error", "Reached EOF")  # a truncated file is not
            rate, data = wavfile.read(path)
    except (*_BROKEN, wavfile.WavFileWarning) as error:
        # SciPy found no chunk to read samples from, and then looks for what it has not read.
        reason = "no samples" if isinstance(error, UnboundLocalError) else error
        raise unreadable(f"{path} is not a readable wav file ({reason}).", "files") from error
    if not 1 <= rate <= _MOST_HZ:
        raise unreadable(f"{path}: sample rate must be 1 to {_MOST_HZ} Hz. Got {rate}.", "files")
    if data.size == 0:
        raise unreadable(f"{path} holds no samples.", "files")
    if data.dtype.kind == "f":
        if not np.isfinite(data).all():
            raise unreadable(f"{path} holds NaN or infinite samples.", "files")
        if (peak := float(np.abs(data).max())) > _MOST_FLOAT:
            told = f"{path}: float samples must lie in -1 to 1. Got {peak:.6g}, of another scale."
            raise unreadable(f"{told} Write them as int16, or divide them.", "files")
        values = data.astype(np.float64) * 32768.0
    else:  # 8 bit is unsigned, 24 bit comes left-aligned in 32
        shift = 128.0 if data.dtype.itemsize == 1 else 0.0
        values = (data.astype(np.float64) - shift) * 2.0 ** (16 - 8 * data.dtype.itemsize)
    if values.ndim == 2:
        values = values.mean(axis=1)
    return int(rate), _int16(values)


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted or len(samples) == 0:
        return samples
    from scipy.signal import resample_poly

    ratio = Fraction(wanted, rate)
    return _int16(resample_poly(samples.astype(np.float64), ratio.numerator, ratio.denominator))


def _int16(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -32768, 32767).astype(np.int16)


def _fit(samples: np.ndarray, row: np.ndarray) -> str:
    """Write samples into a row of zeros: "cut", "padded" with silence, or "whole"."""
    count = min(len(samples), len(row))
    row[:count] = samples[:count]
    return "cut" if count < len(samples) else "padded" if count < len(row) else "whole"


def _short(values: np.ndarray) -> str:
    return f"{values.ravel()[:3].tolist()}..." if values.size > 3 else str(values.tolist())
