"""Data sets and checkpoints on other filesystems: a real HTTP server that speaks S3, URIs of files, a subtree."""

import dataclasses

import pyarrow.fs as fs
import pytest

from pipeline.errors import ManifestError, OutputError, UserError
from pipeline.places import Place
from pipeline.prepared.shards import Dataset
from pipeline.training.checkpoint import CheckpointStore, Snapshot
from pipeline.training.trainer import train
from somcore.state import blank_state
from tests.s3 import s3_store
from tests.training import call_job, small

IDENTITY = {"config_hash": "c" * 64, "manifest_hash": "d" * 64}


@pytest.fixture(scope="module")
def s3():
    with s3_store() as store:
        yield store


@pytest.fixture(scope="module")
def uploaded(s3, digits):
    """The digits as a data set in the bucket."""
    return s3.upload(digits, "digits")


@pytest.fixture(scope="module")
def local(digits, tmp_path_factory):
    return train(small("sssom", digits), tmp_path_factory.mktemp("local") / "run")


@pytest.fixture(params=["path", "file", "subtree", "s3"])
def place(request, tmp_path, s3):
    if request.param == "subtree":
        return Place(fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "deep/er", "a subtree")
    uris = {"path": tmp_path / "x", "file": (tmp_path / "x").as_uri(), "s3": s3.uri(tmp_path.name)}
    return Place.of(uris[request.param])


def test_what_is_written_is_read_listed_and_removed(place):
    assert place.sizes() == {}
    place.write("a", b"old")
    place.write("a", b"new")
    place.write("b", b"x" * 6_000_000)
    assert place.read("a") == b"new"
    assert place.sizes() == {"a": 3, "b": 6_000_000}
    with place.fetched("b") as path:
        assert path.stat().st_size == 6_000_000
    place.delete("a")
    place.delete("a")
    assert list(place.sizes(recursive=True)) == ["b"]


def test_checkpoints_are_kept_and_a_torn_one_is_passed_over(place):
    store = CheckpointStore(place, IDENTITY, keep=2)
    store.refuse_used()
    for round_ in (1, 2, 3):
        store.save(Snapshot(dataclasses.replace(blank_state(4, 3, num_classes=2), round=round_)))
    names = sorted(place.sizes())
    assert names == ["round-0000000002.safetensors", "round-0000000003.safetensors"]
    assert store.load_newest().state.round == 3
    place.write(names[1], place.read(names[1])[:-7])
    lines = []
    assert store.load_newest(lines.append).state.round == 2
    assert lines[0].startswith("Checkpoint round-0000000003.safetensors is torn (")
    with pytest.raises(OutputError, match="holds round-0000000003.safetensors.*or --resume to go on"):
        store.refuse_used()


def test_of_two_runs_in_one_place_one_goes_on(place, monkeypatch):
    snapshots = [Snapshot(dataclasses.replace(blank_state(4, 3, num_classes=2), round=round_)) for round_ in (0, 5, 6)]
    one, other = (CheckpointStore(place, {**IDENTITY, "config_hash": hash_}, keep=2) for hash_ in "ab")
    monkeypatch.setattr(other, "refuse_used", lambda: one.begin(snapshots[0]))  # it begins just after the look
    with pytest.raises(OutputError, match="belongs to another configuration"):
        other.begin(snapshots[0])
    one.save(snapshots[1])
    with pytest.raises(OutputError, match="belongs to another configuration"):
        other.save(snapshots[2])
    assert one.load_newest().state.round == 5
    again = CheckpointStore(place, one.identity, keep=2)  # the same run, on a machine that took over
    assert again.load_newest().state.round == 5
    one.save(snapshots[2])
    again.save(snapshots[2])
    assert again.load_newest().state.round == 6


def test_a_data_set_in_a_bucket_is_the_one_on_disk(uploaded, digits, local, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    result = train(small("sssom", uploaded), tmp_path / "run")
    assert result["map_digest"] == local["map_digest"] and result["data"] == uploaded
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".rows", ".lock"}, "no shard is left behind"
    assert train(small("sssom", digits.as_uri()), tmp_path / "file")["map_digest"] == local["map_digest"]
    Dataset.open(uploaded, hashes=True)


def test_the_commands_take_uris(uploaded, tmp_path, monkeypatch):
    code, out, err = call_job("--data", uploaded, "--model", "kohonen", "--out", tmp_path / "run", "--workers", 0,
                              "--tracking-uri", "none", "--epochs", 1)  # fmt: skip
    assert code == 0, err


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nothing", r"nothing.* is not a prepared data set: no manifest.json"),
        ("digits?region=us-east-1&endpoint_override=127.0.0.1:9&scheme=http", "manifest.json.* cannot be read: "),
    ],
)
def test_what_is_not_there_is_told_in_one_line(s3, uploaded, path, sentence):
    with pytest.raises(ManifestError, match=sentence):
        Dataset.open(s3.uri(path) if "?" not in path else f"s3://bucket/{path}")


def test_an_unknown_store_is_told_in_one_line():
    with pytest.raises(UserError, match="'ftp://x/y' must be a path or a URI that pyarrow can open"):
        Dataset.open("ftp://x/y")


def test_keys_in_a_uri_are_refused_and_not_repeated(tmp_path):
    with pytest.raises(UserError, match="'s3://bucket/x' must be given without its keys") as caught:
        Dataset.open("s3://KEY:PASSWORD@bucket/x")
    assert "PASSWORD" not in str(caught.value)
    code, out, err = call_job("--data", "s3://KEY:PASSWORD@bucket/x", "--model", "sssom", "--out", tmp_path / "run")
    assert code == 2 and "PASSWORD" not in out + err
    assert not (tmp_path / "run").exists()


def test_a_shard_that_was_changed_in_the_bucket_is_refused(s3, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    uri = s3.upload(digits, "changed")
    place = Place.of(uri)
    name = next(name for name in place.sizes(recursive=True) if name.startswith("train/"))
    content = bytearray(place.read(name))
    content[len(content) // 2] ^= 1
    place.write(name, bytes(content))
    with pytest.raises(ManifestError, match="must have the sha256 of the manifest"):
        train(small("sssom", uri), tmp_path / "run")
    assert not list((tmp_path / "cache").glob("*.rows"))


def test_a_bucket_that_goes_away_costs_checkpoints_not_the_run(digits, local, tmp_path):
    with s3_store() as store:
        where, lines = store.uri("kept"), []

        def close(epoch, expected, metrics):
            if epoch == 2:
                store.stop()

        settings = small("sssom", digits, train__checkpoints=where, train__checkpoint_rounds=8)
        result = train(settings, tmp_path / "run", say=lines.append, on_epoch=close)
    assert result["map_digest"] == local["map_digest"]
    assert lines and all("could not be written" in line for line in lines)
