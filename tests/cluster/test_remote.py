"""Workers with their data and their checkpoints in a bucket, on a real HTTP server that speaks S3."""

import shutil

import pytest

from pipeline.errors import OutputError
from pipeline.training.trainer import train
from tests.s3 import s3_store
from tests.training import small


def test_workers_read_from_a_bucket_and_the_run_moves_to_another_machine(group, digits, tmp_path, monkeypatch):
    """The directory of the first machine is lost with it: data and checkpoints in the bucket are enough."""
    monkeypatch.setenv("SOMGRAD_CACHE", str(tmp_path / "cache"))
    undisturbed = train(small("sssom", digits), tmp_path / "undisturbed")

    def stop(epoch, expected, metrics):
        if epoch == 2:
            raise KeyboardInterrupt

    group.resize(2)
    with s3_store() as store:
        settings = small("sssom", store.upload(digits, "digits"), train__checkpoints=store.uri("run-7"))
        with pytest.raises(KeyboardInterrupt, match="State saved .* in s3://bucket/run-7.*--resume goes on"):
            train(settings, tmp_path / "first", group=group, on_epoch=stop)
        shutil.rmtree(tmp_path / "first")
        with pytest.raises(OutputError, match="train.checkpoints must be a directory without checkpoints"):
            train(settings, tmp_path / "second")
        lines: list[str] = []
        result = train(settings, tmp_path / "second", resume=True, say=lines.append)
    assert lines[0].startswith("Going on after round ") and lines[0] != "Going on after round 0."
    assert result["map_digest"] == undisturbed["map_digest"]
