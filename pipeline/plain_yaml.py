"""Settings in YAML: numbers as JSON, YAML 1.2 and people write them, sections as dotted keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_EXPONENT = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+\Z")


def read_yaml(text: str) -> Any:
    """The content of a text in YAML, in plain values; 1e-3 is a number, which PyYAML takes for a word.

    Raises:
        ValueError: it is no YAML; says where.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """With one more kind of number."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506  a safe loader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'map': {'capacity': 5}} -> {'map.capacity': 5}; dotted keys stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
