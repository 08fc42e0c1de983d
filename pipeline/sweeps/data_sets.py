"""The data sets of a sweep: one directory each, or one directory with the folds of a cross-validation in it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ManifestError, UserError, must
from pipeline.places import absolute
from pipeline.prepared.folds import folds_in
from pipeline.prepared.manifest import MANIFEST
from pipeline.prepared.shards import Dataset


@dataclass(frozen=True)
class TrialData:
    """A prepared data set that trials are trained on: its name in the sweep, where it is, what is in it.

    Attributes:
        name: of the data set; folds of one have the same.
        fold: name of the fold, empty where there are none.
        path: its directory or URI.
        manifest_hash: of its manifest.
        num_samples, num_features, num_classes: N of the training split, D, C.
        dense: a table without missing values.
    """

    name: str
    fold: str
    path: str
    manifest_hash: str
    num_samples: int
    num_features: int
    num_classes: int
    dense: bool

    @property
    def key(self) -> str:
        """Name that no other data set of the sweep has."""
        return _key(self.name, self.fold)


def open_data_sets(places: Sequence[str]) -> tuple[TrialData, ...]:
    """Opens the data sets of a sweep.

    Args:
        places: directories or URIs of prepared data sets, or directories of folds: prepared data sets in one directory.

    Raises:
        UserError: there is none, one has no training rows, or folds differ in features or classes.
    """
    if not places:
        raise UserError("--data must be given, unless --resume goes on with a sweep.")
    found: list[TrialData] = []
    for text in places:
        place = absolute(text)
        folds = _folds(Path(place))
        name = _free_name(Path(place.split("?")[0]).name, [p.name for p in folds] or [""], found)
        opened = [_open(str(p), name, p.name) for p in folds] or [_open(place, name, "")]
        for data in opened[1:]:
            for what in ("num_features", "num_classes"):
                if getattr(data, what) != getattr(opened[0], what):
                    first, got = f"{getattr(opened[0], what)} as in {opened[0].fold}", getattr(data, what)
                    raise must(f"{what} of the folds in '{text}'", first, got, where=data.fold)
        found += opened
    return tuple(found)


def _key(name: str, fold: str) -> str:
    return f"{name}-{fold}" if fold else name


def _free_name(last: str, folds: Sequence[str], others: Sequence[TrialData]) -> str:
    """The last part of a place, with a number where another data set has that name, or the key of a fold."""
    names, keys = {data.name for data in others}, {data.key for data in others}
    choices = itertools.chain([last], (f"{last}-{number}" for number in itertools.count(len(names))))
    return next(n for n in choices if n not in names and keys.isdisjoint(_key(n, fold) for fold in folds))


def _folds(place: Path) -> list[Path]:
    """Prepared data sets in a directory that is none itself."""
    if (place / MANIFEST).exists() or not place.is_dir():
        return []
    found = sorted(path.parent for path in place.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
    names = folds_in(place)
    if names is not None and (missing := sorted({*names} - {path.name for path in found})):
        raise ManifestError(
            f"'{place}' must hold all {len(names)} folds. It lacks {', '.join(missing[:5])}. Run jobs.prepare again."
        )
    found = [path for path in found if names is None or path.name in names]
    if not found:
        raise ManifestError(
            f"--data must be a prepared data set, or a folder of folds (prepared data sets). '{place}' holds no "
            f"{MANIFEST}. Make one with jobs.prepare."
        )
    return found


def _open(path: str, name: str, fold: str) -> TrialData:
    dataset = Dataset.open(path)
    count = dataset.num_samples("train")
    if count == 0:
        raise must(f"The training split of '{path}'", "not empty", 0)
    manifest = dataset.manifest
    dense = manifest.kind == "table" and manifest.missing == "error"
    sizes = (count, dataset.num_features, dataset.num_classes)
    return TrialData(name, fold, path, dataset.manifest_hash, *sizes, dense)
