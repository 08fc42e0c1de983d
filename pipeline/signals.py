"""Signals: what must be finished is finished, and has what it needs until then."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


def heard_in_imports() -> None:
    """Imports numpy: torch does so in C, where an interruption is swallowed and leaves half of numpy behind."""
    import numpy  # noqa: F401


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Ignores SIGINT, SIGTERM and SIGHUP for a moment: saving a state, ending a record, letting workers go."""
    with _ignored(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextlib.contextmanager
def children_outlive_terminal() -> Iterator[None]:
    """Ignores SIGHUP while processes are begun: a terminal sends it to all in its group, and they inherit this."""
    with _ignored(signal.SIGHUP):
        yield


@contextlib.contextmanager
def sigterm_stays() -> Iterator[None]:
    """For Ray, which takes SIGTERM for itself when it begins, and when it ends leaves the system's way of it."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _ignored(*asking: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    try:
        _ignore(asking, before)
        yield
    finally:
        _restore(before)


def _ignore(asking: tuple[signal.Signals, ...], before: dict[signal.Signals, Any]) -> None:
    """One that comes before its turn interrupts what would ignore it, which then begins again."""
    try:
        for number in asking:
            before.setdefault(number, signal.getsignal(number))
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        if signal.SIGINT not in asking:  # it may be Ctrl-C, which was to be heard
            raise
        _ignore(asking, before)


def _restore(before: dict[signal.Signals, Any]) -> None:
    """One that is heard again, and comes, keeps none of the others away."""
    try:
        for number, handler in list(before.items()):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            del before[number]
    finally:
        if before:
            _restore(before)
