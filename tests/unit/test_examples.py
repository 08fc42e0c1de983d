"""The examples in docstrings run and give what they say, and the training loop of docs/deep.md learns."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

MODULES = [
    module.name
    for package in ("somcore", "pipeline")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize(("stale", "least", "most"), [(False, 0.9, 1.0), (True, 0.0, 0.8)])
def test_the_documented_loop_learns_where_a_stale_threshold_would_not(stale, least, most, tmp_path, monkeypatch):
    """At ten times its rate, where features spread ten times as fast; one row is left over, which has no pair."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "deep.md").read_text(encoding="utf-8")
    loop = re.search(r"^```python\n(.*?)^```", page, re.M | re.S)[1]
    calibration = "layer.calibrate(features.detach())"
    assert loop.count(calibration) == loop.count("lr=1e-3") == 1 and 1409 % 128 == 1
    loop = loop.replace("1400", "1409")
    names = {}
    exec(loop.replace(calibration, f"layer.state.round and {stale} or {calibration}").replace("1e-3", "1e-2"), names)
    assert least <= names["accuracy"] <= most and names["layer"].state.num_classes == 10
