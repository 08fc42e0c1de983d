"""Every bash and python block of the README and the docs runs as it stands, in an empty directory.

Blocks without a language show commands on files that only their reader has.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import real_data

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = ["--set", "map.epochs=1", "--set", "map.pruning_epochs=0.5"]  # a real run of MNIST takes minutes


def blocks(language: str) -> list[tuple[str, str]]:
    """(name, text) of each fenced block of a language, in order."""
    found = []
    for page in PAGES:
        texts = re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
        found += [(f"{page.stem}-{number}", text) for number, text in enumerate(texts)]
    return found


@pytest.mark.parametrize("name, text", blocks("python"), ids=lambda value: value if "\n" not in value else "")
def test_python_block(name, text, tmp_path):
    run([sys.executable, "-c", text], tmp_path)


@pytest.mark.parametrize("name, text", blocks("bash"), ids=lambda value: value if "\n" not in value else "")
def test_shell_block(name, text, tmp_path):
    quick = "PATH" in text
    if quick:
        text = text.replace("PATH", str(real_data("MNIST/raw/train-images-idx3-ubyte.gz").parents[2]))
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] in ("python", "somgrad"):
            words[:1] = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "jobs.cli"]
        run(words + (QUICK if quick and "jobs.train" in words else []), tmp_path)


def run(words: list[str], cwd: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
