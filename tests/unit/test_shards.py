"""Reading prepared data for training: any rows, exactly scaled, out of core, by several processes."""

import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.prepare import PrepareOptions, prepare
from pipeline.prepared import shards
from pipeline.prepared.manifest import MANIFEST, Manifest
from pipeline.prepared.scaling import Scaling
from pipeline.prepared.shards import Dataset
from pipeline.sources import SourceOptions, open_source
from tests.conftest import REPOSITORY, real_data
from tests.raw_files import collect


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "digits"
    prepare(open_source("digits"), out, PrepareOptions(rows_per_shard=500))
    return out


@pytest.fixture(params=["mapped", "read", "read without advice"])
def way(request, monkeypatch):
    """Small splits are mapped, large ones read, also where the system takes no advice (macOS): all give the same."""
    monkeypatch.setattr(shards, "MAP_BYTES", shards.MAP_BYTES if request.param == "mapped" else 0)
    if request.param == "read without advice":
        monkeypatch.delattr(shards.os, "posix_fadvise")


def _table(folder, columns, out="d", **options):
    pq.write_table(pa.table(columns), folder / "t.parquet")
    source = open_source("table", folder / "t.parquet", SourceOptions(**{"test_fraction": 0.0, **options}))
    prepare(source, folder / out, PrepareOptions(rows_per_shard=50, missing="mask"))
    return Dataset.open(folder / out)


def test_rows_in_any_order_over_the_shards(digits, way):
    dataset = Dataset.open(digits)
    raw, labels, _ = collect(open_source("digits"))["train"]
    rows = np.array([1437, 0, 499, 500, 501, 499, 7, 8, 9])
    features, read = dataset.read("train", torch.from_numpy(rows))
    assert features.dtype == torch.float32
    assert (features.numpy() == raw[rows].reshape(9, 64).astype(np.float32) / np.float32(16)).all()
    assert (read.numpy() == labels[rows]).all()
    assert (dataset.read_raw("train", rows.tolist()).numpy() == raw[rows]).all()
    assert dataset.read_raw("train", slice(490, 510)).shape == (20, 1, 8, 8)
    assert dataset.read("train", [])[0].shape == (0, 64)
    assert dataset.labels("train").dtype == torch.int64
    assert (dataset.labels("train").numpy() == labels).all()
    for row, words in ((499, "row 499 of shard 'train/part-00000"), (501, "row 1 of shard 'train/part-00001")):
        assert dataset.row_in_words(row) == f"row {row} of the training split ({words}.parquet')"


@given(st.lists(st.integers(0, 358), max_size=60))
def test_every_choice_of_rows_is_that_choice(digits_both, rows):
    mapped, read, raw = digits_both
    for dataset in (mapped, read):
        assert (dataset.read_raw("test", rows).numpy() == raw[np.array(rows, dtype=int)]).all()


@pytest.fixture(scope="module")
def digits_both(digits):
    mapped, read = Dataset.open(digits), Dataset.open(digits)
    mapped.labels("test")
    limit, shards.MAP_BYTES = shards.MAP_BYTES, 0
    read.labels("test")
    shards.MAP_BYTES = limit
    assert read._open_splits["test"]._mapped is None
    return mapped, read, collect(open_source("digits"))["test"][0]


@pytest.mark.parametrize("rows", [[-1], [0, 1438], [5000]])
def test_rows_out_of_range_are_refused(digits, rows):
    with pytest.raises(IndexError, match=r"Row of split 'train' must be in \[0, 1438\). Got"):
        Dataset.open(digits).read("train", rows)


def test_a_split_that_is_not_there_is_empty(digits):
    dataset = Dataset.open(digits)
    assert dataset.splits == ("train", "test")
    assert dataset.num_samples("validation") == 0
    assert len(dataset.labels("validation")) == 0
    assert dataset.read("validation", [])[0].shape == (0, 64)


def test_tables_are_scaled_by_their_training_rows(tmp_path, way):
    columns = {
        "a": [2.0, 4.0, 3.0, 5.0],
        "same": [7.0, 7.0, 7.0, 9.0],
        "gaps": [1.0, np.nan, 3.0, np.nan],
        "empty": [np.nan] * 3 + [4.0],
        "part": ["train", "train", "train", "test"],
    }
    dataset = _table(tmp_path, columns, split_column="part", test_fraction=None)
    train, _ = dataset.read("train", [0, 1, 2])
    nan = np.nan
    wanted = np.array([[0, 0, 0, nan], [1, 0, nan, nan], [0.5, 0, 1, nan]], np.float32)
    assert np.array_equal(train.numpy(), wanted, equal_nan=True)
    test, _ = dataset.read("test", [0])
    assert np.array_equal(test.numpy(), np.array([[1.5, 0, nan, 0]], np.float32), equal_nan=True), "not clipped"


def test_scaling_stays_in_range_for_extreme_columns(tmp_path):
    largest = float(np.finfo(np.float32).max)
    columns = {"wide": [-largest, largest, 0.0], "tiny": [0.0, 1e-45, 1e-45], "close": [1.0, 1.0000001, 1.0]}
    features, _ = _table(tmp_path, columns).read("train", [0, 1, 2])
    assert features.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 1.0, 0.0]]
    assert _table(tmp_path, {"zero": [0.0, 0.0]}, "e").read("train", [0, 1])[0].tolist() == [[0.0], [0.0]]


def test_pixels_are_divided_by_their_range(rng):
    raw = rng.integers(0, 256, (50, 1, 3, 3), dtype=np.uint8)
    assert (Scaling((0.0,), (255.0,))(raw).numpy() == raw.reshape(50, 9).astype(np.float32) / np.float32(255)).all()


def test_a_data_set_travels_to_another_process(digits):
    dataset = pickle.loads(pickle.dumps(Dataset.open(digits)))
    assert dataset.manifest_hash == Manifest.load(digits).digest
    assert dataset.read("train", [0])[0].shape == (1, 64)


def test_the_cache_is_built_once_and_found_again(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    Dataset.open(digits).labels("train")
    (file,) = (tmp_path / "cache").glob("*.rows")
    assert file.stat().st_size == 1438 * (64 + 8) + 8
    stamp = file.stat().st_mtime_ns
    Dataset.open(digits).labels("train")
    assert file.stat().st_mtime_ns == stamp
    with open(file, "r+b") as cut:
        cut.truncate(1000)
    left = file.with_name(f"{file.stem}.killed.new")
    left.write_bytes(b"what a killed process had unpacked so far")
    first = Dataset.open(digits).read_raw("train", [1437])
    assert file.stat().st_size == 1438 * (64 + 8) + 8, "a cut file is made again"
    assert not left.exists()
    assert (first.numpy() == collect(open_source("digits"))["train"][0][[1437]]).all()


@pytest.mark.parametrize("place", [0, 1437 * 64, 1438 * 64 + 8, -1], ids=["rows", "last row", "labels", "checksum"])
def test_a_damaged_copy_is_made_again(digits, tmp_path, monkeypatch, place):
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    Dataset.open(digits).labels("train")
    (file,) = (tmp_path / "cache").glob("*.rows")
    whole = file.read_bytes()
    content = bytearray(whole)
    content[place] ^= 255
    file.write_bytes(content)
    Dataset.open(digits).labels("train")
    assert file.read_bytes() == whole


def test_a_data_set_that_was_removed_is_not_made_again(tmp_path):
    prepare(open_source("digits"), tmp_path / "data", PrepareOptions())
    data = Dataset.open(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(FileNotFoundError):
        data.labels("train")
    assert not (tmp_path / "data").exists()


def test_a_full_disk_is_said_with_the_cache(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path / 'cache'}'"):
            Dataset.open(digits).read("train", [0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_several_processes_build_one_cache_at_once(digits, tmp_path):
    code = (
        "import sys; from pipeline.prepared.shards import Dataset; d = Dataset.open(sys.argv[1]);"
        "print(d.read('train', slice(0, 1438))[0].double().sum().item(), d.labels('train').sum().item())"
    )
    environment = {**os.environ, "SOMGRAD_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code, str(digits)]
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = {process.communicate(timeout=120)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0]
    assert len(printed) == 1
    assert printed.pop().strip()
    assert len(list(tmp_path.glob("*.rows"))) == 1
    assert list(tmp_path.glob("*.new")) == []


def test_a_read_only_data_set_is_cached_elsewhere(digits, tmp_path, monkeypatch):
    """To root every directory is writable, so the refusal of the file system is played."""
    import pipeline.prepared.cache

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plain = Path.mkdir

    def refuse(self, *args, **kwargs):
        if digits in self.parents:
            raise PermissionError(13, "Permission denied")
        plain(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(pipeline.prepared.cache, "CACHE", ".fresh-cache")
    assert Dataset.open(digits).read("train", [0])[0].shape == (1, 64)
    assert len(list(tmp_path.rglob("*.rows"))) == 1


def test_a_changed_shard_is_noticed_when_it_is_unpacked(digits, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(digits, tmp_path / "d", ignore=shutil.ignore_patterns(".cache"))
    part = tmp_path / "d" / "train" / "part-00001.parquet"
    content = bytearray(part.read_bytes())
    content[300] ^= 255
    part.write_bytes(content)
    dataset = Dataset.open(tmp_path / "d")
    with pytest.raises(ManifestError, match="part-00001.parquet must have the sha256 of the manifest"):
        dataset.read("train", [0])
    assert dataset.read("test", [0])[0].shape == (1, 64), "the other split is whole"
    assert list((tmp_path / "d" / ".cache").glob("*.new")) == []
    with pytest.raises(ManifestError, match="part-00001.parquet must have the sha256"):
        Dataset.open(tmp_path / "d", hashes=True)


def _replace_shard(directory, table):
    """A manifest that agrees with a file which is wrong inside."""
    import json

    from pipeline.prepared.manifest import sha256_file

    path = directory / "train" / "part-00000.parquet"
    pq.write_table(table, path)
    content = json.loads((directory / MANIFEST).read_text())
    entry = content["splits"]["train"]["files"][0]
    entry.update(bytes=path.stat().st_size, sha256=sha256_file(path))
    (directory / MANIFEST).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("shape", "rows", "label", "message"),
    [
        ((2,), 4, 7, r"Shard 0 \(train/part-00000.parquet\): label in row 0 must be -1 or in 0..1. Got 7"),
        ((3,), 4, 0, r"Shard 0 .*: features must be \(2,\) float32. Got \(3,\)"),
        ((2,), 3, 0, "Shard 0 .* must have 4 rows. Got 3"),
        ((2,), 0, 0, "Shard 0 .* must have 4 rows. Got 0"),
    ],
    ids=["label", "shape", "short", "empty"],
)
def test_a_shard_that_is_wrong_inside_is_named(tmp_path, shape, rows, label, message):
    _table(tmp_path, {"a": [1.0, 2, 3, 4], "b": [1.0, 2, 3, 4], "y": [0, 1, 0, 1]}, label_column="y")
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((max(rows, 1), *shape), np.float32))[:rows]
    columns = [tensors, pa.array([label] * rows, pa.int64()), pa.array(range(rows), pa.int64())]
    _replace_shard(tmp_path / "d", pa.table(columns, names=["features", "label", "key"]))
    with pytest.raises(ManifestError, match=message):
        Dataset.open(tmp_path / "d").read("train", [0])


def test_memory_stays_bounded_while_a_large_split_is_read(tmp_path):
    """A split of 256 MB, read once over in random order, adds far less than itself to resident memory."""
    rng, count = np.random.default_rng(0), 2_000_000
    schema = pa.schema([(f"x{i}", pa.float32()) for i in range(32)])
    with pq.ParquetWriter(tmp_path / "t.parquet", schema, compression="none", use_dictionary=False) as out:
        for _ in range(20):
            block = rng.random((32, count // 20), dtype=np.float32)
            out.write_table(pa.table(list(block), schema=schema))
    source = open_source("table", tmp_path / "t.parquet", SourceOptions(test_fraction=0.0))
    prepare(source, tmp_path / "d")
    code = """
import sys, torch
from pipeline.prepared.shards import Dataset
torch.set_num_threads(1)
def resident(): return next(int(l.split()[1]) >> 10 for l in open("/proc/self/status") if l.startswith("VmHWM"))
dataset = Dataset.open(sys.argv[1])
start = resident()
order = torch.randperm(2_000_000, generator=torch.Generator().manual_seed(0))[:200_000]
total = sum(dataset.read("train", part)[0].double().sum().item() for part in order.split(512))
print(resident() - start, total / 200_000 / 32)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d")], cwd=REPOSITORY, capture_output=True, text=True, timeout=200
    )
    grown, mean = done.stdout.split()
    assert 0.49 < float(mean) < 0.51
    assert int(grown) < 160


@pytest.mark.data
def test_mnist_is_read_as_it_was_prepared(tmp_path):
    source = open_source("mnist", real_data("MNIST/raw").parents[1])
    prepare(source, tmp_path / "mnist")
    dataset = Dataset.open(tmp_path / "mnist")
    assert (dataset.num_samples("train"), dataset.num_samples("test")) == (60_000, 10_000)
    first = next(iter(source.batches()))
    assert (dataset.read_raw("train", slice(0, 1000)).numpy() == first.features[:1000]).all()
    features, labels = dataset.read("train", [0, 59_999])
    assert labels.tolist() == [5, 8]
    assert features.min() == 0
    assert features.max() == 1
