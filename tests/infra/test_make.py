"""The Makefile: its help lists every target, every target that it lists is there, clean keeps results."""

import re
import subprocess

import pytest

from tests.conftest import LAYERS
from tests.infra.files import BIN, ROOT, version

TEXT = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", TEXT, re.M))


def make(*words, cwd=ROOT):
    return subprocess.run(["make", *words], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_help_lists_every_target():
    shown = make("help").stdout
    assert f"somgrad {version()}: make <target>" in shown
    assert set(re.findall(r"^  ([a-z][a-z-]*)  +\S", shown, re.M)) == TARGETS
    assert make().stdout == shown


def test_layers_are_the_folders_of_tests():
    (listed,) = re.findall(r"^LAYERS := (.*)$", TEXT, re.M)
    folders = {path.name for path in (ROOT / "tests").iterdir() if list(path.glob("test_*.py"))}
    assert set(listed.split()) == set(LAYERS) == folders
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert all(f"| `{layer}/` |" in contributing for layer in LAYERS)


@pytest.mark.parametrize("target", sorted(TARGETS - {"help", "clean"}))
def test_a_target_can_be_made_of_what_is_there(target):
    done = make("--dry-run", "-o", "setup", f"BIN={BIN}", target)
    assert done.returncode == 0, done.stderr


def test_clean_keeps_results_and_removes_what_can_be_made_again(tmp_path):
    (tmp_path / "Makefile").write_text(TEXT)
    keep = ("runs/a/run.json", "demo/mlflow.db", "data/digits/manifest.json", "mlflow.db", "somcore/state.py")
    gone = (".venv/bin/python", "dist/x.whl", "build/x", "somgrad.egg-info/x", ".mypy_cache/x", "somcore/__pycache__/x")
    for name in (*keep, *gone):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert make("clean", cwd=tmp_path).returncode == 0
    assert [name for name in keep if not (tmp_path / name).exists()] == []
    assert [name for name in gone if (tmp_path / name).exists()] == []


def test_setup_says_what_is_wrong_with_a_python_that_is_not_there(tmp_path):
    (tmp_path / "Makefile").write_text(TEXT)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "somcore").mkdir()
    (tmp_path / "somcore/__init__.py").write_text('__version__ = "1"\n')
    done = make("setup", "PYTHON=no-such-python", cwd=tmp_path)
    assert done.returncode != 0
    assert "no-such-python was not found" in done.stderr


def test_bytecode_is_kept_whatever_the_shell_says(monkeypatch):
    """`pip install --no-compile` leaves it to the first import: without it every process compiles all libraries."""
    assert "--no-compile" in TEXT
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    done = make("--eval", "probe: ; @env", "probe")
    assert "PATH=" in done.stdout and "PYTHONDONTWRITEBYTECODE" not in done.stdout
