"""Tables: csv, arff, parquet; labels, splits, filters; bounded memory."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError, UserError
from pipeline.sources import SourceOptions, open_source, readers
from tests.conftest import real_data
from tests.raw_files import collect
from tests.training import REPOSITORY

ARFF = """% note
@relation t
@attribute a numeric
@attribute 'b' REAL
@ATTRIBUTE kind {cat, dog}

@data
1, 0.5, cat
% a comment
2,?,'dog'

3,1.5,?
4,2.5,"cat"
"""
CSV = "a,b,kind\n1,0.5,cat\n2,,dog\n3,1.5,\n4,2.5,cat\n"


def _table(path, **options):
    return open_source("table", path, SourceOptions(**{"test_fraction": 0.0, **options}))


def _write(path, text):
    path.write_text(text)
    return path


def test_csv_with_names_of_classes_and_missing_values(tmp_path):
    source = _table(_write(tmp_path / "t.csv", CSV), label_column="kind")
    features, labels, keys = collect(source)["train"]
    assert source.spec.class_names == ("cat", "dog")
    assert source.spec.feature_names == ("a", "b")
    assert features.dtype == np.float32
    assert np.array_equal(features, np.array([[1, 0.5], [2, np.nan], [3, 1.5], [4, 2.5]], np.float32), equal_nan=True)
    assert labels.tolist() == [0, 1, -1, 0]
    assert keys.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("t.tsv", CSV.replace(",", "\t"), {}),
        ("t.csv", CSV.replace(",", ";"), {}),
        ("t.csv", CSV.replace("\n", "\r\n"), {}),
        ("t.csv", "\ufeff" + CSV, {}),
        ("t.csv", "\n\r\n" + CSV, {}),
        ("t.data", CSV.split("\n", 1)[1], {"header": False, "label_column": "x2"}),
        ("t.arff", ARFF, {}),
    ],
    ids=["tab", "semicolon", "windows", "byte-order-mark", "empty-lines", "no-header", "arff"],
)
def test_the_same_table_in_other_clothes(tmp_path, name, text, options):
    wanted = collect(_table(_write(tmp_path / "wanted.csv", CSV), label_column="kind"))["train"]
    got = collect(_table(_write(tmp_path / name, text), **{"label_column": "kind", **options}))["train"]
    assert np.array_equal(wanted[0], got[0], equal_nan=True)
    assert wanted[1].tolist() == got[1].tolist()


@pytest.mark.parametrize("header", ['"a\n(mm)","b, or\n\n""c""",kind', '"a\n(mm)";b;kind', 'a 5" pipe,b,kind'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_breaks_and_quotes_in_the_names_of_columns(tmp_path, header, end):
    delimiter = ";" if ";" in header else ","
    text = "\n".join([header, *CSV.replace(",", delimiter).splitlines()[1:], ""]).replace("\n", end)
    (tmp_path / "t.csv").write_bytes(text.encode())
    source = _table(tmp_path / "t.csv", label_column="kind")
    assert source.spec.feature_names[0] == ('a 5" pipe' if "pipe" in header else f"a{end}(mm)")
    features, labels, _ = collect(source)["train"]
    assert features[:, 0].tolist() == [1, 2, 3, 4]
    assert labels.tolist() == [0, 1, -1, 0]


def test_line_breaks_in_quotes_far_below_the_first_block(tmp_path, monkeypatch):
    """A line of such a value may look like a row of the table, or like half of one."""
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1024)
    notes = ['"7,7,b\n7,8,a"', '"and\n\nso ""on"""', '"x, y"'] * 300
    rows = [f"{number},{note},{'ab'[number % 2]}" for number, note in enumerate(notes)]
    _write(tmp_path / "t.csv", "\n".join(["x,note,y", *rows, ""]))
    features, labels, _ = collect(_table(tmp_path / "t.csv", label_column="y", exclude_columns="note"))["train"]
    assert features[:, 0].tolist() == list(range(900))
    assert labels.tolist() == [0, 1] * 450


def test_the_end_of_a_lone_quote_in_the_first_line_is_not_looked_for_in_the_whole_file(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1024)
    _write(tmp_path / "t.csv", 'a 5" pipe,b\n' + "1,2\n" * 1000)
    assert 1024 <= len("".join(readers._first_lines(tmp_path / "t.csv"))) < 1024 + 4


def test_a_separator_in_quotes_is_none(tmp_path):
    _write(tmp_path / "t.csv", '"a, b, c, d";x\n1;2\n')
    assert _table(tmp_path / "t.csv").spec.feature_names == ("a, b, c, d", "x")
    _write(tmp_path / "t.csv", "a b c\n1 2 3\n")
    with pytest.raises(UserError, match="The columns are: a b c. Pass --delimiter if these are several."):
        _table(tmp_path / "t.csv", label_column="c")


def test_the_separator_of_thousands_of_columns_is_found(tmp_path):
    names = [f"measurement{place:05d}" for place in range(9000)]  # more text than the csv module takes for one cell
    _write(tmp_path / "t.csv", "\n".join([";".join(names), *[";".join(["1"] * 9000)] * 2, ""]))
    assert _table(tmp_path / "t.csv").spec.feature_names == tuple(names)


@pytest.mark.parametrize("delimiter", ["\\t", ";;", "", "\u00e9", '"', "\n"])
def test_a_delimiter_that_is_none_is_refused(tmp_path, delimiter):
    with pytest.raises(UserError, match="--delimiter must be one ASCII character, such as ';' or, for a tab, "):
        _table(_write(tmp_path / "t.csv", CSV), delimiter=delimiter)


def test_blanks_around_the_names_of_columns(tmp_path):
    _write(tmp_path / "t.csv", "x, y, k, kind\n1, 2, u, cat\n3, 4, v, dog\n5, 6, w, cat\n")
    source = _table(tmp_path / "t.csv", label_column="kind", key_column="k", exclude_columns="y", where="kind=cat")
    features, labels, keys = collect(source)["train"]
    assert (features.tolist(), labels.tolist(), [key.strip() for key in keys]) == ([[1], [5]], [0, 0], ["u", "w"])
    assert _table(tmp_path / "t.csv", feature_columns="x,y").spec.feature_names == ("x", " y")


def test_quotes_and_comments_of_arff(tmp_path):
    head = "@relation t\n@attribute 'a b' numeric\n@attribute kind{x,'it\\'s',\"q r\"} % of it\n@DATA  % below\n"
    rows = "1,x % note\n% all\n3, 'it\\'s' \n4,\"it's\"\n5,\"q r\"\n6,'50 %, x'\n7,50%\n"
    (tmp_path / "t.arff.gz").write_bytes(gzip.compress((head + rows).encode()))
    for path in (_write(tmp_path / "t.arff", head + rows), tmp_path / "t.arff.gz"):
        source = _table(path, label_column="kind")
        features, labels, _ = collect(source)["train"]
        assert (source.spec.feature_names, features[:, 0].tolist()) == (("a b",), [1, 3, 4, 5, 6, 7])
        assert [source.spec.class_names[code] for code in labels] == ["x", "it's", "it's", "q r", "50 %, x", "50%"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_named_as_splits_are_these(tmp_path, form):
    for name, values in (("train", [1.0, 2.0]), ("test-a", [3.0]), ("test-b", [4.0]), ("valid", [5.0])):
        table, path = pa.table({"x": values}), tmp_path / f"{name}.{form}"
        pq.write_table(table, path) if form == "parquet" else pyarrow.csv.write_csv(table, path)
    found = {split: rows[0][:, 0].tolist() for split, rows in collect(_table(tmp_path, test_fraction=None)).items()}
    assert found == {"train": [1, 2], "test": [3, 4], "validation": [5]}
    assert len(collect(_table(tmp_path))["train"][0]) == 5, "--test-fraction is of all files"
    (tmp_path / f"valid.{form}").rename(tmp_path / f"more.{form}")
    with pytest.raises(
        DataError, match=rf"Files beside train.{form} must be called as a split too .* Got 'more.{form}'"
    ):
        _table(tmp_path, test_fraction=None)
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in range(2):
        (tmp_path / f"test-{'ab'[number]}.{form}").rename(parts / f"train-{number}.{form}")
    assert len(collect(_table(parts, test_fraction=0.5))["test"][0]) == 1
    assert _table(parts, test_fraction=None)._is_test is not None, "parts of one table, which has no split"


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (pa.list_(pa.int64()), "Label column 'y' must hold integers or names of classes. Got list<"),
        (pa.float16(), None),
    ],
)
def test_labels_of_types_that_arrow_makes_no_dictionary_of(tmp_path, kind, message):
    values = np.array([2, 3, 2], np.float16) if message is None else [[2], [3], [2]]
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": pa.array(values, kind)}), tmp_path / "t.parquet")
    if message is None:
        source = _table(tmp_path / "t.parquet", label_column="y")
        assert (source.spec.class_names, collect(source)["train"][1].tolist()) == (("2", "3"), [0, 1, 0])
    else:
        with pytest.raises(DataError, match=message):
            _table(tmp_path / "t.parquet", label_column="y")


def test_what_a_column_holds_is_told_by_its_type(tmp_path):
    times = pa.array([0, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"x": [1.0, 2.0], "t": times, "gap": pa.nulls(2)}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"Column 't' must hold numbers to be a feature. It holds timestamp\[us\]."):
        _table(tmp_path / "t.parquet")
    features = collect(_table(tmp_path / "t.parquet", exclude_columns="t"))["train"][0]
    assert np.array_equal(features, [[1, np.nan], [2, np.nan]], equal_nan=True), "as an empty column of a csv"


@pytest.mark.parametrize("word", readers.NULLS)
def test_words_for_a_missing_label_are_those_of_the_page(tmp_path, word):
    """In parquet they are classes, but for an empty text and a question mark."""
    assert not word or f"`{word}`" in (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    rows = pa.table({"x": [1.0, 2.0, 3.0], "y": ["DE", word, "US"]})
    pa.csv.write_csv(rows, tmp_path / "t.csv")  # in quotes
    pq.write_table(rows, tmp_path / "t.parquet")
    csv, parquet = (_table(tmp_path / name, label_column="y").spec.class_names for name in ("t.csv", "t.parquet"))
    assert csv == ("DE", "US") and (word in parquet) is (word not in ("", "?"))


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_both_zeros_are_one_class(tmp_path, name):
    write = pq.write_table if name.endswith("parquet") else pyarrow.csv.write_csv
    write(pa.table({"x": [1.0, 2.0, 3.0, 4.0], "y": [0.0, -0.0, 1.0, -0.0]}), tmp_path / name)
    source = _table(tmp_path / name, label_column="y")
    assert collect(source)["train"][1].tolist() == [0, 0, 1, 0] and source.spec.class_names == ("0", "1")


@pytest.mark.parametrize(
    ("values", "labelled"),
    [
        ([True, False, None], [0, -1, -1]),
        ([1.0, 0.0, float("nan")], [0, -1, -1]),
        (["Yes", "no", ""], [0, -1, -1]),
        (["maybe", "x", "x"], "maybe"),
        ([1, 2, 3], "2"),
    ],
)
def test_a_column_that_says_what_is_labelled_holds_truth_values(tmp_path, values, labelled):
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": [5, 5, 5], "known": values}), tmp_path / "t.parquet")
    source = _table(tmp_path / "t.parquet", label_column="y", labelled_column="known")
    if isinstance(labelled, list):
        assert collect(source)["train"][1].tolist() == labelled
    else:
        with pytest.raises(UserError, match=f"--labelled-column must be a column of truth values .* Got '{labelled}'"):
            collect(source)


def test_keys_that_int64_does_not_hold_are_refused(tmp_path):
    for first in (7, 2**63 - 1):
        keys = pa.array([first, first + 1], pa.uint64())
        pq.write_table(pa.table({"x": [1.0, 2.0], "k": keys}), tmp_path / "t.parquet")
        source = _table(tmp_path / "t.parquet", key_column="k")
        if first == 7:
            assert collect(source)["train"][2].tolist() == [7, 8]
        else:
            with pytest.raises(UserError, match=f"key must be below 2\\^63. Got {2**63}. Make text of the column."):
                collect(source)


def test_a_packed_csv_and_a_folder_of_parts(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    (tmp_path / "parts" / "b.csv").write_text(CSV)
    for name in (".c.csv", "_d.csv"):
        (tmp_path / "parts" / name).write_text("of another program")
    (tmp_path / "parts" / "e.csv").mkdir()
    features, labels, keys = collect(_table(tmp_path / "parts", label_column="kind"))["train"]
    assert features[:, 0].tolist() == [1, 2, 3, 4, 1, 2, 3, 4]
    assert labels.tolist() == [0, 1, -1, 0] * 2
    assert keys.tolist() == list(range(8)), "keys are unique over the files"


@pytest.mark.parametrize(
    ("values", "unlabelled", "names", "codes"),
    [
        ([3, 10, 2], None, ("2", "3", "10"), [1, 2, 0]),
        ([3.0, 10.0, 2.0], None, ("2", "3", "10"), [1, 2, 0]),
        ([0, -1, 1], None, ("0", "1"), [0, -1, 1]),
        ([-5, -1, 7], "none", ("-5", "-1", "7"), [0, 1, 2]),
        ([0, 99, 1], "99", ("0", "1"), [0, -1, 1]),
        ([-1, 1, 1], "-1", ("1",), [-1, 0, 0]),
        ([-1, 1, 1], "none", ("-1", "1"), [0, 1, 1]),
        (["b", None, "a"], None, ("a", "b"), [1, -1, 0]),
        ([True, False, True], None, ("False", "True"), [1, 0, 1]),
    ],
)
def test_labels_of_any_kind_become_codes(tmp_path, values, unlabelled, names, codes):
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": values}), tmp_path / "t.parquet")
    source = _table(tmp_path / "t.parquet", label_column="y", unlabelled_value=unlabelled)
    assert source.spec.class_names == names
    assert collect(source)["train"][1].tolist() == codes


def test_a_value_for_unlabelled_that_is_no_label_is_refused(tmp_path):
    _write(tmp_path / "t.csv", "x,y,part\n1,no,a\n2,unknown,b\n3,,a\n4,yes,a\n")
    line = r"Label column 'y': --unlabelled-value must be a label that is there \(no, unknown, yes\). Got 'Unknown'."
    with pytest.raises(UserError, match=line):
        _table(tmp_path / "t.csv", label_column="y", unlabelled_value="Unknown", exclude_columns="part")
    with pytest.raises(UserError, match="--unlabelled-value must come with --label-column"):
        _table(tmp_path / "t.csv", unlabelled_value="unknown", exclude_columns="y,part")
    for value in ("unknown", "NA", "none"):  # NA is read as a missing value
        _table(tmp_path / "t.csv", label_column="y", unlabelled_value=value, exclude_columns="part")
    rest = _table(tmp_path / "t.csv", label_column="y", unlabelled_value="unknown", where="part=a")
    assert rest.spec.class_names == ("no", "yes"), "the rows that --where leaves out have it"
    with pytest.raises(UserError, match="Got 'Unknown'"):
        _table(tmp_path / "t.csv", label_column="y", unlabelled_value="Unknown", where="part=a")


def test_minus_one_beside_a_single_class_is_asked_about(tmp_path):
    _write(tmp_path / "t.csv", "x,y\n1,-1\n2,1\n")
    with pytest.raises(DataError, match="is -1 a class or unlabelled\\? Pass --unlabelled-value none"):
        _table(tmp_path / "t.csv", label_column="y")


def test_labels_that_are_measurements_are_refused(tmp_path):
    _write(tmp_path / "t.csv", "x,y\n1,0.25\n2,1\n")
    with pytest.raises(DataError, match="Label column 'y' must hold integers or names of classes. Got 0.25"):
        _table(tmp_path / "t.csv", label_column="y")


def test_splits_come_from_a_column(tmp_path):
    _write(tmp_path / "t.csv", "x,part\n1,training\n2,Test\n3,val\n4,train\n")
    data = collect(_table(tmp_path / "t.csv", split_column="part", test_fraction=None))
    assert {split: rows[0][:, 0].tolist() for split, rows in data.items()} == {
        "train": [1, 4],
        "test": [2],
        "validation": [3],
    }


def test_a_seeded_split_is_stratified_and_keeps_unlabelled_rows_in_training(tmp_path):
    labels = ["a"] * 50 + ["b"] * 10 + [None] * 7 + ["c"]
    pq.write_table(pa.table({"x": np.arange(68.0), "y": labels}), tmp_path / "t.parquet")
    data = collect(_table(tmp_path / "t.parquet", label_column="y", test_fraction=0.2))
    assert np.bincount(data["test"][1]).tolist() == [10, 2]
    assert (data["train"][1] == -1).sum() == 7
    assert sorted(np.concatenate([data["train"][2], data["test"][2]]).tolist()) == list(range(68))


def test_two_ways_to_split_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match="exclude each other"):
        _table(_write(tmp_path / "t.csv", CSV), split_column="kind", test_fraction=0.5)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_filters_choose_rows_and_keep_their_numbers(tmp_path, form):
    table = pa.table({"rep": [1, 1, 2, 2], "part": ["a", "b", "a", "b"], "x": [1.0, 2.0, 3.0, 4.0]})
    path = tmp_path / f"t.{form}"
    pq.write_table(table, path) if form == "parquet" else pyarrow.csv.write_csv(table, path)
    source = _table(path, where="rep=2, part=b")
    assert source.spec.feature_names == ("x",), "columns of the filter are no features"
    features, _, keys = collect(source)["train"]
    assert features.tolist() == [[4.0]]
    assert keys.tolist() == [3]
    with pytest.raises(DataError, match="'rep=9' leaves none: rep has 1, 2"):
        _table(path, where="rep=9", feature_columns="x")
    with pytest.raises(UserError, match="--where must be a column of the table. Got 'fold'"):
        _table(path, where="fold=1", feature_columns="x")


def test_columns_are_chosen_by_pattern_and_keys_by_name(tmp_path):
    _write(tmp_path / "t.csv", "id,x1,x2,note,z\nr1,1,2,hello,3\nr2,4,5,bye,6\n")
    source = _table(tmp_path / "t.csv", key_column="id", feature_columns="x*,z", exclude_columns="x2")
    assert source.spec.feature_names == ("x1", "z")
    assert collect(source)["train"][2].tolist() == ["r1", "r2"]
    with pytest.raises(
        DataError, match=r"Column 'id' must .* holds text, such as 'r1'\. The same goes for 'note'\. Name"
    ):
        _table(tmp_path / "t.csv")
    with pytest.raises(UserError, match="'q\\*' matches none of: id, x1"):
        _table(tmp_path / "t.csv", feature_columns="q*")
    with pytest.raises(UserError, match="--label-column must be a column of the table. Got 'class'"):
        _table(tmp_path / "t.csv", label_column="class")


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_the_index_of_a_pandas_table_is_no_feature(tmp_path, name):
    """In a table that is sorted by class it would tell the class."""
    _write(tmp_path / "t.csv", f"{name},x1,y\n0,1.5,a\n1,2.5,a\n2,7.5,b\n")
    assert _table(tmp_path / "t.csv", label_column="y").spec.feature_names == ("x1",)
    source = _table(tmp_path / "t.csv", label_column="y", key_column=name)
    assert sorted(str(key) for _, _, keys in collect(source).values() for key in keys) == ["0", "1", "2"]
    if name:
        asked = _table(tmp_path / "t.csv", label_column="y", feature_columns=f"x1,{name}")
        assert asked.spec.feature_names == (name, "x1")


def test_batches_do_not_depend_on_how_arrow_cuts_the_file(tmp_path, rng):
    values = rng.normal(size=(5000, 3)).astype(np.float32)
    table = pa.table({f"x{i}": values[:, i] for i in range(3)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    assert (collect(_table(tmp_path / "a.parquet"))["train"][0] == values).all()


def test_rows_wider_than_a_block(tmp_path, rng, monkeypatch):
    monkeypatch.setattr("pipeline.sources.readers.BLOCK_BYTES", 1024)
    values = rng.random((2, 600))
    header = ",".join(f"x{i}" for i in range(600))
    lines = [",".join(map(repr, row)) for row in values.tolist()]
    assert len(lines[0]) > 1024
    _write(tmp_path / "t.csv", "\n".join([header, *lines]))
    assert (collect(_table(tmp_path / "t.csv"))["train"][0] == values.astype(np.float32)).all()


def test_a_table_larger_than_the_allowance_is_streamed(tmp_path, rng, monkeypatch):
    """Reading 46 MiB of parquet, 18 MiB from csv, holds only what Arrow reads ahead: 32 blocks of a text file."""
    monkeypatch.setattr(readers, "BLOCK_BYTES", 128 << 10)
    values = rng.random((1_500_000, 8), dtype=np.float32)
    table = pa.table({f"x{i}": values[:, i] for i in range(8)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=50_000)
    pyarrow.csv.write_csv(table.slice(0, 600_000), tmp_path / "t.csv")
    del table
    for name, rows in (("t.parquet", 1_500_000), ("t.csv", 600_000)):
        start = pa.total_allocated_bytes()
        seen, peak = 0, 0
        for batch in _table(tmp_path / name).batches():
            assert np.array_equal(batch.features[0], values[seen])
            seen += len(batch.rows)
            peak = max(peak, pa.total_allocated_bytes() - start)
        assert seen == rows
        assert peak < 12 << 20, (name, peak)


@pytest.mark.data
def test_the_real_uci_tables_are_filtered_to_one_fold():
    path = real_data("uci/glass.parquet")
    options = {"label_column": "y", "split_column": "split", "test_fraction": None, "feature_columns": "x*"}
    source = _table(path, where="rep=1,fold=2", labelled_column="labelled_s10", **options)
    data = collect(source)
    frame = pq.read_table(path).to_pandas().query("rep == 1 and fold == 2")
    for split in ("train", "test"):
        rows = frame[frame.split == split]
        assert np.array_equal(data[split][0], rows[[f"x{i}" for i in range(9)]].to_numpy().astype(np.float32))
        known = rows.y if split == "test" else rows.y.where(rows.labelled_s10.astype(bool), -1)
        assert data[split][1].tolist() == known.tolist()
    assert len(data["train"][0]) + len(data["test"][0]) == 214
    with pytest.raises(DataError, match="rep has 1, 2, 3; fold has"):
        _table(path, where="rep=0,fold=0", **options)
