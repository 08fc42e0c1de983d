"""The benchmark tables: nine fixed folds with their label masks, as tensors.

Axes: N rows, D features, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from pipeline.errors import DataError

TABLES = ("breast", "diabetes", "glass", "liver", "pendigits", "shape", "vowel")
FRACTIONS = (1, 5, 10, 25, 50, 75, 100)
UNLABELLED = -1


@dataclass(frozen=True)
class Fold:
    """One train/test pair.

    Attributes:
        repetition: 1, 2, 3.
        fold: 1, 2, 3 within the repetition.
        features: (N, D) float64, training rows.
        classes: (N,) int64, the true classes of the training rows.
        masks: rows that keep their label, (N,) bool by fraction in per cent.
        test_features: (n, D) float64.
        test_classes: (n,) int64.
    """

    repetition: int
    fold: int
    features: Tensor
    classes: Tensor
    masks: dict[int, Tensor]
    test_features: Tensor
    test_classes: Tensor

    def labels(self, fraction: int) -> Tensor:
        """(N,) int64: classes of the labelled rows, UNLABELLED elsewhere."""
        return self.classes if fraction == 100 else torch.where(self.masks[fraction], self.classes, UNLABELLED)


@dataclass(frozen=True)
class Table:
    """A table with its folds."""

    name: str
    num_classes: int
    folds: tuple[Fold, ...]
    features: Tensor
    classes: Tensor

    @property
    def num_features(self) -> int:
        """D."""
        return self.features.shape[1]


def present(data: Path) -> list[str]:
    """Names of the tables that are there; the others are "not run"."""
    found = [name for name in TABLES if (data / f"{name}.parquet").is_file()]
    if not found:
        raise DataError(f"--data must hold one of {', '.join(f'{name}.parquet' for name in TABLES)}. Got {data}.")
    return found


@lru_cache(maxsize=8)
def load(path: Path) -> Table:
    """Read a table: columns rep, fold, split, row, x0 …, y, labelled_s01 … labelled_s75 (and only these)."""
    rows = pq.read_table(path)
    names = sorted((n for n in rows.column_names if n[0] == "x" and n[1:].isdigit()), key=lambda n: int(n[1:]))
    if not names or not {"rep", "fold", "split", "y"} <= set(rows.column_names):
        raise DataError(f"{path.name} must have columns rep, fold, split, y, x0 … Got {rows.column_names}.")
    rows = rows.set_column(rows.column_names.index("split"), "split", rows["split"].cast("string"))
    pairs = sorted(set(zip(rows["rep"].to_pylist(), rows["fold"].to_pylist(), strict=True)))
    folds = tuple(_fold(rows, names, repetition, fold) for repetition, fold in pairs)
    first = [fold for fold in folds if fold.repetition == pairs[0][0]]
    return Table(
        name=path.stem,
        num_classes=int(pc.max(rows["y"]).as_py()) + 1,
        folds=folds,
        features=torch.cat([fold.test_features for fold in first]),
        classes=torch.cat([fold.test_classes for fold in first]),
    )


def _fold(rows, names: list[str], repetition: int, fold: int) -> Fold:  # type: ignore[no-untyped-def]
    both = rows.filter(pc.and_(pc.equal(rows["rep"], repetition), pc.equal(rows["fold"], fold)))
    train = both.filter(pc.equal(both["split"], "train"))
    test = both.filter(pc.equal(both["split"], "test"))
    masks = {f: f"labelled_s{f:02d}" for f in FRACTIONS if f < 100}
    return Fold(
        repetition=repetition,
        fold=fold,
        features=_features(train, names),
        classes=torch.tensor(train["y"].to_pylist(), dtype=torch.int64),
        masks={f: torch.tensor(train[name].to_pylist()) for f, name in masks.items()},
        test_features=_features(test, names),
        test_classes=torch.tensor(test["y"].to_pylist(), dtype=torch.int64),
    )


def _features(rows, names: list[str]) -> Tensor:  # type: ignore[no-untyped-def]
    columns = [torch.tensor(rows[name].to_numpy(), dtype=torch.float64) for name in names]
    return torch.stack(columns, dim=1).contiguous()
