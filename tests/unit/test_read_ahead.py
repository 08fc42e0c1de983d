"""Rows of large tables are asked for once, before they are read, and come as they are."""

import errno
import os
import threading

import pytest
import torch

from pipeline.prepared import shards
from pipeline.prepared.shards import Dataset


def test_a_row_is_asked_for_once_and_read_as_it_is(digits, monkeypatch):
    whole = Dataset.open(digits).read("train", slice(0, 1400))[0]
    monkeypatch.setattr(shards, "MAP_BYTES", 0)
    asked: list[tuple[int, int]] = []
    advise = os.posix_fadvise

    def watched(descriptor, start, length, advice):
        asked.append((start, length))
        return advise(descriptor, start, length, advice)

    monkeypatch.setattr(shards.os, "posix_fadvise", watched)
    dataset = Dataset.open(digits)
    tiles = [torch.tensor(rows) for rows in ([5, 6, 7, 900], [3, 1, 2], [11])]
    for tile, following in zip(tiles, [*tiles[1:], None], strict=True):
        if following is not None:
            dataset.ahead("train", following)
        assert torch.equal(dataset.read("train", tile)[0], whole[tile])
    size = 64  # bytes of a row: 8 x 8 uint8
    assert sorted(asked) == sorted(
        (size * row, size * length) for row, length in [(5, 3), (900, 1), (3, 1), (1, 2), (11, 1)]
    )
    dataset.ahead("test", [0])


def test_what_is_told_ahead_is_read_by_a_thread_and_handed_out_once(digits, monkeypatch):
    monkeypatch.setattr(shards, "MAP_BYTES", 0)
    dataset = Dataset.open(digits)
    readers: list[str] = []
    read = os.preadv

    def watched(*arguments):
        readers.append(threading.current_thread().name.split("_")[0])
        return read(*arguments)

    monkeypatch.setattr(shards.os, "preadv", watched)
    rows = torch.tensor([7, 3])
    dataset.ahead("train", rows)
    first, again = dataset.read_raw("train", rows), dataset.read_raw("train", rows)
    assert readers == ["reads-ahead"] * 2 + ["MainThread"] * 2
    assert torch.equal(first, again) and first.data_ptr() != again.data_ptr()


def test_what_cannot_be_read_ahead_fails_where_it_is_asked_for(digits, monkeypatch):
    monkeypatch.setattr(shards, "MAP_BYTES", 0)
    dataset = Dataset.open(digits)
    dataset.labels("train")

    def broken(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shards.os, "preadv", broken)
    dataset.ahead("train", [1])
    with pytest.raises(OSError, match="Input/output error"):
        dataset.read_raw("train", [1])
