"""Folders per class, files per split: what belongs to which class and split. Shared by images and recordings."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.errors import DataError, UnreadableSample, must, not_in_utf8
from pipeline.sources.base import SPLIT_NAMES, Batch, SourceOptions, Undecoded, by_split, rows_for_test
from pipeline.sources.classes import absent_value
from somcore.config import UNLABELLED

UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
T = TypeVar("T")


class FolderListing:
    """The files of ROOT/class/..., or of ROOT/train/class/... and ROOT/test/class/... (names: `SPLIT_NAMES`).

    A class folder named "unlabelled", "Unlabeled" or the like (or as --unlabelled-value says) holds samples without a
    label.

    Args:
        root: the folder.
        suffixes: endings of the files that count; hidden ones are ignored.
        options: see `SourceOptions`.

    Attributes:
        not_read: files of other kinds in folders of classes, by ending.

    Raises:
        UserError: no class folder, or no file in one of them; a file in none of them, or with a name that is not UTF-8;
            a link that leads nowhere; splits and other folders side by side.
    """

    def __init__(self, root: Path, suffixes: Collection[str], options: SourceOptions) -> None:
        parts = _split_folders(root, suffixes)
        self.not_read: Counter[str] = Counter()
        found: list[tuple[Path, str | None, str]] = []
        for split, part in (parts or {"train": root}).items():
            for folder in _folders(part):
                files = []
                for path in _visible(folder, "**/*"):
                    if path.suffix.lower() not in suffixes:
                        self.not_read[path.suffix.lower() or "without ending"] += 1
                    elif _leads_nowhere(path):
                        raise DataError(
                            f"{path} must be a file. It is a link that leads nowhere. Fetch its file, or remove it."
                        )
                    else:
                        files.append(path)
                if not files:
                    raise DataError(
                        f"Class folder {folder} must hold files ({', '.join(sorted(suffixes))}). It has none."
                    )
                name = _class_of(folder, options.unlabelled_value)
                found.extend((file, name, split) for file in sorted(files))
        if not found:
            raise DataError(f"--root must hold one folder per class. Got {root}, which has no folder with files.")
        for folder in (root, *parts.values()):
            if loose := min(_samples(folder, suffixes, "*"), default=None):
                raise DataError(f"Files must lie in the folder of a class. Got {loose}. Move it into one, or away.")
        self.names = tuple(sorted({name for _, name, _ in found if name is not None}, key=_natural))
        unlabelled = options.unlabelled_value
        if unlabelled and unlabelled.lower() != "none" and all(name is not None for _, name, _ in found):
            raise absent_value(unlabelled, f"the name of a folder in {root}", self.names)
        codes = {name: code for code, name in enumerate(self.names)}
        self.files = [file for file, _, _ in found]
        self.keys = np.array([file.relative_to(root).as_posix() for file in self.files], dtype=object)
        odd = next((key for key in self.keys if key.encode(errors="ignore").decode() != key), None)
        if odd is not None:
            raise not_in_utf8() or must("Names of files", "text in UTF-8", odd, remedy="Rename it.")
        self.labels = np.array([codes[name] if name else UNLABELLED for _, name, _ in found], dtype=np.int64)
        self.splits = np.array([split for _, _, split in found], dtype=object)
        if not parts or options.test_fraction is not None:
            self.splits = np.where(rows_for_test(self.labels, options), "test", "train").astype(object)

    def first(self, read: Callable[[Path], T]) -> T:
        """What `read` says of the first file that it can decode."""
        faults = []
        for file in self.files:
            try:
                return read(file)
            except UnreadableSample as error:
                faults.append(error.fault)
        raise DataError(f"--root must hold a file that can be decoded. {faults[0]}")

    def batches(self, read: Callable[[Path], np.ndarray], size: int, place: str) -> Iterator[Batch | Undecoded]:
        """The samples of `size` files at a time, cut by split."""
        for start in range(0, len(self.files), size):
            samples, good = [], []
            for row in range(start, min(start + size, len(self.files))):
                try:
                    samples.append(read(self.files[row]))
                    good.append(row)
                except UnreadableSample as error:
                    yield Undecoded(name=self.keys[row], error=error)
            if good:
                rows = np.array(good, dtype=np.int64)
                batch = Batch(
                    features=np.stack(samples),
                    labels=self.labels[rows],
                    keys=self.keys[rows],
                    rows=rows,
                    split="train",
                    place=place,
                )
                yield from by_split(batch, self.splits[rows])


def splits_in_names(files: list[Path]) -> dict[Path, str]:
    """Split of each file, by the first word of its name: train-00000-of-00001.parquet.

    Args:
        files: all files of the data.

    Returns:
        None of them if no file is called train: then names say nothing about splits.

    Raises:
        DataError: a file beside one called train is called as no split.
    """
    named = {file: SPLIT_NAMES.get(re.split("[-_.]", file.name.lower())[0], "") for file in files}
    train = next((file.name for file, split in named.items() if split == "train"), None)
    if train is None:
        return {}
    for file, split in named.items():
        if not split:
            raise DataError(
                f"Files beside {train} must be called as a split too ({', '.join(SPLIT_NAMES)}). Got '{file.name}'. "
                "Rename it or move it away, or pass --test-fraction to split the rows of all files at random."
            )
    return named


def _split_folders(root: Path, suffixes: Collection[str]) -> dict[str, Path]:
    """Folders by split; none if the folders of `root` are classes, as a class called train beside others is."""
    parts: dict[str, Path] = {}
    twice, others = [], []
    for folder in _folders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            others.extend([folder.name] if any(_samples(folder, suffixes, "**/*")) else [])
        elif split in parts:
            twice.append(f"'{parts[split].name}' and '{folder.name}'")
        else:
            parts[split] = folder
    train = parts.get("train")
    if train is None or (others and any(_samples(train, suffixes, "*"))):
        return {}
    if others:
        raise DataError(
            f"Folders beside {train} must be called as a split too ({', '.join(SPLIT_NAMES)}). Got '{others[0]}'. "
            f"Rename it or move it away. If '{train.name}' is a class, rename that."
        )
    if twice:
        raise DataError(f"{root} must hold one folder per split. Got {twice[0]}. Make one of them, or move one away.")
    return parts


def _class_of(folder: Path, unlabelled: str | None) -> str | None:
    """The class of the samples in a folder, None if they have none; with composed letters (Ä, not A and its dots)."""
    name = unicodedata.normalize("NFC", folder.name)
    if unlabelled is None:
        return None if name.lower() in UNLABELLED_FOLDERS else name
    return None if unlabelled.lower() != "none" and name == unicodedata.normalize("NFC", unlabelled) else name


def _samples(folder: Path, suffixes: Collection[str], pattern: str) -> Iterator[Path]:
    """The files that count, of those that a pattern finds."""
    return (path for path in _visible(folder, pattern) if path.suffix.lower() in suffixes)


def _visible(folder: Path, pattern: str) -> Iterator[Path]:
    """The files and broken links that a pattern finds; none that is hidden, or in a hidden folder."""
    for path in folder.glob(pattern):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_file() or _leads_nowhere(path)):
            yield path


def _leads_nowhere(path: Path) -> bool:
    """Whether this is a link to what is not there, as tools that fetch large files later leave them."""
    return path.is_symlink() and not path.exists()


def _folders(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers in numeric order, then names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
