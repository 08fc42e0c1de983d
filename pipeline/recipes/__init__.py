"""Recipes: named settings of deep runs, one file each; `--config NAME` of a job, or `recipe(NAME)`.

Chosen on training data alone: labelled fractions of the training split, never the test split. What a recipe leaves
out has the default of `pipeline.deep.config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.plain_yaml import flatten, read_yaml

_FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Every recipe."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def recipe_path(name: str) -> Path | None:
    """The file of a recipe; None if there is no such recipe."""
    path = _FOLDER / f"{name}.yaml"
    return path if name in names() else None


def recipe(name: str) -> dict[str, Any]:
    """Flat settings of a recipe, to be handed to `pipeline.training.trainer.train` with a data set.

    Raises:
        ValueError: there is no such recipe.

    Example:
        >>> recipe("mnist")["encoder.augment"]
        'digits'
    """
    path = recipe_path(name)
    if path is None:
        raise ValueError(f"recipe must be one of {', '.join(names())}. Got '{name}'.")
    return flatten(read_yaml(path.read_text(encoding="utf-8")))
