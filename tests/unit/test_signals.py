"""Signals that come while others are about to be ignored."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.signals import children_outlive_terminal, unhurried
from tests.conftest import REPOSITORY

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(number, frame):
    raise KeyboardInterrupt


@pytest.fixture
def heard():
    """Every signal interrupts, as in a command; the handlers of before come back."""
    before = {number: signal.signal(number, interrupt) for number in ALL}
    yield lambda: all(signal.getsignal(number) is interrupt for number in ALL)
    for number, handler in before.items():
        signal.signal(number, handler)


def comes(monkeypatch, number, when):
    """Sends a signal as soon as a handler is set, once."""
    set_handler, sent = signal.signal, []

    def then(asked, handler):
        before = set_handler(asked, handler)
        if (asked, handler) == when and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
        return before

    monkeypatch.setattr(signal, "signal", then)


def test_a_second_signal_before_its_turn_is_ignored_like_the_first(monkeypatch, heard):
    comes(monkeypatch, signal.SIGTERM, (signal.SIGINT, signal.SIG_IGN))
    saved = []
    with unhurried():
        saved.append(True)
    assert saved and heard()


def test_a_signal_while_handlers_come_back_keeps_none_of_them_away(monkeypatch, heard):
    comes(monkeypatch, signal.SIGHUP, (signal.SIGHUP, interrupt))
    with pytest.raises(KeyboardInterrupt), unhurried():
        pass
    assert heard()


def test_ctrl_c_is_heard_where_only_the_terminal_is_not(monkeypatch, heard):
    comes(monkeypatch, signal.SIGINT, (signal.SIGHUP, signal.SIG_IGN))
    with pytest.raises(KeyboardInterrupt), children_outlive_terminal():
        pass
    assert heard()


def test_a_command_that_is_stopped_while_it_imports_ends_as_interrupted(tmp_path):
    """torch imports numpy in C, which swallows an interruption: numpy comes before it."""
    code = f"""
import os, runpy, signal, sys
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy.lib":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Stop())
sys.argv = ["train", "--data", "nowhere", "--model", "sssom", "--out", {str(tmp_path / "run")!r}]
runpy.run_module("jobs.train", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.strip()) == (130, "Interrupted.")
