"""Directories elsewhere: what a failure leaves behind. Real stores are in tests/system/test_remote_places.py."""

import errno
import fcntl
import os
import resource
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.errors import ManifestError
from pipeline.places import Place, alone_in, locked, private_folder, write_atomically
from pipeline.prepared import cache
from pipeline.prepared.shards import Dataset
from pipeline.sweeps.trials import TrialDirectory
from pipeline.tracking.journal import Journal
from pipeline.tracking.sender import Sender
from tests.training import table


class Store:
    """An object store that fails at a chosen moment."""

    type_name = "s3"

    def __init__(self, when):
        self.when, self.content = when, b"old"

    def open_output_stream(self, path):
        if self.when == "open":
            raise OSError("no route to the store")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.content = b"ne"  # closing ends the upload as if it were whole

    def write(self, content):
        raise OSError("connection reset")

    def delete_file(self, path):
        self.content = None


@pytest.mark.parametrize(("when", "left"), [("open", b"old"), ("write", None)])
def test_an_upload_that_never_began_leaves_the_old_object(when, left):
    store = Store(when)
    with pytest.raises(OSError, match=r"no route|reset"):
        Place(store, "bucket/run", "s3://bucket/run").write("latest", b"new")
    assert store.content == left


def test_a_folder_that_somebody_else_may_write_to_is_not_ours(tmp_path):
    assert private_folder(tmp_path / "own").stat().st_mode & 0o777 == 0o700
    (tmp_path / "own").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("own", "link"):
        with pytest.raises(PermissionError, match="a folder of your own"):
            private_folder(tmp_path / name)


def test_rows_are_not_read_from_a_cache_that_all_may_write_to(rng, tmp_path, monkeypatch):
    data = table(tmp_path / "t", rng.normal(size=(20, 2)), np.arange(20) % 2)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SOMGRAD_CACHE", raising=False)
    monkeypatch.setattr(cache, "_folders", lambda place: [cache._for_all()])  # as where DIR cannot be written
    assert len(Dataset.open(data).read("train", slice(0, 20))[0]) == 20
    (tmp_path / f"somgrad-cache-{os.getuid()}").chmod(0o777)
    with pytest.raises(ManifestError, match="A cache directory must be writable"):
        Dataset.open(data).read("train", slice(0, 20))


def test_a_file_that_there_is_no_room_for_is_named_and_the_old_one_stays(tmp_path):
    path = tmp_path / "predictions.csv"
    write_atomically(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(OSError, match="predictions.csv"):
            write_atomically(path, b"new" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_on_the_disk_before_it_has_its_name_and_so_is_the_name(tmp_path, monkeypatch):
    synced = []

    def noted(descriptor):
        about = os.fstat(descriptor)
        synced.append("folder" if stat.S_ISDIR(about.st_mode) else about.st_size)
        if synced[-1] == "folder":
            assert (tmp_path / "file").read_bytes() == b"content"

    monkeypatch.setattr(os, "fsync", noted)
    write_atomically(tmp_path / "file", b"content")
    assert synced == [len(b"content"), "folder"]


def test_two_threads_that_write_one_file_do_not_meet(tmp_path):
    """As two containers do, whose processes have the same number."""
    with ThreadPoolExecutor(2) as threads:
        writings = [threads.submit(write_atomically, tmp_path / "file", bytes([n]) * 1000) for n in range(40)]
    assert [writing.exception() for writing in writings] == [None] * 40
    assert list(tmp_path.iterdir()) == [tmp_path / "file"] and len(set((tmp_path / "file").read_bytes())) == 1


def test_a_lock_that_is_a_link_leaves_the_file_behind_it_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "lock").symlink_to(tmp_path / "notes.txt")
    with locked(tmp_path / "lock") as alone:
        assert alone
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_lock_is_held_by_one_and_free_again_afterwards(tmp_path):
    path = tmp_path / "lock"
    with locked(path) as alone:
        assert alone
        with pytest.raises(KeyError, match="busy"), locked(path, 0.0, KeyError("busy")):
            pass
        with pytest.raises(KeyError, match="busy"), locked(path, 0.2, KeyError("busy")):
            pass
    with locked(path, 0.0, KeyError("busy")) as alone:
        assert alone


def test_all_work_goes_on_where_there_are_no_locks(rng, tmp_path, monkeypatch):
    """As on a network filesystem without a lock manager."""
    data = table(tmp_path / "t", rng.normal(size=(20, 2)), np.arange(20) % 2)

    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with locked(tmp_path / "lock") as alone:
        assert not alone
    with alone_in(tmp_path / "sweep", "a sweep"), TrialDirectory(tmp_path / "trial").held():
        assert len(Dataset.open(data).read("train", slice(0, 20))[0]) == 20
    journal = Journal(tmp_path)
    journal.write("start", name="run", params={}, tags={})
    sender = Sender(tmp_path, journal, f"sqlite:///{tmp_path}/new/mlflow.db", "x")
    sender.send()
    assert sender.run_id and not sender.behind()
