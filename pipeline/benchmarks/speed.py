"""What the measurements of speed and memory share: repeated timings, a store of results, one Markdown page of all."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.config import MODELS
from pipeline.errors import OutputError
from pipeline.places import write_atomically

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


def publish(name: str, result: dict[str, Any], markdown: str, out: Path, table_out: Path | None) -> dict[str, Any]:
    """Keep a result, and write the page of all results that are kept.

    Args:
        name: a section of one of PAGES.
        result: numbers, for JSON.
        markdown: its section of the page.
        out: folder of the results.
        table_out: the page; None = its own name below `out`.

    Returns:
        The result and the path of the page.
    """
    own = next(page for page, (_, sections) in PAGES.items() if name in sections)
    title, sections = PAGES[own]
    page = table_out or out / f"{own}.md"
    try:
        out.mkdir(parents=True, exist_ok=True)
        page.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out / f"{name}.json", json.dumps({"result": result, "markdown": markdown}, indent=1).encode())
        kept = [out / f"{section}.json" for section in sections]
        parts = [json.loads(file.read_text())["markdown"] for file in kept if file.exists()]
        head = f"{title}\n\n{_GENERATED}"
        write_atomically(page, ("\n\n".join([head, *parts]) + "\n").encode())
    except OSError as error:
        raise OutputError(f"--out must be writable. Got {out}: {error.strerror}.") from error
    return {**result, "table": page}
