"""Raw data to a prepared data set: parquet shards and a manifest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._progress import Progress
from jobs._run import job, run
from pipeline.errors import must

SOURCES = "digits, mnist, fashion-mnist, svhn, cifar10, images, table or audio"


def prepare(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCES + ".")],
    out: Annotated[Path, typer.Option(help="Directory of the prepared data set.")],
    root: Annotated[Path | None, typer.Option(help="File or folder with the raw data (not for digits).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels (table, images).")] = None,
    unlabelled_value: Annotated[str | None, typer.Option(help='Label of unlabelled, or "none". [default: -1]')] = None,
    split_column: Annotated[str | None, typer.Option(help="Column with train, test or validation.")] = None,
    test_fraction: Annotated[float | None, typer.Option(help="Where there is no split. [default: 0.2]")] = None,
    seed: Annotated[int, typer.Option(help="Of that split.")] = 0,
    where: Annotated[str | None, typer.Option(help="Rows to take, e.g. rep=1,fold=1 (table).")] = None,
    folds: Annotated[str | None, typer.Option(help="Columns of stacked folds: a data set per fold (table).")] = None,
    feature_columns: Annotated[str | None, typer.Option(help="Names or patterns, e.g. 'x*'. [default: all]")] = None,
    exclude_columns: Annotated[str | None, typer.Option(help="Names or patterns of columns left out.")] = None,
    key_column: Annotated[str | None, typer.Option(help="Column of row keys. [default: row number]")] = None,
    labelled_column: Annotated[
        str | None, typer.Option(help="Truth column: training rows where it is false lose their label (table).")
    ] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of a csv file. [default: found]")] = None,
    header: Annotated[bool, typer.Option(help="Whether a csv file begins with column names.")] = True,
    image_column: Annotated[str | None, typer.Option(help="Column of encoded images.")] = None,
    size: Annotated[str | None, typer.Option(metavar="HxW", help="Resize images. [default: all equal]")] = None,
    channels: Annotated[int | None, typer.Option(min=1, max=3, help="1 (gray) or 3 (colour).")] = None,
    duration: Annotated[float, typer.Option(help="Seconds kept of a recording (audio).")] = 1.0,
    sample_rate: Annotated[int | None, typer.Option(min=1, help="In Hz; others are resampled (audio).")] = None,
    missing: Annotated[str, typer.Option(help="error, or mask (keep NaN).")] = "error",
    drop_invalid: Annotated[bool, typer.Option("--drop-invalid", help="Leave out rows with NaN.")] = False,
    rows_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Rows of a shard (a parquet file). [default: about 16 MB of them]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another data set in --out.")] = False,
) -> dict[str, Any]:
    """Turn raw data into a prepared data set: parquet shards and a manifest, checked and hashed."""
    from pipeline.prepare import PrepareOptions, prepare
    from pipeline.sources import SourceOptions, open_source

    writing = PrepareOptions(
        overwrite=overwrite, drop_invalid=drop_invalid, missing=missing, rows_per_shard=rows_per_shard
    )
    options = SourceOptions(
        label_column=label_column,
        unlabelled_value=unlabelled_value,
        split_column=split_column,
        test_fraction=test_fraction,
        seed=seed,
        where=where,
        feature_columns=feature_columns,
        exclude_columns=exclude_columns,
        key_column=key_column,
        labelled_column=labelled_column,
        delimiter=delimiter,
        header=header,
        image_column=image_column,
        size=_size(size),
        channels=channels,
        duration_s=duration,
        sample_rate=sample_rate,
    )
    with Progress("rows") as progress:
        if folds is not None:
            from pipeline.folds import prepare_folds

            written = prepare_folds(source, root, options, folds, out, writing, progress)
            return {"out": out, "folds": [_report(source, out / name, written[name]) for name in written]}
        manifest = prepare(open_source(source, root, options), out, writing, progress)
    return _report(source, out, manifest)


def _report(source: str, out: Path, manifest: Any) -> dict[str, Any]:
    """Lines for people, and the same for `--json`."""
    counts = {name: split.num_samples for name, split in manifest.splits.items()}
    print(f"{out}: {', '.join(f'{count} {name}' for name, count in counts.items())} rows, ", end="")
    print(f"shape {'x'.join(map(str, manifest.shape))} {manifest.dtype}, {manifest.num_classes} classes")
    if manifest.dropped_count:
        print(f"{manifest.dropped_count} invalid rows left out")
    if manifest.constant_features:
        print(f"constant columns, read as 0: {', '.join(manifest.constant_features[:10])}")
    return {
        "source": source,
        "out": out,
        "num_samples": counts,
        "num_features": manifest.num_features,
        "shape": manifest.shape,
        "num_classes": manifest.num_classes,
        "class_names": manifest.class_names,
        "class_histogram": {name: split.class_histogram for name, split in manifest.splits.items()},
        "dropped_count": manifest.dropped_count,
        "manifest_hash": manifest.digest,
    }


def _size(text: str | None) -> tuple[int, int] | None:
    """Height and width from "32x32"."""
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise must("--size", "HEIGHTxWIDTH in pixels, such as 32x32", text)
    return int(height), int(width)


app = job(example="python -m jobs.prepare digits --out data/digits")(prepare)

if __name__ == "__main__":
    run(app)
