"""Stacked folds: a data set each, one name for a sweep."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.prepared.folds import prepare_folds
from pipeline.prepared.writer import PrepareOptions
from pipeline.sources import SourceOptions, open_source
from pipeline.sweeps.data_sets import open_data_sets
from pipeline.sweeps.plan import SweepOptions
from pipeline.sweeps.planning import make_plan

OPTIONS = SourceOptions(label_column="y", split_column="split")


@pytest.fixture(scope="module")
def stacked(tmp_path_factory):
    rng = np.random.default_rng(0)
    parts = []
    for rep in (1, 2):
        for fold in (2, 10):
            part = pd.DataFrame(rng.random((12, 2)), columns=["a", "b"]).assign(y=[0, 1] * 6, rep=rep, fold=fold)
            parts.append(part.assign(split=["test"] * 4 + ["train"] * 8))
    path = tmp_path_factory.mktemp("stacked") / "rows.parquet"
    pd.concat(parts).to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def folds(stacked, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "rows"
    prepare_folds("table", stacked, OPTIONS, "rep,fold", out, PrepareOptions())
    return out


def test_a_data_set_for_each_combination_in_order_of_numbers(stacked, folds):
    again = prepare_folds("table", stacked, OPTIONS, "rep,fold", folds, PrepareOptions())
    assert list(again) == ["rep1-fold2", "rep1-fold10", "rep2-fold2", "rep2-fold10"]
    assert all((m.splits["train"].num_samples, m.splits["test"].num_samples) == (8, 4) for m in again.values())
    assert all(m.feature_names == ("a", "b") for m in again.values()), "columns of folds are no features"
    assert len({m.digest for m in again.values()}) == 4


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_folds_are_those_of_the_rows_that_pass_where(stacked, tmp_path, suffix):
    rows = pd.read_parquet(stacked).query("rep == 1 or fold == 10")
    getattr(rows, f"to_{suffix}")(tmp_path / f"rows.{suffix}", index=False)
    for columns, where, expected in (
        ("fold", "rep=2", ["fold10"]),
        ("fold", "rep=1,y=0", ["fold2", "fold10"]),
        ("rep,fold", "rep=1", ["rep1-fold2", "rep1-fold10"]),
        ("rep,fold", "y=0, rep = 2", ["rep2-fold10"]),
    ):
        options, out, told = replace(OPTIONS, where=where), tmp_path / f"{columns} {where}", []
        made = prepare_folds("table", tmp_path / f"rows.{suffix}", options, columns, out, PrepareOptions(), told.append)
        assert list(made) == expected and len(open_data_sets([str(out)])) == len(expected)
        splits = [split for manifest in made.values() for split in manifest.splits.values()]
        assert told == sorted(told) and told[-1] == sum(split.num_samples for split in splits)
        rows = 4 if "y" in where else 8  # of a class, where that is all there is, or of both
        assert {manifest.splits["train"].num_samples for manifest in made.values()} == {rows}
    for where, line in (
        ("rap=1", "--where must be columns of rows.* Got 'rap'"),
        ("rep=3", "one row where rep=3. It holds"),
    ):
        with pytest.raises(UserError, match=line):
            options = replace(OPTIONS, where=where)
            prepare_folds("table", tmp_path / f"rows.{suffix}", options, "fold", tmp_path / "o", PrepareOptions())
    assert not (tmp_path / "o").exists()


def test_a_sweep_takes_the_folder_as_one_data_set(folds, tmp_path):
    found = open_data_sets([str(folds)])
    assert (found[0].name, found[0].fold) == ("rows", "rep1-fold10") and len(found) == 4
    plan = make_plan(SweepOptions(data=[str(folds)], model="sssom"), tmp_path / "out", resume=False)
    trials = plan.trials_of(0, {})
    assert plan.num_trials == len(trials) == 4
    assert trials[0].key == "rows-rep1-fold10-1-s0-p0000" and trials[0].fold == "rep1-fold10"


def test_a_data_set_that_is_called_as_a_fold_of_another_has_trials_of_its_own(folds, tmp_path):
    like = shutil.copytree(folds / "rep1-fold2", tmp_path / "rows-rep1-fold2")
    for data in ([folds, like, like], [like, folds, like]):
        keys = [data.key for data in open_data_sets([str(place) for place in data])]
        assert len(set(keys)) == len(keys) == 6 and "rows-rep1-fold2" in keys
    twice = open_data_sets([str(folds / "rep1-fold2"), str(like), str(folds / "rep1-fold2")])
    assert [data.key for data in twice] == ["rep1-fold2", "rows-rep1-fold2", "rep1-fold2-2"], "as sweeps had them"


def test_what_cannot_be_folds(stacked, folds, tmp_path):
    for columns, sentence in (("rep,fild", "--folds must be columns of rows.parquet"), (" ", "--folds must be names")):
        with pytest.raises(UserError, match=sentence):
            prepare_folds("table", stacked, OPTIONS, columns, tmp_path / "o", PrepareOptions())
    with pytest.raises(UserError, match="--folds must be names of columns of a table"):
        prepare_folds("digits", None, SourceOptions(), "rep", tmp_path / "o", PrepareOptions())
    with pytest.raises(UserError, match="is a prepared data set"):
        prepare_folds("table", stacked, OPTIONS, "rep", folds / "rep1-fold2", PrepareOptions())
    with pytest.raises(UserError, match="or a folder of the same folds"):
        prepare_folds("table", stacked, OPTIONS, "rep", folds, PrepareOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="--data must be a prepared data set, or a folder of folds"):
        open_data_sets([str(tmp_path / "empty")])


def test_a_part_of_the_folds_is_not_taken_for_all(folds, tmp_path):
    shutil.copytree(folds, tmp_path / "part")
    shutil.copytree(folds / "rep1-fold2", tmp_path / "part" / "stranger")
    assert len(open_data_sets([str(tmp_path / "part")])) == 4
    shutil.rmtree(tmp_path / "part" / "rep2-fold10")
    with pytest.raises(UserError, match=r"must hold all 4 folds\. It lacks rep2-fold10"):
        open_data_sets([str(tmp_path / "part")])


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"a": [1, 2], "b": [3, 4], "y": [0, 1]}, "num_features of the folds in .* must be 1 as in one. Got 2"),
        ({"a": [1, 2, 3], "y": [0, 1, 2]}, "num_classes of the folds in .* must be 2 as in one. Got 3"),
    ],
)
def test_folds_of_different_features_or_classes_are_refused(tmp_path, columns, line):
    for name, held in (("one", {"a": [1, 2], "y": [0, 1]}), ("two", columns)):
        pd.DataFrame(held).to_parquet(tmp_path / f"{name}.parquet")
        options = SourceOptions(label_column="y", test_fraction=0.0)
        prepare(open_source("table", tmp_path / f"{name}.parquet", options), tmp_path / "folds" / name)
    with pytest.raises(UserError, match=f"^two: {line}"):
        open_data_sets([str(tmp_path / "folds")])


def test_folds_whose_directories_would_be_one_are_refused(tmp_path):
    rows = pd.DataFrame({"a": range(8), "y": [0, 1] * 4, "site": ["x y", "x/y"] * 4})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    options = SourceOptions(label_column="y", test_fraction=0.5)
    with pytest.raises(UserError, match="must differ in letters and digits. Got x y and x/y"):
        prepare_folds("table", tmp_path / "rows.csv", options, "site", tmp_path / "out", PrepareOptions())
    assert not (tmp_path / "out").exists()


def test_refused_folds_do_not_claim_their_folder(tmp_path):
    rows = pd.DataFrame({"a": [np.nan, *range(7)], "y": [0, 1] * 4, "site": ["x", "y"] * 4, "split": ["train"] * 8})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for columns, options, line in (
        ("site", replace(OPTIONS, label_column="z"), "--label-column"),
        ("y", replace(OPTIONS, label_column="site"), "missing value|NaN"),
    ):
        with pytest.raises(UserError, match=line):
            prepare_folds("table", tmp_path / "rows.csv", options, columns, tmp_path / "out", PrepareOptions())
        assert (tmp_path / "out").exists() is (columns == "y")
    made = prepare_folds(
        "table", tmp_path / "rows.csv", OPTIONS, "site", tmp_path / "out", PrepareOptions(drop_invalid=True)
    )
    assert list(made) == ["sitex", "sitey"]


@pytest.mark.parametrize(
    "values",
    [["x", "X"], ["Bonn, west", "Bonn, 'east'"], [True, False], [1.0, 2.5], ["a=b", 'a"c']],
    ids=["case", "comma", "truth", "number", "signs"],
)
def test_a_fold_has_the_rows_of_its_value_whatever_this_is(tmp_path, values):
    rows = pd.DataFrame({"a": np.arange(24.0), "y": [0, 1] * 12, "fold": np.repeat(values, 12)})
    rows.assign(split=(["test"] * 4 + ["train"] * 8) * 2).to_parquet(tmp_path / "rows.parquet")
    made = prepare_folds("table", tmp_path / "rows.parquet", OPTIONS, "fold", tmp_path / "folds", PrepareOptions())
    assert len(made) == 2
    assert all((m.splits["train"].num_samples, m.splits["test"].num_samples) == (8, 4) for m in made.values())


@pytest.mark.parametrize("where, left", [("flag=true", 3), ("flag=True", 3), ("name='b, c'", 2), ("name=A", 1)])
def test_where_takes_truth_values_values_with_commas_and_no_other_case(tmp_path, where, left):
    table = {"x": np.arange(6.0), "flag": [True, False] * 3, "name": ["a", "A", "b, c"] * 2, "y": [0] * 6}
    table["name"][4] = "other"
    pd.DataFrame(table).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame(table).to_parquet(tmp_path / "rows.parquet")
    for file in ("rows.csv", "rows.parquet"):
        options = SourceOptions(where=where, exclude_columns="flag,name,y", test_fraction=0.0)
        made = prepare(open_source("table", tmp_path / file, options), tmp_path / f"{file}.d")
        assert made.splits["train"].num_samples == left
