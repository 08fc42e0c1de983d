"""The benchmarks of speed run as their documentation says; small, and without a word on how fast.

Not here: `soak` and `kills`, whose faults come at random moments; tests/cluster has such faults at chosen ones.
"""

import json
import math
import subprocess
import sys

import pytest

from tests.conftest import real_data
from tests.training import REPOSITORY, small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def joined(ray_cluster, monkeypatch):
    """What is measured joins the tests' cluster; starting one takes longer than most measurements here."""
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)


def measured(name, out, *words):
    """The result of one benchmark, which is finite everywhere, with its page beside it."""
    command = [sys.executable, "-m", "jobs.benchmark", name, *map(str, words), "--out", str(out), "--json"]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=540, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (page,) = out.glob("*.md")
    assert f"jobs.benchmark {name}" in page.read_text()
    result = json.loads(done.stdout.splitlines()[-1])
    assert all(map(math.isfinite, numbers(result)))
    return result


def numbers(value):
    """All numbers within a result."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) else []


def test_numbers_are_found_wherever_they_are():
    assert numbers({"a": [1, {"b": math.nan}], "c": "2", "d": None})[0] == 1
    assert not all(map(math.isfinite, numbers({"a": [1, {"b": math.nan}]})))


@pytest.mark.data
def test_batch(tmp_path):
    measured("batch", tmp_path, "--data", real_data("FashionMNIST").parent, "--peers", "kmeans,floor",
             "--rows", 500, "--side", 5, "--epochs", 1, "--repeats", 1, "--threads", 1)  # fmt: skip


@pytest.mark.data
def test_growing(tmp_path):
    measured("growing", tmp_path, "--data", real_data("uci"), "--epochs", 1, "--repeats", 1)


@pytest.mark.usefixtures("joined")
def test_memory(tmp_path):
    words = ["--rows", 20000, "--features", 8, "--workers", 1, "--batch-size", 5000, "--scratch", tmp_path]
    measured("memory", tmp_path / "out", *words)


def test_overhead(tmp_path):
    measured("overhead", tmp_path, "--workers", 0, "--repeats", 1)


@pytest.mark.usefixtures("joined")
def test_predict(tmp_path, digits):
    from pipeline.training.trainer import train

    train(small("sssom", digits), tmp_path / "run")
    words = ["--model", tmp_path / "run", "--input", digits / "test", "--actors", "1", "--repeats", 1]
    measured("predict", tmp_path / "out", *words)


@pytest.mark.usefixtures("joined")
def test_tracking(tmp_path):
    measured("tracking", tmp_path, "--epochs", 2, "--repeats", 1, "--trials", 1, "--children", 3)


@pytest.mark.usefixtures("joined")
def test_scaling(tmp_path):
    words = ["--workers", 2, "--rounds", 1, "--repeats", 1, "--tile-size", 64, "--scratch", tmp_path]
    measured("scaling", tmp_path / "out", *words)
