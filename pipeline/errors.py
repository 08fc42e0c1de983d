"""Picklable errors with one grammar: which field, what it must be, what it was, where, what to do.

Two families. `UserError` is a ValueError: whoever typed the command or wrote the file can fix it, and a job
ends with its line and exit code 2. `MachineError` is a RuntimeError: a process, a node or a disk failed, and
a job ends with exit code 1. Both survive pickling with their attributes, because Ray carries errors between
processes by pickle.
"""

from __future__ import annotations

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Any

_OURS = ("somcore", "pipeline", "jobs", "__main__")
_FIXABLE = {
    "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENAMETOOLONG"
}  # fmt: skip


class _Carried(Exception):
    """Mixin: keeps the keyword attributes of an error through pickle.

    An exception is pickled as (class, args); attributes set by keyword would be lost without this.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details

    def __getattr__(self, name: str) -> Any:
        details = self.__dict__.get("details", {})
        if name in details:
            return details[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.__dict__.get("details", {}))


def _rebuild(kind: type, message: str, details: dict[str, Any]) -> BaseException:
    error: BaseException = kind(message, **details)
    return error


class UserError(_Carried, ValueError):
    """Something the user can fix: an option, a file, a value. Jobs exit with code 2.

    Args:
        message: One line in the grammar of this module.
        details: Facts a caller may want to read from the error (path, row, column, ...).

    Example:
        >>> import pickle
        >>> pickle.loads(pickle.dumps(UserError("epochs must be >= 1. Got 0.", field="epochs"))).field
        'epochs'
    """


class DataError(UserError):
    """The raw data cannot be used as it is: a missing file, an invalid value, a wrong shape."""


class UnreadableSample(DataError):
    """One sample of many cannot be decoded; `fault` says which and why. --drop-invalid leaves it out."""


class ManifestError(UserError):
    """A prepared data set does not match its manifest, or is not one."""


class OutputError(UserError):
    """An output directory belongs to something else, or cannot be written."""


class MachineError(_Carried, RuntimeError):
    """Something a machine did: a process died, a node vanished, a collective failed. Exit code 1."""


class WorkerLost(MachineError):
    """A worker process ended or stopped answering during a round."""


class RoundFailed(MachineError):
    """A round could not be completed with every contribution counted exactly once."""


class Collapsed(UserError):
    """The representation of a deep run has lost its clusters; other settings are needed."""


class Diverged(UserError):
    """Numbers of a deep run are no longer finite; other settings are needed."""


class GroupTimeout(MachineError):
    """The group of workers could not be formed, or did not answer, in time."""


class OutputLost(MachineError):
    """The output directory was taken away while it was worked in."""


class TrackingUnavailable(MachineError):
    """The tracking server cannot be reached. Training goes on without it."""


def must(field: str, requirement: str, got: object, where: str = "", remedy: str = "") -> UserError:
    """A user error in the common grammar, to be raised by the caller.

    Args:
        field: Name of the option or value, as the user typed it.
        requirement: What it must be, to be read after "must be".
        got: What it was.
        where: Place (file, shard, row), put in front.
        remedy: What to do, put last.

    Returns:
        The error.

    Example:
        >>> str(must("activation_threshold", "in (0, 1)", 1.2))
        'activation_threshold must be in (0, 1). Got 1.2.'
    """
    front = f"{where}: " if where else ""
    tail = f" {remedy}" if remedy else ""
    return UserError(f"{front}{field} must be {requirement}. Got {got!r}.{tail}", field=field)


def not_in_utf8() -> UserError | None:
    """What is wrong where the names of files are not read as UTF-8, which is no fault of theirs; None where they are.

    Example:
        >>> not_in_utf8() is None  # with a locale of today
        True
    """
    if (encoding := sys.getfilesystemencoding()) == "utf-8":
        return None
    return UserError(
        f"Text must be read as UTF-8, and the locale (LC_ALL, LC_CTYPE or LANG) says {encoding}. Set PYTHONUTF8=1, or "
        "a locale such as C.UTF-8."
    )


def some(names: Iterable[object], most: int) -> str:
    """A list in words, cut where it is long.

    Example:
        >>> some("abc", 3), some("abcd", 3)
        ('a, b, c', 'a, b, c, ...')
    """
    words = [str(name) for name in names]
    return ", ".join(words[:most]) + ", ..." * (len(words) > most)


def nearest(word: str, words: Iterable[str], most: int = 1) -> list[str]:
    """The words that look most like one, the likest first; none where all are too different."""
    return difflib.get_close_matches(word, list(words), n=most, cutoff=0.6)


def theirs_to_mend(error: BaseException) -> bool:
    """Whether whoever typed the command can mend it: a job ends with exit code 2.

    Args:
        error: as it was caught. A ValueError of our own code is the user's to mend; one out of a library is a fault
            of ours.

    Example:
        >>> [theirs_to_mend(error) for error in (Diverged("..."), OSError(28, "full"), OSError(5, "broken"))]
        [True, True, False]
    """
    if isinstance(error, OSError):
        return errno.errorcode.get(error.errno or 0) in _FIXABLE
    if isinstance(error, UserError) or not isinstance(error, ValueError):
        return isinstance(error, UserError)
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and frames[-1][0].f_globals.get("__name__", "").split(".")[0] in _OURS


def line_of(error: BaseException) -> str:
    """What is said of an error: its text in one line; of the system's errors what is wrong with which file.

    Example:
        >>> line_of(OSError(28, "No space left on device", "runs/a/map.safetensors"))
        "'runs/a/map.safetensors': No space left on device."
    """
    if isinstance(error, OSError) and error.strerror:
        if isinstance(error, FileExistsError) and error.filename is not None and _dangles(error.filename):
            name = os.fsdecode(error.filename)
            return f"'{name}' is a link to something that is not there. Make that, or name another place."
        place = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        return f"{place}{error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


def _dangles(place: str | bytes | os.PathLike[str]) -> bool:
    return os.path.islink(place) and not os.path.exists(place)
