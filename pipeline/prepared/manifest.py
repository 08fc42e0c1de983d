"""A prepared data set: parquet shards per split and a manifest that says what they are; verified on open.

Layout: DIR/manifest.json, DIR/train/part-00000.parquet, ..., DIR/test/part-00000.parquet, ... Each part has the
columns `features` (fixed-shape tensor), `label` (int64, -1 = unlabelled) and `key` (int64 or string).
Axes: N rows, D features, C classes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ManifestError, line_of
from pipeline.places import Place

FORMAT = 1
MANIFEST = "manifest.json"
CACHE = ".cache"
_REMEDY = "The data set was changed after it was prepared. Prepare it again with --overwrite."


@dataclass(frozen=True)
class ShardFile:
    """One parquet file: its path below the data set, rows, bytes and sha256."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split.

    Args:
        num_samples: rows.
        class_histogram: (C,) labelled rows of each class.
        unlabelled_count: rows without a label.
        files: the shards, in the order of their rows.
    """

    num_samples: int = 0
    class_histogram: tuple[int, ...] = ()
    unlabelled_count: int = 0
    files: tuple[ShardFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a prepared data set is.

    Args:
        source: name and options of the source, and how it was prepared.
        kind: "image", "table" or "audio".
        shape: of one sample.
        dtype: as stored.
        class_names: in the order of the codes.
        splits: by name; train and test are always there, perhaps empty.
        missing: "error" or "mask"; with "mask" tables may hold NaN.
        value_range: for images and audio, what is scaled to 0 and 1.
        feature_names, feature_min, feature_max: for tables, over the training rows.
        constant_features: columns with one value in all training rows; they read as 0.
        dropped_count: invalid rows left out on demand.
        row_group_size: rows.
        details: facts of the source, such as the sample rate.
        provenance: raw files with hashes, versions of software.
        format: version of this layout.
    """

    source: dict[str, Any]
    kind: str
    shape: tuple[int, ...]
    dtype: str
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    missing: str = "error"
    value_range: tuple[float, float] | None = None
    feature_names: tuple[str, ...] | None = None
    feature_min: tuple[float, ...] | None = None
    feature_max: tuple[float, ...] | None = None
    constant_features: tuple[str, ...] = ()
    dropped_count: int = 0
    row_group_size: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def num_features(self) -> int:
        """D: numbers per sample."""
        return math.prod(self.shape)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """sha256 over everything but the provenance: equal digests mean equal data."""
        content = {k: v for k, v in self.to_dict().items() if k not in ("provenance", "source")}
        return hashlib.sha256(_canonical(content).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, as in the JSON file."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def to_json(self) -> str:
        """Text of the manifest file."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Parse a manifest file.

        Raises:
            ManifestError: not JSON, another format version, or a field missing or unknown.
        """
        try:
            content = json.loads(text)
            version = content["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(
                f"{where} must be the JSON of a prepared data set. Got {error!r}. Prepare again."
            ) from error
        if version != FORMAT:
            raise ManifestError(f"{where}: format must be {FORMAT}. Got {version!r}. Prepare the data set again.")
        try:
            splits = {
                name: Split(
                    num_samples=split["num_samples"],
                    class_histogram=tuple(split["class_histogram"]),
                    unlabelled_count=split["unlabelled_count"],
                    files=tuple(ShardFile(**file) for file in split["files"]),
                )
                for name, split in content["splits"].items()
            }
            fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
            fields["splits"] = splits
            return cls(**fields)
        except (KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"{where}: a field is wrong ({error}). Prepare the data set again.") from error

    @classmethod
    def load(cls, directory: str | Path | Place) -> Manifest:
        """Read DIR/manifest.json.

        Raises:
            ManifestError: there is none, or it cannot be used.
        """
        place = Place.of(directory)
        where = f"{place.name.rstrip('/')}/{MANIFEST}"
        try:
            text = place.read(MANIFEST).decode()
        except (FileNotFoundError, NotADirectoryError):
            remedy = "Make one: python -m jobs.prepare SOURCE --root PATH --out DIR."
            raise ManifestError(f"{directory} is not a prepared data set: no {MANIFEST}. {remedy}") from None
        except UnicodeDecodeError as error:
            raise ManifestError(f"{where} must be the JSON of a prepared data set. Got {error}.") from error
        except OSError as error:
            if place.local is not None:
                raise
            raise ManifestError(f"{where} cannot be read: {line_of(error)[:200]}") from None
        return cls.from_json(text, where)


def verify(directory: str | Path | Place, manifest: Manifest, hashes: bool = False) -> None:
    """Check the files of a data set against its manifest.

    Args:
        directory: of the data set, a path or a URI.
        manifest: as loaded from there.
        hashes: also the content, not only presence and size.

    Raises:
        ManifestError: names the first file that does not match.
    """
    place = Place.of(directory)
    sizes = place.sizes(recursive=True)
    for split in manifest.splits.values():
        if split.num_samples != sum(file.rows for file in split.files):
            raise ManifestError(f"{directory}: num_samples must be the sum over the files. Prepare again.")
        for file in split.files:
            if file.path not in sizes:
                raise ManifestError(
                    f"{file.path} must exist, as the manifest says. It is missing in {directory}. {_REMEDY}"
                )
            size = sizes[file.path]
            if size != file.bytes:
                raise ManifestError(
                    f"{file.path} must have {file.bytes} bytes, as the manifest says. Got {size}. {_REMEDY}"
                )
            if hashes:
                with place.fetched(file.path) as path:
                    verify_content(path, file)


def verify_content(path: Path, file: ShardFile) -> None:
    """Check the content of one file, which lies at `path`; see `verify`."""
    if sha256_file(path) != file.sha256:
        raise ManifestError(f"{file.path} must have the sha256 of the manifest. It does not. {_REMEDY}")


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
