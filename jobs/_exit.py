"""Which exit code an error has, and its one line on stderr."""

from __future__ import annotations

import os
import select
import sys
import traceback
from typing import NoReturn

import typer

from pipeline.errors import line_of, not_in_utf8, theirs_to_mend
from pipeline.tracking.stores import bare

DONE, FAULT, USER, INTERRUPTED = 0, 1, 2, 130
UNREAD = 141  # as the system ends a program whose output nobody reads any more


def exit_code(error: BaseException) -> int:
    """Exit code of an error: 2 for what the user can fix, 130 for an interruption, 1 for the rest."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return USER if theirs_to_mend(error) else FAULT


def end(error: BaseException, debug: bool) -> NoReturn:
    """End the process with one line on stderr and the exit code of the error."""
    if isinstance(error, (typer.Exit, SystemExit)):
        raise error
    if isinstance(error, typer.Abort):
        error = KeyboardInterrupt()
    cause = getattr(error, "cause", None)  # Ray wraps the error of a worker in one whose text is a traceback
    if isinstance(cause, BaseException):
        error = cause
    if isinstance(error, UnicodeEncodeError) and (wrong := not_in_utf8()):
        wrong.__cause__, error = error, wrong
    if isinstance(error, BrokenPipeError) and nobody_reads():
        raise SystemExit(UNREAD)
    if debug:
        print(bare("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    code = exit_code(error)
    text = bare(line_of(error))
    if code == INTERRUPTED:
        text = f"Interrupted. {' '.join(str(error).split())}".strip()
    elif code == FAULT:
        text = f"{type(error).__name__}: {text} (--debug shows where)"
    print(text, file=sys.stderr, flush=True)
    raise SystemExit(code)


def nobody_reads() -> bool:
    """Whether the reader of a pipe has gone, as `head` does; what was not read yet is let go then."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    gone = [number for number, event in poll.poll(0) if event & (select.POLLERR | select.POLLHUP)]
    for number in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return bool(gone)
