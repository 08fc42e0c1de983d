"""Small files in the real formats of the big data sets, for readers whose real files may be absent."""

import gzip
import pickle
import struct
import wave
from pathlib import Path

import numpy as np

from pipeline.sources import Undecoded

IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def write_idx(folder: Path, rng, counts=None, packed=False):
    """The four files of MNIST; returns the arrays by split."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for split, count in (counts or {"train": 12, "test": 5}).items():
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        arrays[split] = images, labels
        contents = (
            struct.pack(">iiii", 0x803, count, 28, 28) + images.tobytes(),
            struct.pack(">ii", 0x801, count) + labels.tobytes(),
        )
        for name, content in zip(IDX[split], contents, strict=True):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return arrays


def write_svhn(folder: Path, images, labels):
    """train_32x32.mat and test_32x32.mat as published: X (32, 32, 3, N), y (N, 1) with 10 for the digit 0."""
    from scipy.io import savemat

    half = len(images) // 2
    for split, part in (("train", slice(None, half)), ("test", slice(half, None))):
        y = np.where(labels[part] == 0, 10, labels[part]).astype(np.uint8)[:, None]
        savemat(folder / f"{split}_32x32.mat", {"X": images[part].transpose(1, 2, 3, 0), "y": y}, do_compression=True)


def write_cifar(root: Path, rng, rows=4):
    """cifar-10-batches-py; returns images (N, 3, 32, 32) and labels in the order of the files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    images, labels = [], []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (rows, 3072), dtype=np.uint8)
        classes = rng.integers(0, 10, rows).tolist()
        (folder / name).write_bytes(pickle.dumps({"data": data, "labels": classes}, protocol=2))
        images.append(data.reshape(-1, 3, 32, 32))
        labels.extend(classes)
    return np.concatenate(images), np.array(labels)


def write_wav(path: Path, samples, rate=8000, width=2, channels=1):
    """A PCM wav file; `samples` are int16 values, stored with `width` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.asarray(samples, dtype=np.int64)
    stored = {1: (samples >> 8) + 128, 2: samples, 4: samples << 16}[width]
    with wave.open(str(path), "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(stored.astype({1: "u1", 2: "<i2", 4: "<i4"}[width]).tobytes())


def collect(source):
    """All batches of a source as {split: (features, labels, keys)}."""
    parts = {}
    for batch in source.batches():
        if isinstance(batch, Undecoded):
            raise batch.error
        parts.setdefault(batch.split, []).append((batch.features, batch.labels, batch.keys))
    return {split: tuple(np.concatenate(column) for column in zip(*rows, strict=True)) for split, rows in parts.items()}
