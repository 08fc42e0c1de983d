"""Checkpoints: what is loaded is what was saved, or it is not believed."""

import dataclasses
import errno
import json

import pytest
import torch
from safetensors.torch import save_file

from pipeline.deep.network import NetworkState
from pipeline.errors import OutputError
from pipeline.places import write_atomically
from pipeline.training import checkpoint
from pipeline.training.checkpoint import CheckpointStore, Snapshot, TornCheckpoint
from pipeline.training.rundir import LOCK, RUN, RunDirectory
from somcore.state import MapState, blank_state

IDENTITY = {"config_hash": "c" * 64, "manifest_hash": "d" * 64}


def a_map(round_: int) -> MapState:
    state = blank_state(4, 3, num_classes=2)
    prototypes = torch.arange(12, dtype=torch.float64).reshape(4, 3) / 7 + round_
    return dataclasses.replace(
        state, prototypes=prototypes, alive=torch.tensor([1, 1, 0, 1]).bool(), clock=5, round=round_
    )


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints", IDENTITY, keep=3)


def saved(store: CheckpointStore, *rounds: int) -> list[str]:
    for round_ in rounds:
        store.save(Snapshot(a_map(round_), {"samples": 10.0 * round_}, {"seconds": 1.5}))
    return sorted(path.name for path in store.directory.iterdir())


def test_a_checkpoint_comes_back_whole(store):
    saved(store, 7)
    snapshot = store.load_newest()
    assert snapshot.state.digest() == a_map(7).digest()
    assert (snapshot.tallies, snapshot.extra) == ({"samples": 70.0}, {"seconds": 1.5})


def test_no_checkpoint_is_nothing(store):
    assert store.load_newest() is None


def test_the_last_ones_are_kept_in_the_order_of_rounds(store):
    assert saved(store, 8, 9, 10, 11) == [f"round-{n:010d}.safetensors" for n in (9, 10, 11)]
    assert store.load_newest().state.round == 11


def test_leftovers_of_a_crash_are_not_checkpoints_and_go(store):
    store.directory.mkdir()
    (store.directory / ".round-0000000099.safetensors.1.part").write_bytes(b"half")
    assert store.load_newest() is None
    assert saved(store, 1) == ["round-0000000001.safetensors"]


@pytest.mark.parametrize("harm", ["cut", "empty", "tensor", "record", "text"])
def test_a_torn_newest_one_falls_back_to_the_one_before_and_says_so(store, harm):
    saved(store, 5, 6)
    path = store.directory / "round-0000000006.safetensors"
    content = bytearray(path.read_bytes())
    if harm == "cut":
        content = content[: len(content) // 2]
    elif harm == "empty":
        content = bytearray()
    elif harm == "tensor":
        content[-9] ^= 1
    elif harm == "record":
        content = content.replace(b'\\"round\\": 6', b'\\"round\\": 4')
        assert content != path.read_bytes()
    else:
        content = bytearray(b"this is not a checkpoint" * 10)
    path.write_bytes(content)
    lines: list[str] = []
    assert store.load_newest(lines.append).state.digest() == a_map(5).digest()
    assert len(lines) == 1
    assert lines[0].startswith("Checkpoint round-0000000006.safetensors is torn (")
    assert lines[0].endswith("Using the one before.")


@pytest.mark.parametrize("part", ["prototypes", "network.values", "network.second", "memory.seen"])
def test_a_tensor_of_map_network_or_memory_that_was_changed_is_torn(store, part):
    network = NetworkState.of(torch.nn.Linear(3, 2))
    store.save(Snapshot(a_map(5), network=network, memory={"seen": torch.arange(4)}))
    path = store.directory / "round-0000000005.safetensors"
    header, tensors = checkpoint.read_tensors(path)
    assert checkpoint.read(path)[0].digest() == json.loads(header["record"])["digest"]
    save_file(tensors | {part: tensors[part] + 1}, path, header)
    with pytest.raises(TornCheckpoint, match="tensors do not match its digest"):
        checkpoint.read(path)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_torn_checkpoint_is_not_one_of_those_that_are_kept(store, keep):
    saved(store, 5, 6, 9)
    (store.directory / "round-0000000009.safetensors").write_bytes(b"cut short")
    again = CheckpointStore(store.directory, IDENTITY, keep=keep)
    assert again.load_newest().state.round == 6
    saved(again, 7)
    assert again.load_newest().state.round == 7


def test_when_all_are_torn_the_run_does_not_silently_start_again(store):
    saved(store, 5)
    (store.directory / "round-0000000005.safetensors").write_bytes(b"x")
    with pytest.raises(OutputError, match="None of the 1 checkpoints"):
        store.load_newest()


@pytest.mark.parametrize(
    ("name", "words"), [("config_hash", "another configuration"), ("manifest_hash", "another data set")]
)
def test_a_checkpoint_of_something_else_is_refused(store, name, words):
    saved(store, 5)
    other = CheckpointStore(store.directory, {**IDENTITY, name: "e" * 64}, keep=3)
    with pytest.raises(OutputError, match=f"round-0000000005.safetensors belongs to {words}"):
        other.load_newest()


def test_a_checkpoint_of_another_version_is_refused(store, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 999)
    saved(store, 5)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="has version 999, this program writes and reads version 1"):
        store.load_newest()


def test_the_file_holds_tensors_and_json_only(store):
    saved(store, 5)
    content = (store.directory / "round-0000000005.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    record = json.loads(header["__metadata__"]["record"])
    assert record["digest"] == a_map(5).digest()
    assert set(header) - {"__metadata__"} == set(a_map(5).to_tensors())
    with pytest.raises(TornCheckpoint):
        checkpoint.read(store.directory / "no-such-file")


def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "map"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.places.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["map"]


def test_a_folder_that_does_not_answer_is_not_lost(tmp_path):
    with RunDirectory(tmp_path / "run").alone(resume=False) as directory:
        directory.write(status="running")
        (directory.path / LOCK).unlink()
        assert not directory.is_lost
        (directory.path / RUN).unlink()
        assert directory.is_lost
        (directory.path / RUN).symlink_to(RUN)  # neither there nor absent: too many levels of symbolic links
        assert not directory.is_lost
