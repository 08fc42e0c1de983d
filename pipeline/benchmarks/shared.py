"""What benchmarks share: raw data, repeated timings, designs and results that are kept, one Markdown page of all."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.config import MODELS, RunConfig
from pipeline.errors import OutputError, UserError
from pipeline.places import write_atomically
from pipeline.prepared.shards import Dataset
from pipeline.training.checkpoint import refuse_shared

Report = Callable[[str], None]
_GENERATED = "Generated: each section names its command. Ratios say more than seconds."
PAGES = {
    "speed": ("# Speed", ("batch", "growing", "overhead")),
    "elastic": ("# Elastic: kills, scaling, memory", (*(f"soak-{model}" for model in MODELS), "scaling", "memory")),
    "sweeps": ("# Sweeps, tracking, prediction", ("kills", "tracking", "predict")),
}  # title and sections of a page


@contextlib.contextmanager
def scratch(name: str, folder: Path | None) -> Iterator[Path]:
    """A directory for what a benchmark writes meanwhile, in a folder or else where the system has such; gone after."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"somgrad-{name}-", dir=folder, ignore_cleanup_errors=True) as place:
        yield Path(place)


def default_data() -> Path:
    """Where raw data are: $SOMGRAD_DATA, else ../shared/data beside the repository."""
    repository = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("SOMGRAD_DATA") or repository.parent / "shared" / "data")


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and what it gave."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def spread(values: list[float]) -> dict[str, float]:
    """Smallest, median and largest of repeated measurements."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values), "repeats": len(values)}


def in_words(seconds: dict[str, float], digits: int = 2) -> str:
    """A spread as text: median (min to max)."""
    return f"{seconds['median']:.{digits}f} ({seconds['min']:.{digits}f} to {seconds['max']:.{digits}f})"


def machine(threads: int) -> dict[str, Any]:
    """What the numbers depend on; the load tells whether they were alone."""
    return {
        "cpus": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1),
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def keep_design(folder: Path, design: dict[str, Any]) -> None:
    """Writes into the folder of kept results what they are results of.

    Args:
        folder: made if it is not there.
        design: settings, data and the like, as JSON values.

    Raises:
        UserError: the folder keeps results of something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "design.json"
    text = json.dumps(design, indent=1, sort_keys=True)
    if path.exists() and json.loads(path.read_text()) != json.loads(text):
        raise UserError(f"--out must be new, or of the same design. {folder} has another; see its {path.name}.")
    if not path.exists():
        write_atomically(path, text.encode())


def design_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the results of runs: their settings but for places and workers, and the digest of the data.

    Raises:
        ValueError: the settings are not those of a run or hold a place for checkpoints, or there is no data set.
    """
    refuse_shared(settings)
    RunConfig.build(settings)
    free = ("data.path", "cluster.", "tracking.")
    decisive = {key: value for key, value in settings.items() if not key.startswith(free)}
    return decisive | {"data": Dataset.open(settings["data.path"]).manifest_hash}


def with_section(page: str, section: str) -> str:
    """A Markdown page with a section in place of the one that has its heading, or else at the end."""
    heading = section.split("\n", 1)[0]
    parts = [part.strip() for part in re.split(r"^(?=## )", page, flags=re.MULTILINE)]
    places = [place for place, part in enumerate(parts) if part.split("\n", 1)[0] == heading] or [len(parts)]
    parts[places[0] : places[0] + 1] = [section.strip()]
    return "\n\n".join(parts) + "\n"


def publish(name: str, result: dict[str, Any], markdown: str, out: Path, table_out: Path | None) -> dict[str, Any]:
    """Keep a result, and put its section into its page, whose other sections stay as they are.

    Args:
        name: a section of one of PAGES.
        result: numbers, for JSON.
        markdown: its section of the page, from the heading on.
        out: folder of the results.
        table_out: the page; None = its own name below `out`.

    Returns:
        The result and the path of the page.
    """
    own = next(page for page, (_, sections) in PAGES.items() if name in sections)
    page = table_out or out / f"{own}.md"
    try:
        out.mkdir(parents=True, exist_ok=True)
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / f"{name}.json", json.dumps({"result": result, "markdown": markdown}, indent=1).encode())
        before = page.read_text("utf-8") if page.exists() else f"{PAGES[own][0]}\n\n{_GENERATED}\n"
        write_atomically(page, with_section(before, markdown).encode())
    except OSError as error:
        raise OutputError(f"--out must be writable. Got {out}: {error.strerror}.") from error
    return {**result, "table": page}
