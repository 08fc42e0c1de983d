"""The examples in docstrings run and give what they say."""

import doctest
import importlib
import pkgutil

import pytest

MODULES = [
    module.name
    for package in ("somcore", "pipeline")
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
