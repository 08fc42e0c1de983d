"""A command line that is to run elsewhere, checked here: its options, its paths, its files."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from jobs.cli import JOBS
from pipeline.cluster.task import module_of
from pipeline.config import parse_setting, read_file
from pipeline.errors import UserError, must
from pipeline.recipes import recipe_path
from pipeline.tracking.stores import is_relative

_SETTINGS = ("config", "unlabelled_config")
_FILES = (*_SETTINGS, "space")  # options whose files travel with the command
_PLACES = ("run", "model")  # options that may be a directory, a name or an id
_KEYS = {  # settings that say a place, each with its option
    "data.path": "data",
    "tracking.uri": "tracking_uri",
    "train.checkpoints": "checkpoints",
    "encoder.weights": "weights",
}


@dataclass(frozen=True)
class Words:
    """A command line, understood.

    Attributes:
        words: module and options.
        given: files here that the command reads there: option as typed -> file.
        resumable: whether it knows --resume.
        tracked: whether it writes to MLflow, and no option says where.
    """

    words: tuple[str, ...]
    given: dict[str, Path] = field(default_factory=dict)
    resumable: bool = False
    tracked: bool = False


def understand(typed: Sequence[str], workdir: str | None) -> Words:
    """Reads a command line as its job would.

    Args:
        typed: `train ...`, `somgrad train ...` or `python -m jobs.train ...`.
        workdir: where relative paths are looked for; None = they are refused.

    Raises:
        ValueError: the job would refuse the options; a path that the cluster could not find, or an address.
    """
    words = module_of(typed, [name for name in JOBS if name != "submit"])
    words = tuple(part for word in words for part in _parts(word))
    command: Any = typer.main.get_command(importlib.import_module(words[0]).app)
    try:
        context = command.make_context(words[0], list(words[1:]))
        if hasattr(command, "resolve_command"):  # a group of commands: the options are those of one of them
            name, command, rest = command.resolve_command(context, list(words[1:]))
            context = command.make_context(name, list(rest))
    except typer.TyperException as error:
        raise UserError(f"{error.format_message().strip().rstrip('.')}. Try python -m {words[0]} --help.") from None
    options = {parameter.name: parameter.opts[0] for parameter in command.params}
    given: dict[str, Path] = {}
    for name, value in context.params.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if name in _FILES and one is not None and Path(str(one)).is_file():
                given |= {word: Path(word) for word in words if Path(word) == Path(str(one))}
            elif workdir is None and _relative(name, one):
                raise _not_absolute(options[name], one)
    if workdir is None:
        _check_settings(context.params)
    if (address := context.params.get("address")) not in (None, "auto"):
        raise must("--address of the job", "left out: it runs on the cluster it is submitted to", address)
    tracked = "tracking_uri" in options and context.params["tracking_uri"] is None
    return Words(words, given, "resume" in options, tracked)


def _parts(word: str) -> list[str]:
    return word.split("=", 1) if word.startswith("--") and "=" in word else [word]


def _check_settings(options: dict[str, Any]) -> None:
    """No setting that counts may say a place that is relative, whether it is typed or in a file that travels."""
    typed = dict(parse_setting(text) for text in options.get("settings") or ())
    files = [str(options[name]) for name in _SETTINGS if options.get(name)]
    for settings in [typed, *(read_file(file) | typed for file in files if Path(file).is_file())]:
        for key, option in _KEYS.items():
            if not options.get(option) and _relative(option, settings.get(key)):
                raise _not_absolute(key, settings[key])


def _not_absolute(option: str, value: Any) -> UserError:
    return UserError(
        f"{option} must be an absolute path that all nodes see, or --workdir the folder there that relative paths mean."
        f" Got '{value}'."
    )


def _relative(name: str, value: Any) -> bool:
    if name == "tracking_uri":
        return isinstance(value, str) and value != "none" and is_relative(value)
    if name.endswith("config") and recipe_path(str(value)) is not None:
        return False  # it is among the code
    if name == "weights" and isinstance(value, str):
        _, _, value = value.partition(":")  # model:file
        return bool(value) and not value.startswith("/")
    if name in ("data", "checkpoints") and isinstance(value, str):
        return "://" not in value and not value.startswith("/")
    if name in _PLACES and isinstance(value, str):
        return "/" in value and ":/" not in value and not value.startswith("/")
    return isinstance(value, Path) and not value.is_absolute()
