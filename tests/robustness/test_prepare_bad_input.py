"""Bad input to `jobs.prepare`: the right result, or one clear line and exit code 2, earlier outputs intact."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs._run import run
from jobs.prepare import app
from jobs.prepare import prepare as prepare_job
from pipeline.prepared.manifest import Manifest, verify
from pipeline.prepared.shards import Dataset
from tests.conftest import REPOSITORY
from tests.raw_files import write_idx, write_wav

GOOD = "x0,x1,y\n" + "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(20))


@pytest.fixture
def prepare(tmp_path, capsys, monkeypatch):
    """Run the command in this process: (exit code, last line of stdout, lines of stderr)."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["prepare", *map(str, arguments)])
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                run(app)
        finally:
            signal.signal(signal.SIGTERM, handler)
        out, err = capsys.readouterr()
        return ended.value.code, (out.splitlines() or [""])[-1], err.splitlines()

    return command


@pytest.fixture
def refused(prepare, tmp_path):
    """The one line that a command ends with; checks exit code 2 and that no output appeared."""

    def command(*arguments, out=None):
        code, _, lines = prepare(*arguments, "--out", out or tmp_path / "out")
        lines = [line for line in lines if not re.match(r"\d+ rows\b", line)]  # progress on a slow machine
        assert code == 2
        assert len(lines) == 1, lines
        if out is None:
            assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".*.new")), "a temporary directory was left"
        return lines[0]

    return command


@pytest.fixture
def table(tmp_path):
    """Write a csv table."""

    def write(text, name="t.csv"):
        (tmp_path / name).write_text(text)
        return "table", "--root", tmp_path / name, "--test-fraction", "0"

    return write


@pytest.mark.parametrize(
    ("value", "what"), [("nan", "NaN"), ("", "NaN"), ("inf", "infinite"), ("-inf", "infinite"), ("1e99", "infinite")]
)
def test_nan_and_infinities_name_row_and_column(refused, table, value, what):
    line = refused(*table(f"x0,x7\n1,2\n3,{value}\n5,6\n"))
    assert line.startswith(f"Shard 0 (t.csv): row 1 of column 'x7' is {what}. Clean it or pass --drop-invalid")


def test_invalid_rows_are_dropped_on_demand(prepare, table, tmp_path):
    arguments = table("x0,x7\n1,2\n3,nan\n5,inf\n7,8\n")
    code, last, _ = prepare(*arguments, "--out", tmp_path / "out", "--drop-invalid", "--json")
    report = json.loads(last)
    assert (code, report["dropped_count"], report["num_samples"]["train"]) == (0, 2, 2)
    assert Dataset.open(tmp_path / "out").read("train", [0, 1])[0].tolist() == [[0, 0], [1, 1]]


def test_rows_labels_and_classes_are_said(prepare, table, tmp_path):
    text = "x0,y\n" + "".join(f"{n},{label}\n" for n, label in enumerate(["yes", "Yes", "no", "", "no"]))
    assert prepare(*table(text), "--out", tmp_path / "out", "--label-column", "y")[1].endswith(
        "/out: 5 train rows (4 labelled), 0 test rows, shape 1 float32, 3 classes: Yes, no, yes"
    )
    many = "x0,y\n" + "".join(f"{n},{n // 2}\n" for n in range(24))
    assert prepare(*table(many), "--out", tmp_path / "many", "--label-column", "y")[1].endswith(
        "/many: 24 train rows (all labelled), 0 test rows, shape 1 float32, 12 classes: 0, 1, 2, 3, 4, 5, ..."
    )
    assert prepare(*table("x0\n1\n2\n"), "--out", tmp_path / "none")[1].endswith(
        "/none: 2 train rows (none labelled), 0 test rows, shape 1 float32, no classes"
    )


def test_lists_of_columns_go_by_comma_or_by_repeating_the_option(refused, prepare, table, tmp_path):
    arguments = table("id,income,age,y,part\n1,2,3,0,a\n2,3,5,1,a\n3,3,5,1,b\n")
    left_out = ("--exclude-columns", "id", "--exclude-columns", "income,y", "--where", "part=a", "--where", "y=1")
    assert prepare(*arguments, *left_out, "--out", tmp_path / "taken")[0] == 0
    manifest = Manifest.load(tmp_path / "taken")
    assert (manifest.feature_names, manifest.splits["train"].num_samples) == (("age",), 1)
    line = refused(*arguments, "--where", "y=0", "--where", "y=1", "--exclude-columns", "part")
    assert line == "--where must name each column once. Got 'y' twice in 'y=0,y=1'."


def test_keys_that_repeat_are_told(prepare, table, tmp_path):
    arguments = (*table("k,x\nb,1\na,2\na,3\n"), "--key-column", "k", "--out", tmp_path / "out")
    for _ in range(2):  # made, and found in place
        code, last, _ = prepare(*arguments)
        assert (code, last) == (0, "--key-column does not tell all rows apart: 'a' stands in more than one")
    code, last, _ = prepare(*table("k,x\nb,1\na,2\nc,3\n"), "--key-column", "k", "--out", tmp_path / "other")
    assert code == 0 and last.endswith("no classes")


def test_a_column_of_text_may_be_labels_keys_or_left_out(refused, table):
    arguments = table("id,x,y\nu1,1,yes\nu2,2,no\n")
    front = "Column 'id' must hold numbers to be a feature. It holds text, such as 'u1'. "
    back = " it out with --exclude-columns, or make numbers of it (docs/data.md, Values)."
    assert refused(*arguments) == f"{front}The same goes for 'y'. Name it --label-column or --key-column, leave{back}"
    assert refused(*arguments, "--label-column", "y") == f"{front}Name it --key-column, leave{back}"


def test_missing_values_are_kept_on_demand(prepare, table, tmp_path):
    assert prepare(*table("x0,x7\n1,2\n3,\n"), "--out", tmp_path / "out", "--missing", "mask")[0] == 0
    features, _ = Dataset.open(tmp_path / "out").read("train", [0, 1])
    assert np.array_equal(features.numpy(), [[0, 0], [1, np.nan]], equal_nan=True)


def test_if_every_row_is_invalid_nothing_is_written(refused, table):
    line = refused(*table("x0\nnan\ninf\n"), "--drop-invalid")
    assert line == "The train split must hold at least one row. Got every row was invalid and dropped."


@pytest.mark.parametrize(("number", "rest"), [(10, ""), (11, " and x10"), (13, ", 2 more and x12")])
def test_the_first_names_of_features_and_the_last_are_said(table, tmp_path, number, rest):
    columns = [f"x{d}" for d in range(number)]
    arguments = table("\n".join([",".join(columns), *(",".join(value * number) for value in "12")]))
    command = [sys.executable, "-m", "jobs.prepare", *map(str, arguments), "--out", str(tmp_path / "out")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
    assert said.splitlines()[0] == f"features: {', '.join(columns[:10])}{rest}"


def test_constant_columns_are_noted_and_read_as_zero(prepare, table, tmp_path):
    code, last, _ = prepare(*table("a,b\n5,1\n5,2\n"), "--out", tmp_path / "out")
    assert (code, last) == (
        0,
        "constant columns: a. They read as 0 and count as relevant to every node of a map with relevances: "
        "leave them out with --exclude-columns a",
    )
    assert Dataset.open(tmp_path / "out").read("train", [0, 1])[0].tolist() == [[0, 0], [0, 1]]


def test_many_constant_columns_are_some_and_how_many_more(prepare, refused, table, tmp_path):
    names = ["a,b", *(f"c{d}" for d in range(11))]
    head = ",".join(f'"{name}"' for name in names)
    arguments = table(f"{head},x\n" + "".join(f"{'5,' * 12}{n}\n" for n in range(3)))
    code, last, _ = prepare(*arguments, "--out", tmp_path / "a")
    assert code == 0 and last.startswith("constant columns: a,b, c0, ") and ", c8 and 2 more. They read" in last
    left_out = ("--exclude-columns", ",".join(names[3:]))
    line = refused(*arguments, "--exclude-columns", "a,b,c1", out=tmp_path / "b")
    assert "'a' matches none of: a,b, c0, " in line and line.endswith(" A comma parts names: write 'a?b'.")
    last = prepare(*arguments, *left_out, "--out", tmp_path / "b")[1]
    assert last.endswith("--exclude-columns 'a?b,c0,c1'")
    assert prepare(*arguments, *left_out, "--exclude-columns", "a?b,c0,c1", "--out", tmp_path / "c")[0] == 0
    assert Manifest.load(tmp_path / "c").feature_names == ("x",)


def test_names_with_line_breaks_are_said_in_one_line(table, tmp_path, capsys):
    text = '"size\r\n[mm], a","b*\t",x,y\n' + "".join(f'5,5,{n},"big\none"\n' for n in range(3))
    (tmp_path / "t.csv").write_bytes(text.encode())
    said = prepare_job("table", tmp_path / "out", root=tmp_path / "t.csv", label_column="y", test_fraction=0.0)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "features: size [mm], a, b*, x" and second.endswith("1 class: big one")
    assert said["class_names"] == ("big\none",)
    assert third.startswith("constant columns: size [mm], a, b*. ") and third.endswith(
        "--exclude-columns 'size???mm]? a,b*'"
    )
    prepare_job(
        "table", tmp_path / "b", root=tmp_path / "t.csv", label_column="y", exclude_columns=["size???mm]? a,b*"]
    )
    assert Manifest.load(tmp_path / "b").feature_names == ("x",)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (1_700_000_000 + np.arange(99), "t (range 98, steps of 128)"),
        (1.7e9 + np.arange(99), "t (range 98, steps of 128)"),
        (-(2**53) - np.arange(1000), "t (range 1000, steps of 1.074e+09: one value)"),
        (1e6 + np.arange(100) / 1000, "t (range 0.099, steps of 0.0625)"),
        (100_000 + np.arange(2), None),  # whole numbers that float32 holds
        (1e6 + np.arange(100), None),
        (2020.1 + np.arange(10), None),
        ((1.7e9 + np.arange(9)).astype(np.float32), None),  # not rounded here
        (np.full(9, 0.1), None),
    ],
)
def test_values_that_float32_makes_the_same_are_told(prepare, tmp_path, values, told):
    columns = {"t": values, "x": np.arange(len(values)), "part": ["train"] * len(values)}
    far = {"t": values[:1] * 0 + 5, "x": [0], "part": ["test"]}  # of another split: it is not seen
    table = pa.concat_tables([pa.table(columns), pa.table(far).cast(pa.table(columns).schema)])
    pq.write_table(table, tmp_path / "t.parquet")
    arguments = ("table", "--root", tmp_path / "t.parquet", "--split-column", "part", "--out", tmp_path / "out")
    code, last, _ = prepare(*arguments)
    line = f"columns whose values become the same in float32: {told}. Subtract their smallest value, "
    line += "take another unit, or leave them out with --exclude-columns t"
    assert code == 0 and (last == line if told else "float32:" not in last)
    assert prepare(*arguments)[1] == last, "also of a data set that is in place"


@pytest.mark.parametrize("share", ["0", "0.5"])
def test_one_sample_stays_in_training(prepare, table, tmp_path, share):
    arguments = table("x0,y\n3,a\n")[:-1]
    assert prepare(*arguments, share, "--out", tmp_path / "out", "--label-column", "y")[0] == 0
    dataset = Dataset.open(tmp_path / "out")
    assert (dataset.num_samples("train"), dataset.num_samples("test"), dataset.class_names) == (1, 0, ("a",))


def test_one_class(prepare, table, tmp_path):
    code, last, _ = prepare(*table("x0,y\n1,7\n2,7\n"), "--out", tmp_path / "out", "--label-column", "y", "--json")
    assert (code, json.loads(last)["class_names"]) == (0, ["7"])


@pytest.mark.parametrize("option", [(), ("--label-column", "y")], ids=["no-column", "all-missing"])
def test_no_labels_at_all(prepare, table, tmp_path, option):
    text = "x0,y\n1,\n2,\n3,\n" if option else "x0\n1\n2\n3\n"
    assert prepare(*table(text), *option, "--out", tmp_path / "out")[0] == 0
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.num_classes == 0
    assert dataset.labels("train").tolist() == [-1, -1, -1]


def test_labels_that_are_not_classes(refused, table):
    assert "must hold integers or names of classes. Got 0.5" in refused(
        *table("x0,y\n1,0.5\n2,1\n"), "--label-column", "y"
    )


def test_labels_out_of_range(refused, tmp_path, rng):
    write_idx(tmp_path, rng)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([200]))
    assert refused("mnist", "--root", tmp_path) == ("train-images-idx3-ubyte: row 11: label must be in 0..9. Got 200.")


def test_a_class_that_is_only_in_the_test_rows_is_known(prepare, table, tmp_path):
    arguments = table("x0,part,y\n1,train,a\n2,test,b\n")[:-2]
    code, _, _ = prepare(*arguments, "--out", tmp_path / "out", "--label-column", "y", "--split-column", "part")
    manifest = Manifest.load(tmp_path / "out")
    assert code == 0
    assert manifest.class_names == ("a", "b")
    assert manifest.splits["train"].class_histogram == (1, 0)


@pytest.mark.parametrize("text", ["", "x0,x1\n", "\n\n"])
def test_an_empty_table(refused, table, text):
    assert "t.csv" in (line := refused(*table(text)))
    assert "empty" in line


def test_an_empty_part_among_others_is_no_harm(prepare, tmp_path):
    (tmp_path / "parts").mkdir()
    full = pa.table({"x": [1.0, 2.0], "y": [0, 1]})
    for name, table in (("a", full.slice(0, 0)), ("b", full), ("c", full.slice(0, 0))):
        pq.write_table(table, tmp_path / "parts" / f"{name}.parquet")
    arguments = ("table", "--root", tmp_path / "parts", "--label-column", "y", "--test-fraction", "0")
    assert prepare(*arguments, "--out", tmp_path / "out")[0] == 0
    assert Dataset.open(tmp_path / "out").labels("train").tolist() == [0, 1]


@pytest.mark.parametrize("size", [3, 60, -40])
def test_a_truncated_parquet(refused, tmp_path, size):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": np.arange(1000.0)}), path)
    path.write_bytes(path.read_bytes()[:size])
    line = refused("table", "--root", path)
    assert line.startswith("t.parquet cannot be read, it is corrupt or truncated: ")


def test_a_parquet_with_flipped_bytes_inside(refused, tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"x": np.arange(20000.0)}), path, use_dictionary=False, write_page_checksum=True)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)  # a file with checksums; one without can only be noticed by Arrow's decoder
    path.write_bytes(content)
    line = refused("table", "--root", path)
    assert line.startswith("t.parquet cannot be read, it is corrupt or truncated: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x0,x1\n1,2\n3\n", "t.csv cannot be read, it is corrupt or truncated: CSV parse error: Row #3: Expected 2"),
        ("x0,x0\n1,2\n", "t.csv: names of columns must differ. 'x0' stands there twice."),
        ('"x0,x1\n1,2\n', "t.csv "),
        ("x0,x1\n1,two\n", "Column 'x1' must hold numbers to be a feature. It holds text, such as 'two'."),
        ("x0;x1\n1;2\n3;4,5\n", "Column 'x1' must hold numbers to be a feature. It holds text, such as '4,5'."),
        ("x0,x1\n1,2\n" * 1 + "3,4\n" * 300_000 + "5,two\n", "t.csv: column 'x1' must hold numbers. Got 'two'."),
    ],
    ids=["ragged", "twice", "open-quote", "text", "decimal-comma", "text-far-below"],
)
def test_a_csv_with_a_fault(refused, table, text, message):
    assert refused(*table(text)).startswith(message)


@pytest.mark.parametrize(("encoding", "name"), [("utf-16", "UTF-16"), ("latin-1", "another encoding")])
@pytest.mark.parametrize("text", ["größe,y\n1,2\n", "size,y\n1,süß\n2,klein\n"], ids=["header", "value"])
def test_a_csv_in_another_encoding_is_told(refused, table, tmp_path, encoding, name, text):
    arguments = table("")
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    line = refused(*arguments, "--label-column", "y")
    assert line.startswith(f"t.csv must be text in UTF-8. Got {name}. Save it as UTF-8, for instance by iconv -f ")


def test_truth_values_are_features_of_0_and_1(prepare, table, refused, tmp_path):
    assert prepare(*table("x,b\n1,True\n2,False\n3,true\n"), "--out", tmp_path / "truths")[0] == 0
    assert Dataset.open(tmp_path / "truths").read("train", [0, 1, 2])[0].tolist() == [[0, 1], [0.5, 0], [1, 1]]
    far = "x,b\n" + "1,True\n" * 300_000
    assert refused(*table(far + "1,maybe\n")).startswith("t.csv: column 'b' must hold numbers. Got 'maybe'.")


def test_a_table_that_may_be_meant_otherwise_is_taken_and_asked_about(prepare, table, tmp_path):
    rows = table("x,name\n" + "".join(f"{n},u{n}\n" for n in range(12)))
    code, last, _ = prepare(*rows, "--label-column", "name", "--out", tmp_path / "rows")
    assert (code, last) == (0, "12 of 12 classes have a single row: are these labels, or names of rows?")
    code, last, _ = prepare(*table("0.5,-.7\n1,2\n"), "--out", tmp_path / "header")
    assert code == 0 and last.endswith("if the file begins with a row of data, pass --no-header")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@relation t\n@attribute x numeric\n", "must hold '@data' after its attributes"),
        ("@relation t\n@attribute\n@data\n1\n", "line 2 must be '@attribute name type'"),
        ("@relation t\n@attribute x numeric\n@data\n{0 1}\n", "line 4 is sparse. Only dense arff is read."),
        ("@relation t\n@attribute x numeric\n@data\n1,2\n", "Expected 1 columns, got 2"),
        ("@relation t\n@attribute x numeric\n@data\n", "must hold at least one row"),
    ],
)
def test_an_arff_with_a_fault(refused, table, text, message):
    assert message in refused(*table(text, "t.arff"))


def test_wrong_image_sizes(refused, prepare, tmp_path, rng):
    from PIL import Image

    for name, size in (("a", (4, 4)), ("b", (5, 4))):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(tmp_path / "images" / name / "1.png")
    line = refused("images", "--root", tmp_path / "images")
    assert "b/1.png: image must be 4x4 pixels (height x width). Got '5x4 pixels'. Pass --size HEIGHTxWIDTH." in line
    assert "--size must be HEIGHTxWIDTH" in refused("images", "--root", tmp_path / "images", "--size", "big")
    assert prepare("images", "--root", tmp_path / "images", "--size", "4x4", "--out", tmp_path / "ok")[0] == 0


@pytest.fixture(params=["folder", "parquet"])
def pictures(request, tmp_path, rng):
    """Ten images in two classes, of which 0, 3 and 8 are cut off: arguments, and names of those."""
    from PIL import Image

    folder, rows = tmp_path / "pictures", []
    for number in range(10):
        path = folder / "ab"[number // 5] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(path)
        if number in (0, 3, 8):
            path.write_bytes(path.read_bytes()[:150])
        rows.append({"image": path.read_bytes(), "label": path.parent.name})
    if request.param == "folder":
        return ("images", "--root", folder), ["a/0.png", "a/3.png", "b/8.png"]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    return ("images", "--root", tmp_path / "p.parquet"), [f"Shard 0 (p.parquet): row {n}" for n in (0, 3, 8)]


def test_images_that_cannot_be_decoded_are_left_out_on_demand(refused, prepare, pictures, tmp_path):
    arguments, bad = pictures
    line = refused(*arguments)
    assert f"{bad[0]} cannot be decoded (" in line
    assert line.endswith("Clean it, or pass --drop-invalid to leave such images out.")
    for out in (tmp_path / "one", tmp_path / "two"):
        code, last, _ = prepare(*arguments, "--out", out, "--drop-invalid")
        assert (code, last) == (0, f"3 invalid rows left out: {', '.join(bad)}")
    manifest = Manifest.load(tmp_path / "one")
    assert manifest == Manifest.load(tmp_path / "two")
    assert (manifest.dropped_count, manifest.provenance["left_out"]) == (3, bad)
    verify(tmp_path / "one", manifest, hashes=True)
    dataset, found = Dataset.open(tmp_path / "one"), []
    for name, split in manifest.splits.items():
        keys = pq.read_table(tmp_path / "one" / name)["key"].to_pylist() if split.num_samples else []
        found += [int(str(key).removesuffix(".png")[-1]) for key in keys]
        assert dataset.read_raw(name, slice(0, 9)).shape == (split.num_samples, 3, 9, 9)
        assert sum(split.class_histogram) == len(keys)
    assert sorted(found) == [1, 2, 4, 5, 6, 7, 9]


def test_if_no_image_can_be_decoded_that_is_said(refused, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"no image")
    pq.write_table(pa.table({"image": [b"no image"]}), tmp_path / "p.parquet")
    for root, line in (("images", "a file that can"), ("p.parquet", "an image that can")):
        said = refused("images", "--root", tmp_path / root, "--drop-invalid")
        assert f" must hold {line} be decoded. " in said and "cannot be decoded (cannot identify image file" in said


def test_recordings_that_cannot_be_decoded_are_left_out_on_demand(refused, prepare, tmp_path, rng):
    for number in range(6):
        write_wav(tmp_path / "sounds" / "ab"[number // 3] / f"{number}.wav", rng.integers(-99, 99, 160))
    for number, content in (("a/0", b"RIFF"), ("a/2", None), ("b/4", b"")):
        path = tmp_path / "sounds" / f"{number}.wav"
        path.write_bytes(path.read_bytes()[:100] if content is None else content)
    arguments = ("audio", "--root", tmp_path / "sounds", "--duration", "0.02", "--test-fraction", "0")
    assert "a/0.wav is not a readable wav file" in (line := refused(*arguments))
    assert line.endswith("Clean it, or pass --drop-invalid to leave such files out.")
    code, last, _ = prepare(*arguments, "--out", tmp_path / "out", "--drop-invalid")
    assert (code, last) == (0, "3 invalid rows left out: a/0.wav, a/2.wav, b/4.wav")
    assert pq.read_table(tmp_path / "out" / "train")["key"].to_pylist() == ["a/1.wav", "b/3.wav", "b/5.wav"]


def test_a_16_bit_image_far_behind_others(refused, tmp_path, rng):
    """Batches hold a few images of this size, shards two: some are on disk when the last image is looked at."""
    from PIL import Image

    folder = tmp_path / "images" / "a"
    folder.mkdir(parents=True)
    for number in range(20):
        kind = np.uint16 if number == 19 else np.uint8
        pixels = rng.integers(0, np.iinfo(kind).max, (4, 4), dtype=kind)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    options = ("--size", "1000x1000", "--rows-per-shard", "2", "--test-fraction", "0")
    assert refused("images", "--root", tmp_path / "images", *options) == (
        f"{folder / '19.png'}: image must be 8-bit gray, RGB or palette (mode 1, L, LA, P, PA, RGB, RGBA). "
        "Got 'mode I;16'. Scale or convert it to 8-bit gray or RGB, or leave it out."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("digits", "--colour"), "No such option: --colour"),
        (("digits", "--test-fraction", "lots"), "Invalid value for '--test-fraction'"),
        (("digits", "--test-fraction", "1.5"), "--test-fraction must be in [0, 1). Got 1.5."),
        (("digits", "--seed", "-1"), "--seed must be an integer in [0, 2**31). Got -1."),
        (("images", "--size", "100000x100000"), "--size must be at most 67108864 pixels, such as 8192x8192. Got '100"),
        (("digits", "--where", "a=1"), "--where does not apply to the source 'digits'"),
        (("digits", "--missing", "zero"), "--missing must be error or mask. Got 'zero'."),
        (("imagenet",), "SOURCE must be one of digits, mnist,"),
        ((), "Missing argument"),
        (("mnist",), "--root must be given for the source 'mnist'"),
        (("mnist", "--root", "/nowhere"), "--root must be an existing file or folder. Got /nowhere."),
        (("table", "--root", "/nowhere.csv"), "--root must be an existing file or folder."),
    ],
)
def test_unknown_and_wrong_options(refused, arguments, message):
    assert message in refused(*arguments)


def test_tables_in_subfolders_are_counted_or_named(refused, prepare, tmp_path):
    root = tmp_path / "raw"
    for name in ("train/a.csv", "test/b.csv.gz", "test/.c.csv", "_old/d.csv", "test/other.parquet"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(GOOD)
    line = refused("table", "--root", root)
    assert "Got no table in " in line and "Subfolders are not read (test/b.csv.gz, test/other.parquet, " in line
    assert "give one of them as --root" in line
    (root / "all.csv").write_text(GOOD)
    for more in (), ("--folds", "y"):
        out = tmp_path / f"out{len(more)}"
        code, last, _ = prepare("table", "--root", root, "--out", out, *more, "--json")
        said = json.loads(last)
        assert code == 0 and (said["folds"] if more else [said])[0]["not_read"] == {".csv": 2}
    assert prepare("table", "--root", root, "--out", tmp_path / "out0")[1] == "2 files in subfolders not read: 2 .csv"


def test_unwritable_outputs(refused, table, tmp_path):
    (tmp_path / "file").write_text("precious")
    arguments = table(GOOD)
    assert "--out must be a directory" in refused(*arguments, out=tmp_path / "file")
    below = refused(*arguments, out=tmp_path / "file" / "below")
    assert below.startswith("--out must be a writable place.")
    assert "--out must be a writable place." in refused(*arguments, out="/proc/somgrad")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "link' is a link to something that is not there." in refused(*arguments, out=tmp_path / "link" / "below")
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_is_said_with_what_is_written(refused, tmp_path, rng):
    write_idx(tmp_path / "packed", rng, packed=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard))
    try:
        assert refused("digits").endswith(f"'{tmp_path / 'out'}': File too large.")
        assert refused("mnist", "--root", tmp_path / "packed").endswith("/train-images-idx3-ubyte': File too large.")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_output_of_something_else_is_kept(refused, prepare, table, tmp_path):
    out = tmp_path / "out"
    assert prepare(*table(GOOD), "--out", out, "--label-column", "y")[0] == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert "holds another data set (source 'table'" in refused("digits", out=out)
    assert "holds another data set" in refused(*table(GOOD), out=out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert prepare(*table(GOOD), "--out", out, "--label-column", "y")[0] == 0, "the same again is fine"
    run_directory = tmp_path / "run"
    run_directory.mkdir()
    (run_directory / "checkpoint").write_text("x")
    assert "must be new, empty or a prepared data set" in refused("digits", "--overwrite", out=run_directory)
    assert (run_directory / "checkpoint").read_text() == "x"


def test_a_run_inside_a_data_set_is_not_deleted_with_it(refused, prepare, table, tmp_path):
    arguments, out = table("x0,y\n1,0\n2,1\n"), tmp_path / "data"
    assert prepare(*arguments, "--out", out)[0] == 0
    (out / ".cache").mkdir()
    (out / ".cache" / "0.rows").write_bytes(b"rows")
    (out / "train" / "runs").mkdir()
    (out / "train" / "runs" / "map.safetensors").write_bytes(b"precious")
    for manifest in ((out / "manifest.json").read_text(), "{}"):  # a damaged one protects no less
        (out / "manifest.json").write_text(manifest)
        line = refused(*arguments, "--label-column", "y", "--overwrite", out=out)
        assert line.startswith("--out must hold a prepared data set and nothing else to be replaced. Got ")
        assert "which also holds 'train/runs/map.safetensors'. Move that elsewhere" in line
    assert (out / "train" / "runs" / "map.safetensors").read_bytes() == b"precious"
    (out / "train" / "runs" / "map.safetensors").unlink()
    (out / "elsewhere").symlink_to(tmp_path)
    assert "also holds 'elsewhere'" in refused(*arguments, "--label-column", "y", "--overwrite", out=out)
    (out / "elsewhere").unlink()
    assert prepare(*arguments, "--label-column", "y", "--overwrite", "--out", out)[0] == 0


def test_a_failed_overwrite_keeps_the_earlier_data_set(refused, prepare, table, tmp_path):
    out = tmp_path / "out"
    assert prepare(*table(GOOD), "--out", out, "--label-column", "y")[0] == 0
    before = Manifest.load(out)
    far_below = "x0,x1,y\n" + "1,2,3\n" * 50_000 + "1,nan,3\n"
    assert "row 50000 of column 'x1' is NaN" in refused(
        *table(far_below), "--label-column", "y", "--overwrite", out=out
    )
    assert Manifest.load(out) == before
    verify(out, before, hashes=True)


def test_a_damaged_data_set_is_made_again_only_on_demand(refused, prepare, table, tmp_path):
    out = tmp_path / "out"
    arguments = (*table(GOOD), "--label-column", "y")
    prepare(*arguments, "--out", out)
    part = out / "train" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-5])
    assert "--out holds a damaged data set: train/part-00000.parquet must have" in refused(*arguments, out=out)
    assert prepare(*arguments, "--out", out, "--overwrite")[0] == 0
    verify(out, Manifest.load(out), hashes=True)


KILLED = """
import os, signal, sys
import pipeline.prepare as module
from pipeline.sources import SourceOptions, open_source

at, out, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
plain = os.replace

def replace(source, target):
    if at == "rename" and str(source).endswith(".new"):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(source, target)

def told(rows):
    if at == "wait":
        print("writing", flush=True)
        sys.stdin.read()
    if at == "batch":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
options = module.PrepareOptions(overwrite=True)
module.prepare(open_source("digits", None, SourceOptions(seed=seed)), out, options, told)
"""


def _preparing(at, out, seed=0):
    """Another process that prepares the digits and kills itself, or waits, amid it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", KILLED, at, str(out), str(seed)], cwd=REPOSITORY, **pipes)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_preparation_left_is_removed_by_the_next(prepare, tmp_path, monkeypatch):
    process = _preparing("batch", tmp_path / "out")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    left = _names(tmp_path)
    assert [name.rsplit(".", 1)[1] for name in left] == ["lock", "new"]
    monkeypatch.setattr(os, "getpid", lambda: process.pid)  # as in a container, whose first process is always 1
    other = tmp_path / f".other{left[0].removeprefix('.out')}"
    other.touch()
    (tmp_path / f".out.{process.pid}.new").mkdir()
    assert prepare("digits", "--out", tmp_path / "out")[0] == 0
    assert _names(tmp_path) == sorted([f".out.{process.pid}.new", other.name, "out"]), "others' files stay"


def test_a_living_preparation_keeps_what_it_writes(prepare, tmp_path):
    process = _preparing("wait", tmp_path / "out")
    assert process.stdout.readline() == "writing\n"
    before = _names(tmp_path)
    assert len(before) == 2
    assert prepare("digits", "--out", tmp_path / "out", "--seed", "1")[0] == 0
    assert _names(tmp_path) == [*before, "out"]
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert _names(tmp_path) == ["out"]
    assert Manifest.load(tmp_path / "out").source["options"] == {}


def test_an_earlier_data_set_comes_back_after_a_kill_between_the_renames(prepare, tmp_path):
    out = tmp_path / "out"
    assert prepare("digits", "--out", out)[0] == 0
    before = Manifest.load(out)
    process = _preparing("rename", out, seed=1)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [name.rsplit(".", 1)[1] for name in _names(tmp_path)] == ["lock", "new", "old"]
    code, _, lines = prepare("digits", "--out", out, "--seed", "2")
    assert (code, "--out holds another data set" in lines[0]) == (2, True)
    assert _names(tmp_path) == ["out"]
    assert Manifest.load(out) == before
    verify(out, before, hashes=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_preparation_leaves_nothing(tmp_path, number):
    """The signal comes when the first shard is being written and many are to come."""
    source = tmp_path / "t.parquet"
    pq.write_table(pa.table({f"x{i}": np.random.default_rng(i).random(400_000) for i in range(16)}), source)
    command = [sys.executable, "-m", "jobs.prepare", "table", "--root", source, "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".out.*.new/train/*.parquet")):
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "Interrupted."
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.parquet"]


def test_a_fault_of_ours_is_one_line_and_exit_code_1(prepare, tmp_path, monkeypatch):
    import pipeline.sources

    def broken(*arguments):
        return {}["absent"]

    monkeypatch.setattr(pipeline.sources, "open_source", broken)
    code, _, lines = prepare("digits", "--out", tmp_path / "out")
    assert (code, lines) == (1, ["KeyError: 'absent' (--debug shows where)"])
    code, _, lines = prepare("digits", "--out", tmp_path / "out", "--debug")
    assert (code, lines[0]) == (1, "Traceback (most recent call last):")
    assert len(lines) > 3
