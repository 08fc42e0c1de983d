"""A source of the user that does not keep its word: one line with field, batch and row, and nothing is written."""

import dataclasses
import signal
import sys

import numpy as np
import pytest

from jobs._run import run
from jobs.prepare import app
from pipeline.errors import UserError
from pipeline.prepare import prepare
from pipeline.prepared.manifest import Manifest
from pipeline.sources import Batch, SourceOptions, SourceSpec

SPEC = SourceSpec(kind="table", shape=(2,), dtype="float32", class_names=("a", "b"))
SOUNDS = {"kind": "audio", "shape": (8,), "value_range": (0.0, 1.0), "details": {"sample_rate": 8000}}
IMAGES = {"kind": "image", "shape": (1, 2, 2), "value_range": (0.0, 1.0)}


class Own:
    """Two good batches of 20 rows, the second one changed."""

    name, options = "own", SourceOptions()

    def __init__(self, changes=None, **described):
        self.spec, self.changes = dataclasses.replace(SPEC, **described), changes or {}

    def batches(self):
        for number in range(2):
            rows = np.arange(20) + 20 * number
            features = np.ones((20, *self.spec.shape), dtype=self.spec.dtype)
            batch = Batch(features=features, labels=rows % 2, keys=rows, rows=rows, split="train", place="here")
            yield dataclasses.replace(batch, **self.changes) if number else batch


def value(number, place=3):
    labels = np.arange(20) % 2
    labels[place] = number
    return labels


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"labels": np.zeros(3, int)}, "labels must be an array of one for each of the 20 samples. Got 'int64"),
        ({"labels": np.zeros((20, 1), int)}, "labels must be an array of one for each of the 20 .* Got 'int64"),
        ({"labels": [0] * 20}, "labels must be an array of one for .* Got 'an object of class list'"),
        ({"labels": np.zeros(20)}, "labels must be integers. Got 'float64'"),
        ({"labels": np.zeros(20, bool)}, "labels must be integers. Got 'bool'"),
        ({"labels": value(2)}, "row 23: label must be a code in 0..1, or -1 for unlabelled. Got 2"),
        ({"labels": value(-2)}, "row 23: label must be a code in 0..1, or -1 for unlabelled. Got -2"),
        ({"features": np.ones((20, 2))}, r"features must be float32 of shape \(n, 2\), as .* Got 'float64 of"),
        ({"features": np.ones((20, 3), "f")}, r"features must be float32 of shape \(n, 2\), .* Got .*\(20, 3"),
        ({"features": np.ones(20, "f")}, r"features must be float32 of shape \(n, 2\), .* Got .*\(20,\)'"),
        ({"features": [[1.0, 1.0]] * 20}, "features must be float32 .* Got 'an object of class list'"),
        ({"split": "dev"}, "split must be train, validation or test. Got 'dev'"),
        ({"keys": np.arange(4)}, "keys must be an array of one for each of the 20 samples"),
        ({"keys": np.arange(20) / 2}, "keys must be all integers or all strings. Got 'float64'"),
        ({"keys": np.array([*"abcdefghijklmnopqrs", 7], object)}, "row 39: key must be a string, as .* Got 7"),
        ({"keys": np.array([*"abcdefghijklmnopqrst"])}, "keys must be all integers or all strings. Got 'both"),
        ({"keys": np.arange(20) + 19}, "row 20: key must be another one for each row of a split. Got 19."),
        ({"rows": np.arange(20) / 2}, "rows must be integers. Got 'float64'"),
    ],
)  # fmt: skip
def test_a_wrong_batch_is_named(tmp_path, changes, line):
    with pytest.raises(UserError, match=rf"^Batch 1 \(here\): {line}") as caught:
        prepare(Own(changes), tmp_path / "out")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("described", "line"),
    [
        ({"kind": "foo"}, "kind must be image, table or audio. Got 'foo'"),
        ({"shape": (2, 2)}, r"shape must be \(D,\) with integers >= 1, as of one table sample. Got \(2, 2\)"),
        ({"shape": 2}, r"shape must be \(D,\) .* Got 2"),
        ({**IMAGES, "shape": (2, 2)}, r"shape must be \(C, H, W\) .* Got \(2, 2\)"),
        ({"shape": (0,)}, r"shape must be \(D,\) .* Got \(0,\)"),
        ({"dtype": "float64"}, "dtype must be uint8, float32 or int16. Got 'float64'"),
        ({"class_names": (0, 1)}, r"class_names must be strings. Got \(0, 1\)"),
        ({"feature_names": ("x",)}, "feature_names must be 2 names, as shape says. Got 1"),
        ({"class_names": ("a", "b", "a")}, "class_names must be names of which no two are alike. Got 'a'"),
        ({"feature_names": ("x", "x")}, "feature_names must be names of which no two are alike. Got 'x'"),
        ({**IMAGES, "value_range": None}, "value_range must be two finite numbers, the least .* Got None"),
        ({**IMAGES, "value_range": (1.0, 0.0)}, r"value_range must be two finite .* Got \(1.0, 0.0\)"),
        ({**IMAGES, "value_range": (0.0, float("inf"))}, "value_range must be two finite .* inf"),
        ({**SOUNDS, "details": {}}, r"details\['sample_rate'\] must be samples per second .* Got None"),
        ({"details": {"rate": np.int64(8000)}}, r"details must be values that JSON can hold \(.*int64"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_named(tmp_path, described, line):
    with pytest.raises(UserError, match=f"^Source 'own': {line}"):
        prepare(Own(**described), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.full(20, -1, np.int8)},
        {"keys": np.arange(20, dtype=np.uint8), "split": "test"},  # keys differ within a split
        {"keys": np.array([*"abcdefghijklmnopqrst"]), "split": "validation"},
    ],
)
def test_what_may_differ_is_taken(tmp_path, changes):
    manifest = prepare(Own(changes), tmp_path / "out")
    assert sum(split.num_samples for split in manifest.splits.values()) == 40
    assert Manifest.load(tmp_path / "out") == manifest


def test_batches_are_batches(tmp_path):
    source = Own()
    source.batches = lambda: iter([(np.ones((2, 2)), np.zeros(2))])
    with pytest.raises(UserError, match=r"Batch 0: What batches\(\) yields must be .* Batch or Undecoded. Got 'tuple'"):
        prepare(source, tmp_path / "out")


def test_values_outside_the_range_are_named(tmp_path):
    features = np.ones((20, 1, 2, 2), dtype=np.float32)
    features[4, 0, 1, 0] = 255
    with pytest.raises(UserError, match=r"row 24: features must be in \[0, 1\], the value_range .* Got 255.0"):
        prepare(Own({"features": features}, **IMAGES), tmp_path / "out")


@pytest.mark.parametrize("described", [{}, IMAGES, SOUNDS])
def test_a_batch_may_be_empty(tmp_path, described):
    shape = described.get("shape", (2,))
    none = {name: np.zeros(0, int) for name in ("labels", "keys", "rows")}
    manifest = prepare(Own({"features": np.ones((0, *shape), "f"), **none}, **described), tmp_path / "out")
    assert manifest.splits["train"].num_samples == 20


def test_a_nan_in_an_image_has_its_row(tmp_path):
    features = np.ones((20, 1, 2, 2), dtype=np.float32)
    features[4, 0, 1, 0] = np.nan
    with pytest.raises(UserError, match="here: row 24 of column 'x2' is NaN"):
        prepare(Own({"features": features}, **IMAGES), tmp_path / "out")


def test_a_command_ends_with_that_line_and_an_earlier_data_set_stays(tmp_path, capsys, monkeypatch):
    import pipeline.sources

    before = prepare(Own(), tmp_path / "out")
    wrong = Own({"labels": value(7)})
    wrong.name = "another"
    monkeypatch.setattr(pipeline.sources, "open_source", lambda *given: wrong)
    monkeypatch.setattr(sys, "argv", ["prepare", "digits", "--out", str(tmp_path / "out"), "--overwrite"])
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run(app)
    signal.signal(signal.SIGTERM, handler)
    lines = capsys.readouterr().err.splitlines()
    wanted = "Batch 1 (here): row 23: label must be a code in 0..1, or -1 for unlabelled. Got 7."
    assert (ended.value.code, lines) == (2, [wanted])
    assert Manifest.load(tmp_path / "out") == before and [path.name for path in tmp_path.iterdir()] == ["out"]
