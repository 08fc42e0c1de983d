"""Raw data to a prepared data set: parquet shards and a manifest."""

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._prepared import joined, report, size_of
from jobs._progress import Progress
from jobs._run import job, run

SOURCES = "digits, mnist, fashion-mnist, svhn, cifar10, images, table or audio"


def prepare(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCES + ".")],
    out: Annotated[Path, typer.Option(help="Directory of the prepared data set.")],
    root: Annotated[Path | None, typer.Option(help="File or folder with the raw data (not for digits).")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels (table, images).")] = None,
    unlabelled_value: Annotated[str | None, typer.Option(help='Label of unlabelled, or "none". [default: -1]')] = None,
    split_column: Annotated[str | None, typer.Option(help="Column with train, test or validation.")] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Draws the split, also where there is one. [default: 0.2 where there is none]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of that split.")] = 0,
    where: Annotated[list[str] | None, typer.Option(help="Rows to take, by comma, e.g. rep=1,fold=1 (table).")] = None,
    folds: Annotated[
        list[str] | None, typer.Option(help="Columns of stacked folds, by comma: a data set per fold (table).")
    ] = None,
    feature_columns: Annotated[
        list[str] | None, typer.Option(help="Names or patterns, by comma, e.g. 'x*,y'. [default: all]")
    ] = None,
    exclude_columns: Annotated[
        list[str] | None, typer.Option(help="Names or patterns of columns left out, by comma.")
    ] = None,
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
    drop_invalid: Annotated[
        bool, typer.Option("--drop-invalid", help="Leave out rows with NaN, and files that cannot be decoded.")
    ] = False,
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
        where=joined(where),
        feature_columns=joined(feature_columns),
        exclude_columns=joined(exclude_columns),
        key_column=key_column,
        labelled_column=labelled_column,
        delimiter=delimiter,
        header=header,
        image_column=image_column,
        size=size_of(size),
        channels=channels,
        duration_s=duration,
        sample_rate=sample_rate,
    )
    with Progress("rows") as progress:
        if (columns := joined(folds)) is not None:
            from pipeline.prepared.folds import prepare_folds
            from pipeline.sources.base import BELOW, required_root
            from pipeline.sources.readers import tables_below

            written = prepare_folds(source, root, options, columns, out, writing, progress)
            below = tables_below(required_root(root, source)), BELOW
            return {"out": out, "folds": [report(source, out / name, written[name], *below) for name in written]}
        opened = open_source(source, root, options)
        manifest = prepare(opened, out, writing, progress)
    which = getattr(opened, "which_not_read", "of other kinds")
    return report(source, out, manifest, getattr(opened, "not_read", {}), which)


app = job(example="python -m jobs.prepare digits --out data/digits")(prepare)

if __name__ == "__main__":
    run(app)
