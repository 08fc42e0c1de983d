"""Folders per class: which file belongs to which class and split. Shared by images and recordings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.labels import UNLABELLED
from pipeline.sources.base import Batch, SourceOptions, by_split, rows_for_test

_SPLIT_FOLDERS = {"train": "train", "test": "test", "val": "validation", "validation": "validation"}
UNLABELLED_FOLDER = "unlabelled"


class FolderListing:
    """The files of ROOT/class/..., or of ROOT/train/class/... and ROOT/test/class/...

    A class folder named "unlabelled" (or as --unlabelled-value says) holds samples without a label.

    Args:
        root: the folder.
        suffixes: endings of the files that count; others are ignored.
        options: see `SourceOptions`.

    Raises:
        DataError: no class folder, or no file in one of them.
    """

    def __init__(self, root: Path, suffixes: Collection[str], options: SourceOptions) -> None:
        unlabelled = options.unlabelled_value or UNLABELLED_FOLDER
        parts = {_SPLIT_FOLDERS[p.name.lower()]: p for p in _folders(root) if p.name.lower() in _SPLIT_FOLDERS}
        own_split = "train" in parts and all(p in parts.values() for p in _folders(root))
        if not own_split:
            parts = {"train": root}
        found: list[tuple[Path, str, str]] = []
        for split, part in parts.items():
            for folder in _folders(part):
                files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in suffixes and p.is_file()]
                if not files:
                    raise DataError(
                        f"Class folder {folder} must hold files ({', '.join(sorted(suffixes))}). It has none."
                    )
                found.extend((file, folder.name, split) for file in files)
        if not found:
            raise DataError(f"--root must hold one folder per class. Got {root}, which has no folder with files.")
        self.names = tuple(sorted({name for _, name, _ in found if name != unlabelled}, key=_natural))
        codes = {name: code for code, name in enumerate(self.names)}
        self.files = [file for file, _, _ in found]
        self.keys = np.array([file.relative_to(root).as_posix() for file in self.files], dtype=object)
        self.labels = np.array([codes.get(name, UNLABELLED) for _, name, _ in found], dtype=np.int64)
        self.splits = np.array([split for _, _, split in found], dtype=object)
        if not own_split or options.test_fraction is not None:
            self.splits = np.where(rows_for_test(self.labels, options), "test", "train").astype(object)

    def slices(self, size: int) -> Iterator[np.ndarray]:
        """Consecutive file numbers, `size` at a time."""
        for start in range(0, len(self.files), size):
            yield np.arange(start, min(start + size, len(self.files)), dtype=np.int64)

    def batches(self, features: np.ndarray, rows: np.ndarray, place: str) -> Iterator[Batch]:
        """The samples of the files `rows`, cut by split."""
        batch = Batch(
            features=features,
            labels=self.labels[rows],
            keys=self.keys[rows],
            rows=rows,
            split="train",
            place=place,
        )
        yield from by_split(batch, self.splits[rows])


def _folders(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers in numeric order, then names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
