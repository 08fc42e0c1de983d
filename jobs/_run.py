"""How every job ends: one JSON line on demand, one line per error, and the exit codes of the interface."""

from __future__ import annotations

import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NoReturn

import typer

from jobs._exit import DONE, USER, end
from jobs._given import check, command_of
from pipeline.errors import UserError, must, not_in_utf8
from pipeline.signals import heard_in_imports

Json = Annotated[bool, typer.Option("--json", help="Make the last line of stdout one JSON object.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Ended(dict[str, Any]):
    """The result of a job that tells how something else ended, with an exit code of its own.

    Args:
        content: for `--json`.
        code: of this process.
    """

    def __init__(self, content: Mapping[str, Any], code: int) -> None:
        super().__init__(content)
        self.code = code


def job(example: str) -> Callable[[Callable[..., Any]], typer.Typer]:
    """Make a command of a function.

    Used as `app = job(example="python -m jobs.x ...")(function)`, then `run(app)`.

    The function's parameters are the options (typer), its docstring the help, its return value a mapping
    for `--json` (or None). `--json` and `--debug` are added to every job; SIGTERM and SIGHUP are KeyboardInterrupt.

    Args:
        example: A command line that works, shown by `--help`.

    Returns:
        A decorator that gives the typer application.
    """

    def decorate(function: Callable[..., Any]) -> typer.Typer:
        @functools.wraps(function)
        def command(**options: Any) -> None:
            as_json, debug = options.pop("as_json"), options.pop("debug")
            try:
                signal.signal(signal.SIGTERM, _interrupt)
                if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
                    signal.signal(signal.SIGHUP, _interrupt)
                heard_in_imports()
                check(function.__name__, options)
                result = function(**options)
                if as_json:
                    print(json.dumps(_plain(result or {}), allow_nan=False))
                print(end="", flush=True)
            except BaseException as error:
                end(error, debug)
            if isinstance(result, Ended):
                raise SystemExit(result.code)

        extra = {"as_json": Json, "debug": Debug}
        signature = inspect.signature(function, eval_str=True)  # annotations may be text, help and all
        kind = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(n, kind, default=False, annotation=a) for n, a in extra.items()]
        command.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*(p.replace(kind=kind) for p in signature.parameters.values()), *added]
        )
        command.__annotations__ = {**function.__annotations__, **extra}
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        name, text = function.__name__.replace("_", "-"), inspect.getdoc(function)
        app.command(name, cls=command_of(function), help=text, epilog=f"Example: {example}")(command)
        return app

    return decorate


def run(app: typer.Typer, name: str | None = None) -> NoReturn:
    """Run a job as a program, at the bottom of its module, and exit with its code."""
    try:
        if (wrong := not_in_utf8()) and not "".join([*sys.argv, os.getcwd()]).isascii():
            raise wrong
        code = typer.main.get_command(app).main(prog_name=name, standalone_mode=False)
    except UserError as error:
        end(error, debug=False)
    except Exception as error:  # of the command line: the errors of a job have ended the process already
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message().strip()
        hint = "" if "\n" in text else " Try --help."
        print(f"{text}{hint}", file=sys.stderr, flush=True)
        raise SystemExit(USER) from None
    raise SystemExit(code if isinstance(code, int) else DONE)


def numbers(option: str, text: str, kind: type) -> list[Any]:
    """Reads `0.01,0.05` or `0,1,2`.

    Raises:
        UserError: something is no number of that kind, or stands twice.
    """
    try:
        found = [kind(word) for word in text.split(",")]
    except ValueError:
        raise must(option, f"{'integers' if kind is int else 'numbers'}, separated by commas", text) from None
    if len(set(found)) != len(found):
        raise must(option, "free of repetitions", text)
    return found


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _plain(value: Any) -> Any:
    """The value in JSON's terms: NaN and infinities are null, paths are strings."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return os.fspath(value) if isinstance(value, os.PathLike) else value
