"""The classic image sets, through their real loaders: digits, MNIST, Fashion-MNIST, SVHN, CIFAR-10.

Nothing is downloaded and nothing is written into the root. Files may lie in the root itself, in the folder that
torchvision makes below it, or, for MNIST and Fashion-MNIST, be still packed (.gz).
"""

from __future__ import annotations

import gzip
import pickle
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError, must
from pipeline.places import full_disk_named
from pipeline.sources.base import Batch, SourceOptions, SourceSpec, by_split, image_spec, required_root, rows_for_test

_DIGITS = tuple("0123456789")
_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def _cut(
    spec: SourceSpec, images: np.ndarray, labels: np.ndarray, split: str, place: str, first_key: int
) -> Iterator[Batch]:
    """Batches of arrays that are in memory or memory-mapped. Keys go on from one split to the next."""
    if len(images) != len(labels):
        raise must("number of labels", f"{len(images)}, as the images", len(labels), where=place)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(spec.class_names)))
    if len(wrong):
        last = len(spec.class_names) - 1
        raise must("label", f"in 0..{last}", int(labels[wrong[0]]), where=f"{place}: row {wrong[0]}")
    if images.shape[1:] != spec.shape:
        raise must("shape of images", str(spec.shape), images.shape[1:], where=place)
    for start in range(0, len(images), spec.rows_per_batch):
        stop = min(start + spec.rows_per_batch, len(images))
        rows = np.arange(start, stop, dtype=np.int64)
        yield Batch(
            features=images[start:stop],
            labels=labels[start:stop].astype(np.int64),
            keys=rows + first_key,
            rows=rows,
            split=split,
            place=place,
        )


class Digits:
    """The 1,797 images of 8x8 that come with scikit-learn; a stratified, seeded split."""

    name = "digits"

    def __init__(self, root: Path | None, options: SourceOptions) -> None:
        from sklearn.datasets import load_digits

        options.only(self.name, "test_fraction", "seed")
        if root is not None:
            raise must("--root", "left out for digits, which come with scikit-learn", str(root))
        self.options = options
        data = load_digits()
        self._images = data.images.astype(np.uint8)[:, None]
        self._labels = data.target.astype(np.int64)
        self.spec = image_spec((1, 8, 8), _DIGITS, (), white=16.0)

    def batches(self) -> Iterator[Batch]:
        """All images, in scikit-learn's order."""
        splits = np.where(rows_for_test(self._labels, self.options), "test", "train")
        for batch in _cut(self.spec, self._images, self._labels, "train", "digits", 0):
            yield from by_split(batch, splits[batch.rows])


class Mnist:
    """MNIST or Fashion-MNIST from their idx files, plain or .gz, read by torchvision."""

    def __init__(self, root: Path | None, options: SourceOptions, name: str = "mnist") -> None:
        self.name, self.options = name, options
        options.only(name)
        self._folder = "MNIST" if name == "mnist" else "FashionMNIST"
        root = required_root(root, name)
        places = [root / self._folder / "raw", root / "raw", root, root / self._folder]
        found = next((p for p in places if any(p.glob("*idx?-ubyte*"))), None)
        if found is None:
            wanted = f"{self._folder}/raw/{_IDX[0]}[.gz]"
            raise DataError(f"--root must hold {wanted} and its three companions. Not found in {root}.")
        files = tuple(_plain_or_packed(found, file) for file in _IDX)
        names = _DIGITS if name == "mnist" else _fashion_classes()
        self.spec = image_spec((1, 28, 28), names, files)

    def batches(self) -> Iterator[Batch]:
        """Training images, then test images; packed files are unpacked outside the root for the while."""
        from torchvision import datasets

        loader = {"MNIST": datasets.MNIST, "FashionMNIST": datasets.FashionMNIST}[self._folder]
        with tempfile.TemporaryDirectory(prefix="somgrad-") as scratch:
            raw = Path(scratch, self._folder, "raw")
            raw.mkdir(parents=True)
            for file in self.spec.files:
                _unpack(file, raw / file.name.removesuffix(".gz"))
            first_key = 0
            for split, file in (("train", self.spec.files[0]), ("test", self.spec.files[2])):
                try:
                    data = loader(scratch, train=split == "train", download=False)
                except (AssertionError, ValueError, TypeError, RuntimeError, IndexError) as error:
                    raise DataError(f"{file.name}: not a complete idx file ({error or 'wrong header'}).") from error
                images, labels = data.data.numpy()[:, None], data.targets.numpy()
                yield from _cut(self.spec, images, labels, split, file.name, first_key)
                first_key += len(images)


class Svhn:
    """SVHN's cropped digits, train_32x32.mat and test_32x32.mat, read by torchvision (class 10 is the digit 0).

    A .mat file is one compressed array: the larger of the two (train, 225 MB) is in memory at a time.
    """

    name = "svhn"

    def __init__(self, root: Path | None, options: SourceOptions) -> None:
        options.only(self.name)
        self.options = options
        root = required_root(root, self.name)
        files = tuple(root / f"{split}_32x32.mat" for split in ("train", "test"))
        for file in files:
            if not file.exists():
                raise DataError(f"--root must hold train_32x32.mat and test_32x32.mat. {file} is missing.")
        self.spec = image_spec((3, 32, 32), _DIGITS, files)

    def batches(self) -> Iterator[Batch]:
        """Training images, then test images."""
        from torchvision.datasets import SVHN

        class AnyRelease(SVHN):
            """torchvision knows one md5 per file; provenance is in our manifest, so other releases are read."""

            def _check_integrity(self) -> bool:
                return True

        first_key = 0
        for file in self.spec.files:
            split = file.name.split("_")[0]
            try:
                data = AnyRelease(str(file.parent), split=split, download=False)
            except (ValueError, KeyError, TypeError, NotImplementedError, OSError) as error:
                raise DataError(f"{file.name}: not a complete .mat file of SVHN ({error}).") from error
            yield from _cut(self.spec, np.asarray(data.data), np.asarray(data.labels), split, file.name, first_key)
            first_key += len(data.data)


class CifarPython:
    """CIFAR-10 as torchvision keeps it: cifar-10-batches-py with pickled batches.

    torchvision trusts a pickle once its md5 is right, and loads all batches at once. Here one batch is in
    memory at a time, and only arrays, text and lists can come out of it, so other releases are safe to read.
    """

    name = "cifar10"

    def __init__(self, folder: Path, options: SourceOptions) -> None:
        options.only(self.name)
        self.options = options
        files = tuple(folder / name for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"])
        for file in (*files, folder / "batches.meta"):
            if not file.exists():
                raise DataError(f"cifar-10-batches-py must hold {file.name}. Not found in {folder}.")
        names = tuple(_safe_pickle(folder / "batches.meta").get("label_names", ()))
        self.spec = image_spec((3, 32, 32), names, files)

    def batches(self) -> Iterator[Batch]:
        """The five training batches, then the test batch."""
        first_key = 0
        for file in self.spec.files:
            content = _safe_pickle(file)
            labels = np.asarray(content.get("labels", content.get("fine_labels", ())), dtype=np.int64)
            data = np.asarray(content.get("data", np.empty((0, 3072), np.uint8)))
            if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
                raise must("data", "(n, 3072) uint8", f"{data.shape} {data.dtype}", where=file.name)
            split = "test" if file.name == "test_batch" else "train"
            yield from _cut(self.spec, data.reshape(-1, 3, 32, 32), labels, split, file.name, first_key)
            first_key += len(data)


class _SafeUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("numpy") and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer"):
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def _safe_pickle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            content = _SafeUnpickler(stream, encoding="latin1").load()
        assert isinstance(content, dict)
    except (pickle.UnpicklingError, EOFError, AssertionError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path.name}: not a readable batch of CIFAR-10 ({error}).") from error
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}


def _plain_or_packed(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.exists():
            return candidate
    raise DataError(f"--root must hold {name} or {name}.gz. Not found in {folder}.")


def _unpack(file: Path, target: Path) -> None:
    if file.suffix != ".gz":
        target.symlink_to(file.resolve())
        return
    try:
        with full_disk_named(target), gzip.open(file) as packed, open(target, "wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.name} is corrupt or truncated ({error}).") from error


def _fashion_classes() -> tuple[str, ...]:
    from torchvision.datasets import FashionMNIST

    return tuple(FashionMNIST.classes)
