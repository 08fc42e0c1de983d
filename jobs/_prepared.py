"""What `jobs.prepare` reads from its words, and what it says of a prepared data set."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs._epochs import counted
from pipeline.errors import must
from pipeline.prepared.manifest import Manifest, Split

_MOST, _FEW = 10, 6  # names that are said, of all and of more than that
_MEASURED = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")


def report(
    source: str, out: Path, manifest: Manifest, not_read: Mapping[str, int], which: str = "of other kinds"
) -> dict[str, Any]:
    """Lines for people, and the same for `--json`; `not_read` are files left out, by ending, and `which` says which."""
    if manifest.feature_names:
        print(f"features: {_some_and_last(manifest.feature_names)}")
    rows = ", ".join(_rows(name, split) for name, split in manifest.splits.items())
    print(f"{out}: {rows}, shape {'x'.join(map(str, manifest.shape))} {manifest.dtype}, ", end="")
    print(_classes(manifest.class_names))
    left_out = manifest.provenance.get("left_out", [])
    if manifest.dropped_count:
        named = [*left_out[:_FEW], *(["..."] if manifest.dropped_count > _FEW else [])] if left_out else []
        names = ", ".join(map(_in_one_line, named))
        print(f"{manifest.dropped_count} invalid rows left out{': ' if named else ''}{names}")
    if not_read:
        kinds = [f"{number} {ending}" for ending, number in sorted(not_read.items(), key=lambda of: (-of[1], of[0]))]
        print(f"{counted(sum(not_read.values()), 'file')} {which} not read: {_some(kinds)}")
    fitted = manifest.provenance.get("fitted", {})
    if cut_or_padded := {how: number for how in ("cut", "padded") if (number := fitted.get(how))}:
        seconds = manifest.shape[0] / manifest.details["sample_rate"]
        said = {"cut": "cut at the end", "padded": "followed by silence"}
        parts = " and ".join(f"{number} {said[how]}" for how, number in cut_or_padded.items())
        print(f"of {sum(fitted.values())} recordings {parts}, to last {seconds:.4g} s (--duration)")
    _tell_of_columns(manifest.constant_features, manifest.provenance.get("coarse", {}))
    if (key := manifest.provenance.get("repeated_key")) is not None:
        print(f"--key-column does not tell all rows apart: '{_in_one_line(key)}' stands in more than one")
    if all(map(_MEASURED.fullmatch, manifest.feature_names or [""])):
        print("the names of the columns are measurements: if the file begins with a row of data, pass --no-header")
    histograms = [split.class_histogram for split in manifest.splits.values()]
    single = sum(sum(counts) == 1 for counts in zip(*histograms, strict=False))
    if manifest.num_classes > _MOST and 2 * single > manifest.num_classes:
        print(f"{single} of {manifest.num_classes} classes have a single row: are these labels, or names of rows?")
    return {
        "source": source,
        "out": out,
        "num_samples": {name: split.num_samples for name, split in manifest.splits.items()},
        "unlabelled_count": {name: split.unlabelled_count for name, split in manifest.splits.items()},
        "num_features": manifest.num_features,
        "shape": manifest.shape,
        "num_classes": manifest.num_classes,
        "class_names": manifest.class_names,
        "class_histogram": {name: split.class_histogram for name, split in manifest.splits.items()},
        "dropped_count": manifest.dropped_count,
        "left_out": left_out,
        "not_read": dict(not_read),
        "fitted": fitted,
        "manifest_hash": manifest.digest,
    }


def joined(words: Sequence[str] | None) -> str | None:
    """One list of an option that may be given several times."""
    return ",".join(words) if words else None


def size_of(text: str | None) -> tuple[int, int] | None:
    """Height and width from "32x32"."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise must("--size", "HEIGHTxWIDTH in pixels, such as 32x32", text)
    return int(height), int(width)


def _tell_of_columns(constant: Sequence[str], coarse: Mapping[str, Sequence[float]]) -> None:
    """Of columns that have one value, in the file or only once they are stored, or few of theirs."""
    if same := [name for name in constant if name not in coarse]:
        meaning = "They read as 0 and count as relevant to every node of a map with relevances"
        print(f"constant columns: {_some(same)}. {meaning}: leave them out with {_excluding(same)}")
    if coarse:
        kept = [
            f"{name} (range {size:.4g}, steps of {step:.4g}{': one value' if name in constant else ''})"
            for name, (step, size) in coarse.items()
        ]
        remedy = "Subtract their smallest value, take another unit, or leave them out with"
        print(f"columns whose values become the same in float32: {_some(kept)}. {remedy} {_excluding(list(coarse))}")


def _excluding(names: Sequence[str]) -> str:
    """The option that leaves columns out, ready to be copied where they are few; a comma parts its patterns."""
    from pipeline.sources.columns import as_pattern

    if len(names) > _MOST:
        return "--exclude-columns"
    return f"--exclude-columns {shlex.quote(','.join(map(as_pattern, names)))}"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - _MOST
    return ", ".join(map(_in_one_line, names[:_MOST])) + (f" and {more} more" if more > 0 else "")


def _some_and_last(names: Sequence[str]) -> str:
    """The same and the last one, which is often the class: taken for a feature, it would not be seen."""
    if len(names) <= _MOST:
        return _some(names)
    more, last = len(names) - _MOST - 1, _in_one_line(names[-1])
    return f"{_some(names[:_MOST])}{f', {more} more' if more else ''} and {last}"


def _in_one_line(name: str) -> str:
    return " ".join(name.split())


def _rows(name: str, split: Split) -> str:
    labelled = split.num_samples - split.unlabelled_count
    said = {0: "none", split.num_samples: "all"}.get(labelled, str(labelled))
    return counted(split.num_samples, f"{name} row") + (f" ({said} labelled)" if split.num_samples else "")


def _classes(names: Sequence[str]) -> str:
    if not names:
        return "no classes"
    some = names if len(names) <= _MOST else [*names[:_FEW], "..."]
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'}: {', '.join(map(_in_one_line, some))}"
