"""The prepared data set: what is written, how it is described, when it is written again."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.errors import DataError, ManifestError, OutputError, UserError
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared import writer
from pipeline.prepared.manifest import MANIFEST, Manifest, ShardFile, Split, sha256_file, verify
from pipeline.sources import SourceOptions, open_source


def _table(path, columns, **options):
    pq.write_table(pa.table(columns), path)
    return open_source("table", path, SourceOptions(**{"test_fraction": 0.0, **options}))


def test_the_manifest_describes_the_files_exactly(tmp_path):
    manifest = prepare(open_source("digits"), tmp_path / "d", PrepareOptions(rows_per_shard=479))
    assert Manifest.load(tmp_path / "d") == manifest
    assert (manifest.kind, manifest.shape, manifest.dtype, manifest.num_classes) == ("image", (1, 8, 8), "uint8", 10)
    for name, split in manifest.splits.items():
        paths = [f"{name}/part-{i:05d}.parquet" for i in range(len(split.files))]
        assert [file.path for file in split.files] == paths
        labels = []
        for file in split.files:
            path = tmp_path / "d" / file.path
            assert (file.bytes, file.sha256) == (path.stat().st_size, sha256_file(path))
            table = pq.read_table(path)
            assert table.num_rows == file.rows
            assert [f.name for f in table.schema] == ["features", "label", "key"]
            assert table.schema.field("features").type == pa.fixed_shape_tensor(pa.uint8(), (1, 8, 8))
            assert pq.ParquetFile(path).metadata.row_group(0).num_rows <= manifest.row_group_size
            labels.extend(table["label"].to_pylist())
        assert np.bincount(labels, minlength=10).tolist() == list(split.class_histogram)
    assert [file.rows for file in manifest.splits["train"].files] == [479, 479, 479, 1]
    on_disk = sorted(p.relative_to(tmp_path / "d").as_posix() for p in (tmp_path / "d").rglob("*") if p.is_file())
    assert on_disk == sorted([MANIFEST, *(f.path for s in manifest.splits.values() for f in s.files)])
    assert set(manifest.provenance["software"]) >= {"python", "torch", "pyarrow"}


def test_a_table_has_statistics_of_its_training_rows_only(tmp_path):
    columns = {"a": [1.0, 3.0, 100.0], "b": [7.0, 7.0, 8.0], "part": ["train", "train", "test"], "y": ["q", None, "p"]}
    source = _table(tmp_path / "t.parquet", columns, split_column="part", label_column="y", test_fraction=None)
    manifest = prepare(source, tmp_path / "d")
    assert (manifest.feature_min, manifest.feature_max) == ((1.0, 7.0), (3.0, 7.0))
    assert manifest.constant_features == ("b",)
    assert manifest.class_names == ("p", "q")
    assert manifest.splits["train"].class_histogram == (0, 1)
    assert manifest.splits["train"].unlabelled_count == 1
    assert manifest.splits["test"].class_histogram == (1, 0)
    assert manifest.provenance["files"][0]["sha256"] == sha256_file(tmp_path / "t.parquet")


def test_shards_do_not_depend_on_how_the_source_cuts_batches(tmp_path, rng, monkeypatch):
    from pipeline.sources import base

    columns = {"x": rng.random(3000), "y": rng.integers(0, 3, 3000)}
    digests = []
    for name, size in (("a", base.BATCH_BYTES), ("b", 28)):
        monkeypatch.setattr(base, "BATCH_BYTES", size)
        source = _table(tmp_path / "t.parquet", columns, label_column="y", test_fraction=0.3)
        digests.append(prepare(source, tmp_path / name, PrepareOptions(rows_per_shard=700)).digest)
    assert digests[0] == digests[1]


def test_a_row_group_is_never_more_than_a_shard(tmp_path, monkeypatch):
    """Memory: of large images even 64 rows are too many."""
    monkeypatch.setattr(writer, "_GROUP_BYTES", 1 << 8)
    for shard_bytes, group in ((1 << 14, 64), (1 << 10, 16)):
        monkeypatch.setattr(writer, "SHARD_BYTES", shard_bytes)
        manifest = prepare(open_source("digits"), tmp_path / str(group))
        assert manifest.row_group_size == group
        assert manifest.splits["test"].files[0].rows == shard_bytes // 64


def test_an_output_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "digits")
    for seed in (0, 1):  # nowhere yet, and to an earlier data set
        source = open_source("digits", None, SourceOptions(seed=seed))
        manifest = prepare(source, tmp_path / "data", PrepareOptions(overwrite=True))
        assert (tmp_path / "data").is_symlink()
        assert Manifest.load(tmp_path / "disk" / "digits") == manifest
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent.name != "digits") == [
        "data", "digits", "disk", *["part-00000.parquet"] * 2
    ]  # fmt: skip


def test_the_same_again_is_left_alone_and_another_is_refused(tmp_path):
    out = tmp_path / "d"
    first = prepare(open_source("digits"), out)
    stamp = (out / MANIFEST).stat().st_mtime_ns
    assert prepare(open_source("digits"), out) == first
    assert (out / MANIFEST).stat().st_mtime_ns == stamp
    other = open_source("digits", None, SourceOptions(seed=1))
    with pytest.raises(OutputError, match=r"holds another data set \(source 'digits'"):
        prepare(other, out)
    assert Manifest.load(out) == first
    second = prepare(other, out, PrepareOptions(overwrite=True))
    assert second.digest != first.digest
    assert Manifest.load(out) == second
    assert [p.name for p in tmp_path.iterdir()] == ["d"], "nothing temporary is left"


def test_an_option_that_json_keeps_otherwise_is_the_same_again(tmp_path):
    (tmp_path / "raw" / "a").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "raw" / "a" / "0.png")
    images = open_source("images", tmp_path / "raw", SourceOptions(size=(8, 8), test_fraction=0.0))
    first = prepare(images, tmp_path / "out")
    assert prepare(images, tmp_path / "out").digest == first.digest and first.shape == (1, 8, 8)
    with pytest.raises(OutputError, match="holds another data set"):
        prepare(
            open_source("images", tmp_path / "raw", SourceOptions(size=(8, 9), test_fraction=0.0)), tmp_path / "out"
        )


def test_equal_data_have_equal_digests_wherever_they_lie(tmp_path):
    digests = {prepare(open_source("digits"), tmp_path / name).digest for name in "ab"}
    assert len(digests) == 1


def test_a_digest_stays_what_checkpoints_have_of_it():
    files = (ShardFile("train/part-00000.parquet", 3, 9, "0" * 64),)
    splits = {"train": Split(num_samples=3, class_histogram=(2, 1), files=files), "test": Split(class_histogram=(0, 0))}
    manifest = Manifest(
        source={}, kind="table", shape=(2,), dtype="float32", class_names=("a", "b"), splits=splits,
        feature_min=(0.0, 0.5), feature_max=(1.0, 0.5), constant_features=("x1",),
    )  # fmt: skip
    assert manifest.digest == "3a7e58601b6ec9e329bf8649938f96ddc1d001f9cc0909a22de6e082c4460d21"
    assert dataclasses.replace(manifest, source={"name": "x"}, provenance={"files": []}).digest == manifest.digest


def test_changed_raw_data_are_another_data_set(tmp_path):
    path = tmp_path / "t.parquet"
    prepare(_table(path, {"x": [1.0, 2.0]}), tmp_path / "d")
    with pytest.raises(OutputError, match="holds another data set"):
        prepare(_table(path, {"x": [1.0, 3.0]}), tmp_path / "d")


def test_what_is_not_ours_is_never_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("x")
    for options in (PrepareOptions(), PrepareOptions(overwrite=True)):
        with pytest.raises(OutputError, match="must be new, empty or a prepared data set"):
            prepare(open_source("digits"), tmp_path / "run", options)
    with pytest.raises(OutputError, match="which is a file"):
        prepare(open_source("digits"), tmp_path / "run" / "precious.txt", PrepareOptions(overwrite=True))
    assert (tmp_path / "run" / "precious.txt").read_text() == "x"


def test_an_interruption_leaves_the_earlier_data_set_and_no_litter(tmp_path):
    before = prepare(open_source("digits"), tmp_path / "d")
    source = open_source("digits", None, SourceOptions(seed=1))
    plain = source.batches

    def interrupted():
        yield next(plain())
        raise KeyboardInterrupt

    source.batches = interrupted
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "d", PrepareOptions(overwrite=True, rows_per_shard=10))
    assert Manifest.load(tmp_path / "d") == before
    verify(tmp_path / "d", before, hashes=True)
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_invalid_values_are_named_dropped_or_kept(tmp_path, value):
    columns = {"a": [1.0, 2.0, 3.0, 4.0], "x7": [1.0, 2.0, value, 4.0]}
    what = "NaN" if np.isnan(value) else "infinite"
    message = rf"Shard 0 \(t.parquet\): row 2 of column 'x7' is {what}. Clean it or pass --drop-invalid"
    with pytest.raises(DataError, match=message) as caught:
        prepare(_table(tmp_path / "t.parquet", columns), tmp_path / "d")
    assert (caught.value.row, caught.value.column) == (2, "x7")
    assert not (tmp_path / "d").exists()
    manifest = prepare(_table(tmp_path / "t.parquet", columns), tmp_path / "e", PrepareOptions(drop_invalid=True))
    assert (manifest.dropped_count, manifest.splits["train"].num_samples) == (1, 3)
    masked = PrepareOptions(missing="mask")
    if np.isnan(value):
        manifest = prepare(_table(tmp_path / "t.parquet", columns), tmp_path / "f", masked)
        assert (manifest.feature_min, manifest.feature_max) == ((1.0, 1.0), (4.0, 4.0))
    else:
        with pytest.raises(DataError, match="is infinite"):
            prepare(_table(tmp_path / "t.parquet", columns), tmp_path / "f", masked)


def test_a_value_too_large_for_float32_is_infinite(tmp_path):
    with pytest.raises(DataError, match="row 1 of column 'x' is infinite"):
        prepare(_table(tmp_path / "t.parquet", {"x": [1.0, 1e300]}), tmp_path / "d")


@pytest.fixture
def digits(tmp_path):
    prepare(open_source("digits"), tmp_path / "d", PrepareOptions(rows_per_shard=600))
    return tmp_path / "d"


def test_files_that_do_not_match_the_manifest_are_named(digits):
    manifest = Manifest.load(digits)
    part = digits / "train" / "part-00001.parquet"
    whole = part.read_bytes()
    flipped = bytearray(whole)
    flipped[200] ^= 1
    part.write_bytes(flipped)
    verify(digits, manifest)
    with pytest.raises(ManifestError, match=r"train/part-00001.parquet must have the sha256 of the manifest"):
        verify(digits, manifest, hashes=True)
    part.write_bytes(whole[:-1])
    with pytest.raises(ManifestError, match=rf"part-00001.parquet must have {len(whole)} bytes.* Got {len(whole) - 1}"):
        verify(digits, manifest)
    os.remove(part)
    with pytest.raises(ManifestError, match=r"part-00001.parquet must exist, as the manifest says"):
        verify(digits, manifest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:100], "must be the JSON of a prepared data set"),
        (lambda text: "[]", "must be the JSON of a prepared data set"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format must be 1. Got 2"),
        (lambda text: text.replace('"kind"', '"sort"'), "a field is wrong"),
        (lambda text: text.replace('"num_samples": 1438', '"num_samples": 1439'), "num_samples must be the sum"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_clear_line(digits, change, message):
    path = digits / MANIFEST
    path.write_text(change(path.read_text()))
    with pytest.raises(ManifestError, match=message) as caught:
        verify(digits, Manifest.load(digits))
    assert "\n" not in str(caught.value)


def test_a_directory_without_a_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(ManifestError, match=r"is not a prepared data set: no manifest.json. Make one: python -m jobs"):
        Manifest.load(tmp_path)


def test_the_manifest_is_plain_json_without_paths_of_the_machine(digits):
    content = json.loads((digits / MANIFEST).read_text())
    assert str(digits.parent) not in json.dumps(content)
    shutil.move(digits, digits.parent / "elsewhere")
    verify(digits.parent / "elsewhere", Manifest.load(digits.parent / "elsewhere"), hashes=True)


def test_options_are_checked():
    with pytest.raises(UserError, match="--missing must be error or mask. Got 'zero'"):
        PrepareOptions(missing="zero")
    with pytest.raises(UserError, match="--rows-per-shard must be >= 1. Got 0"):
        PrepareOptions(rows_per_shard=0)
