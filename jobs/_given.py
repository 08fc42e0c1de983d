"""What no job may be given, checked before its work: empty words, places inside of a data set, names nobody takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.core import TyperCommand

from pipeline.errors import UserError, must

# Never empty, nor are paths.
_NAMES = {"data", "model", "run", "register", "source", "tracking_uri", "experiment", "address"}
_ELSEWHERE = ("prepare", "features", "report", "export", "train")  # write a data set or a file, or look by themselves

# By which option a model is named.
_RUN = {"predict": "--model"} | dict.fromkeys(("evaluate", "export", "features", "report"), "--run")


def command_of(function: Callable[..., Any]) -> type[TyperCommand]:
    """A kind of command that refuses empty words where a place or name must be: a variable of the shell is not set.

    Args:
        function: of the job; its paths, and what is named above, cannot be empty.

    Returns:
        For typer; looks at the words as they were typed, because an empty path would mean the working directory.
    """
    paths = {name for name, kind in get_type_hints(function).items() if Path in (kind, *get_args(kind))}

    class Given(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            refuse_other_name(function.__name__, args)
            typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            for parameter in self.params:
                value = typed.get(parameter.name or "")
                words = value if isinstance(value, list | tuple) else [value]
                empty = any(isinstance(word, str) and not word.strip() for word in words)
                if empty and parameter.name in paths | _NAMES:
                    option = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
                    what = "a path" if parameter.name in paths else "a name or a place"
                    raise must(option, what, "", remedy="Is a variable of the shell not set?")
            return super().parse_args(ctx, args)

    return Given


def refuse_other_name(job: str, args: Sequence[str]) -> None:
    """A trained model is named by one option here and by another there.

    Raises:
        UserError: it is named by the other one.
    """
    option = _RUN.get(job)
    other = {"--run": "--model", "--model": "--run"}.get(option or "")
    if option and any(word.partition("=")[0] == other for word in args):
        raise UserError(f"The trained model must be named by {option} here. Got {other}.")


def check(job: str, options: Mapping[str, Any]) -> None:
    """Looks at what several jobs are given, before one begins.

    Args:
        job: its name.
        options: by parameter.

    Raises:
        UserError: `--out` for results is in a prepared data set, or cannot be written; `--register` is no name for a
            model; MLflow has no stores of the kind of `--tracking-uri`.
    """
    out = options.get("out")
    if isinstance(out, Path) and job not in _ELSEWHERE:
        from pipeline.places import check_writable, refuse_in_data_set

        refuse_in_data_set(out)
        check_writable(out)
    if "tracking_uri" in options:
        from pipeline.tracking.tracker import check_store

        check_store(options["tracking_uri"])
    if options.get("register") is not None:
        from pipeline.serving.model import check_name

        check_name(options["register"])


def check_model_store(option: str, uri: str | None, before: str | None) -> None:
    """A model is logged with its run, which has to be recorded.

    Args:
        option: that asks for the model.
        uri: MLflow store that is given.
        before: that of a run that goes on.

    Raises:
        UserError: nothing is recorded.
    """
    if (uri or before) == "none":
        remedy = "" if uri else "It began so: give a --tracking-uri, and all of it is recorded there."
        raise must(option, "used with an MLflow store", "--tracking-uri none", remedy=remedy)
