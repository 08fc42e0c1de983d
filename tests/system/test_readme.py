"""Every bash and python block of the README and the docs runs as it stands, in a directory of its own.

A block that begins with `# file: NAME` is that file for the other blocks of its page. A block that needs what a test
does not have (files of the reader, a cluster) says so in a comment above: `<!-- needs: ... -->`. No other block
with commands may be left out. They share a Ray cluster, and the schema of their MLflow store is there: a reader who
has neither waits for both, some seconds at each command.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import real_data

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]  # results are measured, not run
BLOCK = re.compile(r"(?:^<!-- needs: (?P<needs>[^>]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.M | re.S)
COMMAND = re.compile(r"^\s*(python|somgrad|make|ray|pip|docker|kubectl|infra/\S+\.sh)\s", re.M)
QUICK = "--set map.epochs=1 --set map.pruning_epochs=0.5"  # a real run of MNIST takes minutes


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    name: str
    language: str
    text: str
    needs: str | None
    page: Path

    @property
    def file(self) -> str | None:
        """The file that it is; None = it is to be run."""
        found = re.match(r"# file: (\S+)\n", self.text)
        return found[1] if found else None


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    stem = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removeprefix("docs.")
    return [Block(f"{stem}-{n}", b["language"], b["text"], b["needs"], page) for n, b in enumerate(found)]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [b for b in BLOCKS if b.language in ("python", "bash") and not b.needs and not b.file]


def test_no_command_is_left_out_without_a_reason():
    silent = [b.name for b in BLOCKS if b.language not in ("python", "bash") and not b.needs and COMMAND.search(b.text)]
    assert not silent, "make them ```bash, or say above what they need: <!-- needs: ... -->"
    assert len(RUN) > 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
def test_block(block, tmp_path, ray_cluster, tracking_uri):
    for other in blocks_of(block.page):
        if other.file:
            (tmp_path / other.file).write_text(other.text)
    text = block.text
    if "--root PATH" in text:
        raw = real_data("MNIST/raw/train-images-idx3-ubyte.gz").parents[2]
        text = text.replace("--root PATH", f"--root '{raw}'").replace("jobs.train ", f"jobs.train {QUICK} ")
    words = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path, "RAY_ADDRESS": ray_cluster}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
