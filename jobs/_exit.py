"""Which exit code an error has, and its one line on stderr."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import NoReturn

import typer

from pipeline.errors import UserError

DONE, FAULT, USER, INTERRUPTED = 0, 1, 2, 130
_OURS = ("somcore", "pipeline", "jobs", "__main__")
_FIXABLE = {
    "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENAMETOOLONG"
}  # fmt: skip


def exit_code(error: BaseException) -> int:
    """Exit code of an error: 2 for what the user can fix, 130 for an interruption, 1 for the rest."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, UserError) or (isinstance(error, ValueError) and _raised_by_us(error)):
        return USER
    if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _FIXABLE:
        return USER
    return FAULT


def _raised_by_us(error: BaseException) -> bool:
    """A ValueError of our own code is the user's to fix; one out of a library is a fault of ours."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").split(".")[0] in _OURS


def end(error: BaseException, debug: bool) -> NoReturn:
    """End the process with one line on stderr and the exit code of the error."""
    if isinstance(error, (typer.Exit, SystemExit)):
        raise error
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    cause = getattr(error, "cause", None)  # Ray wraps the error of a worker in one whose text is a traceback
    if isinstance(cause, BaseException):
        error = cause
    if debug:
        traceback.print_exception(error)
    code = exit_code(error)
    text = " ".join(str(error).split()) or type(error).__name__
    if code == INTERRUPTED:
        text = f"Interrupted. {' '.join(str(error).split())}".strip()
    elif code == FAULT:
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(code)
