"""Errors survive pickling; every job ends with one line and the right exit code."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import pytest
import typer

from jobs._exit import end, exit_code
from jobs._run import job, run
from jobs._shown import command_line
from pipeline import errors
from tests.conftest import REPOSITORY

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
KINDS = [kind for kind in KINDS if not kind.__name__.startswith("_")]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_errors_travel_between_processes_with_their_details(kind):
    error = pickle.loads(pickle.dumps(kind("Worker 3 is lost.", worker=3)))
    assert type(error) is kind
    assert (str(error), error.worker) == ("Worker 3 is lost.", 3)
    assert isinstance(error, ValueError) == issubclass(kind, errors.UserError)
    assert isinstance(error, RuntimeError) == issubclass(kind, errors.MachineError)
    with pytest.raises(AttributeError):
        error.round  # noqa: B018 - the attribute is absent


def test_the_grammar_of_an_error():
    error = errors.must("label", "in 0..9", 11, where="t.csv: row 4", remedy="Clean it.")
    assert str(error) == "t.csv: row 4: label must be in 0..9. Got 11. Clean it."
    assert error.field == "label"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DataError("x"), 2),
        (errors.WorkerLost("x"), 1),
        (PermissionError(13, "Permission denied", "a"), 2),
        (OSError(28, "No space left on device"), 2),
        (ConnectionResetError(104, "reset"), 1),
        (KeyboardInterrupt(), 130),
        (KeyError("x"), 1),
    ],
)
def test_the_exit_code_of_an_error(error, code):
    assert exit_code(error) == code


@pytest.mark.parametrize("folder", [".", "runs"])
def test_a_link_to_nothing_in_the_way_of_a_folder_is_said_to_be_one(tmp_path, folder):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError) as caught:
        (tmp_path / "link" / folder).mkdir(parents=True, exist_ok=True)
    told = f"'{tmp_path / 'link'}' is a link to something that is not there. Make that, or name another place."
    assert errors.line_of(caught.value) == told and exit_code(caught.value) == 2
    (tmp_path / "nowhere").write_text("")
    assert errors.line_of(caught.value) == f"'{tmp_path / 'link'}': File exists."


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "runs/a/model.npz"), "'runs/a/model.npz': No space left on device."),
        (OSError(28, "No space left on device"), "No space left on device."),
        (OSError(5, "Input/output error", "a"), "OSError: 'a': Input/output error. (--debug shows where)"),
    ],
)
def test_an_error_of_the_system_is_said_without_its_number(error, line, capsys):
    with pytest.raises(SystemExit):
        end(error, debug=False)
    assert capsys.readouterr().err == line + "\n"


def test_a_value_error_is_the_users_only_if_we_raised_it():
    from somcore.sampling import sample_indices

    def caught(function):
        with pytest.raises(ValueError) as info:
            function()
        return exit_code(info.value)

    import torch

    assert caught(lambda: sample_indices(0, 0, torch.arange(3), 3, "sideways")) == 2
    assert caught(lambda: json.loads("{")) == 1


def _command(monkeypatch, capsys, function, *arguments):
    monkeypatch.setattr(sys, "argv", ["x", *arguments])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            run(job(example="x 3")(function))
    finally:
        signal.signal(signal.SIGTERM, handler)
    return ended.value.code, *capsys.readouterr()


def _double(number: Annotated[int, typer.Argument(help="A number.")], path: Path = Path("a")) -> dict:
    """Doubles."""
    print("working")
    if number == 9:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    return {"twice": 2 * number, "share": float("nan"), "path": path, "list": (float("inf"), 1.5)}


def test_json_is_the_last_line_and_valid(monkeypatch, capsys):
    code, out, err = _command(monkeypatch, capsys, _double, "4", "--json", "--path", "b/c")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "working"
    assert json.loads(out.splitlines()[-1]) == {"twice": 8, "share": None, "path": "b/c", "list": [None, 1.5]}


def test_sigterm_is_an_interruption(monkeypatch, capsys):
    code, _, err = _command(monkeypatch, capsys, _double, "9")
    assert (code, err) == (130, "Interrupted.\n")


def test_an_error_wrapped_by_ray_is_shown_as_itself(monkeypatch, capsys):
    class RayTaskError(RuntimeError):
        """As Ray does it: the text is a traceback, the error itself is in `cause`."""

        cause = errors.DataError("Row 3 is NaN.\nClean it.")

    def fails() -> None:
        """Fails."""
        raise RayTaskError("Traceback ...\n ...")

    code, _, err = _command(monkeypatch, capsys, fails)
    assert (code, err) == (2, "Row 3 is NaN. Clean it.\n")


def test_the_somgrad_command_runs_a_job(tmp_path):
    command = [sys.executable, "-m", "jobs.cli", "prepare", "digits", "--out", tmp_path / "d", "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["num_samples"] == {"train": 1438, "test": 359}
    command = [sys.executable, "-m", "jobs.cli", "prapare"]
    wrong = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (wrong.returncode, wrong.stderr) == (2, "No such command 'prapare'. Try --help.\n")


@pytest.mark.parametrize("named", ["wörter", "link"])
def test_a_locale_that_is_not_utf_8_is_what_is_wrong_with_a_name(tmp_path, named):
    """The words of the command are not ASCII, or the names of files that it meets are not."""
    (tmp_path / "wörter" / "ä").mkdir(parents=True)
    (tmp_path / "wörter" / "ä" / "1.png").touch()
    (tmp_path / "link").symlink_to("wörter")
    done = subprocess.run(
        [sys.executable, "-m", "jobs.prepare", "images", "--root", tmp_path / named, "--out", tmp_path / "out"],
        cwd=REPOSITORY,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert (
        done.stderr.startswith("Text must be read as UTF-8, and the locale (LC_ALL, ") and "PYTHONUTF8=1" in done.stderr
    )


def test_text_that_cannot_be_printed_is_told_so_too(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        end(UnicodeEncodeError("ascii", "ü", 0, 1, "not in range"), debug=False)
    assert capsys.readouterr().err.startswith("UnicodeEncodeError: ")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(SystemExit) as ended:
        end(UnicodeEncodeError("ascii", "ü", 0, 1, "not in range"), debug=False)
    assert ended.value.code == 2 and "says ascii. Set PYTHONUTF8=1" in capsys.readouterr().err


@pytest.mark.parametrize("at_once", ["", "1"])
@pytest.mark.parametrize("writes", ["print('x')", "print('x' * 100_000)", "say('x')"])
def test_a_job_whose_output_nobody_reads_any_more_ends_quietly(writes, at_once):
    """As with `| head`: the system would end a program so that does not ignore SIGPIPE, as Python does."""
    program = f"""
from jobs._run import job, run
from jobs._shown import say
def f() -> dict:
    "Says something."
    {writes}
run(job(example="")(f))
"""
    read, write = os.pipe()
    os.close(read)
    out, err = (subprocess.PIPE, write) if "say" in writes else (write, subprocess.PIPE)
    kept = {**os.environ, "PYTHONUNBUFFERED": at_once}
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, stdout=out, stderr=err, env=kept, timeout=60)
    os.close(write)
    assert done.returncode == 141 and not done.stdout and not done.stderr


@pytest.mark.parametrize("called", [["somgrad", "compare"], ["cli.py", "compare"], ["compare.py"]])
def test_a_command_tells_how_to_run_it_again_by_whichever_name_it_was_called(called, monkeypatch):
    words = ["--out", "my runs", "--tracking-uri", "http://me:PASSWORD@192.0.2.1:5000"]
    monkeypatch.setattr(sys, "argv", [*called, *words])
    told = "python -m jobs.compare --out 'my runs' --tracking-uri http://192.0.2.1:5000"
    assert command_line("compare") == told
