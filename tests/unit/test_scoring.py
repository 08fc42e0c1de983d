"""Which rows a run is scored on at its end."""

import numpy as np
import pytest

from pipeline import scoring
from pipeline.evaluation import evaluate
from pipeline.prepare import PrepareOptions, prepare
from pipeline.rundir import RunDirectory
from pipeline.shards import Dataset
from pipeline.sources import SourceOptions, open_source
from pipeline.trainer import train
from tests.training import small, table


@pytest.mark.parametrize(("test_fraction", "looked_at"), [(0.0, 50), (0.5, 100)], ids=["training rows", "test rows"])
def test_the_end_looks_at_some_training_rows_or_at_all_test_rows(rng, tmp_path, monkeypatch, test_fraction, looked_at):
    seen: list[int] = []
    evaluate = scoring.evaluate

    def counted(state, config, read, count, classes, rows, *others):
        seen.append(count if rows is None else len(set(rows.tolist())))
        return evaluate(state, config, read, count, classes, rows, *others)

    monkeypatch.setattr(scoring, "_MOST", 50)
    monkeypatch.setattr(scoring, "evaluate", counted)
    labels = np.arange(200) % 4
    data = table(tmp_path / "t", rng.normal(labels[:, None], 0.1, (200, 3)), labels, test_fraction=test_fraction)
    settings = small("kohonen", data, train__evaluate_epochs=0, map__rows=2, map__columns=2)
    summary = train(settings, tmp_path / "run")
    assert seen == [looked_at] and summary["split"] == ("test" if test_fraction else "train")


@pytest.mark.parametrize("splits", [("train",), ("train", "test"), ("train", "test", "validation")])
def test_without_classes_a_search_looks_at_rows_that_are_not_tested(rng, tmp_path, splits):
    data = stacked(tmp_path, rng, splits)
    settings = small("kohonen", data, train__evaluate_epochs=1, map__rows=2, map__columns=2, map__epochs=1)
    told: list[dict] = []
    summary = train(settings, tmp_path / "run", on_epoch=lambda epoch, of, metrics: told.append(dict(metrics)))
    errors = {split: error_on(split, data, tmp_path / "run") for split in splits}
    assert summary["quantization_error"] == errors.get("test", errors["train"])
    validated = "validation" in splits
    chooser = "validation_quantization_error" if validated else "training_quantization_error"
    assert summary[chooser] == errors["validation" if validated else "train"]
    assert ("training_quantization_error" in summary) is not validated
    assert (told[-1].get("validation_quantization_error") == errors.get("validation")) or not validated
    assert len(set(errors.values())) == len(splits), "the splits differ, or this could not fail"


def test_with_classes_the_error_is_measured_on_withheld_rows_too(digits, tmp_path):
    summary = train(small("sssom", digits, train__validation_fraction=0.2, map__epochs=1), tmp_path / "run")
    assert summary["validation_quantization_error"] > 0 and "training_quantization_error" not in summary


def stacked(folder, rng, splits):
    """A table without labels; the rows of each split are spread differently."""
    parts = [np.column_stack([rng.normal(0, 1 + i, (100, 3)), np.full(100, i)]) for i in range(len(splits))]
    lines = [",".join([*map(str, row[:3]), splits[int(row[3])]]) for part in parts for row in part]
    (folder / "raw.csv").write_text("\n".join(["x0,x1,x2,split", *lines]) + "\n")
    source = open_source("table", folder / "raw.csv", SourceOptions(split_column="split"))
    prepare(source, folder / "data", PrepareOptions())
    return folder / "data"


def error_on(split, data, run):
    state, config, _ = RunDirectory(run).load_map()
    dataset = Dataset.open(str(data))
    return evaluate(state, config, lambda rows: dataset.read(split, rows), dataset.num_samples(split), 0)[
        "quantization_error"
    ]
