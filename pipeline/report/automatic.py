"""The report at the end of a training or a sweep, which must not suffer from it whatever happens.

It looks at fewer rows than `jobs.report`, so that it takes seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE, FIGURES = "report.html", "figures"
_ROWS, _EMBEDDED, _CELLS = 20_000, 1000, 1_000_000


def wanted(setting: bool | None = None) -> bool:
    """Whether a report is made: as `tracking.report` says, else unless the environment has SOMGRAD_REPORT=0."""
    return os.environ.get("SOMGRAD_REPORT", "1") != "0" if setting is None else setting


def report_of_run(directory: Path, figures: bool, say: Callable[[str], None]) -> list[Path]:
    """Writes the report of a finished run into its directory; what there is to record.

    Args:
        directory: of the run.
        figures: whether figures are made too, for MLflow.
        say: told where it is, or in one line why there is none.
    """
    try:
        from pipeline.report.collect import collect
        from pipeline.report.figures import all_figures
        from pipeline.report.make import run_page
        from pipeline.report.page import write_page
        from pipeline.report.tables import write_tables

        data = collect(directory, _ROWS, _EMBEDDED)
        tables = write_tables(data, directory / PAGE, _CELLS)
        write_page(run_page(data, ("pca", "tsne"), tables), directory / PAGE)
    except (Exception, KeyboardInterrupt) as error:  # the training is done: nothing may take it back
        return _failed(directory, error, say)
    say(f"Report: {directory / PAGE}")
    return [directory / PAGE, *tables, *(_figures(directory, lambda: all_figures(data), say) if figures else [])]


def report_of_sweep(directory: Path, say: Callable[[str], None]) -> list[Path]:
    """Writes the report of a sweep into its folder; what there is to record."""
    try:
        from pipeline.report.page import write_page
        from pipeline.report.sweep_data import SweepData
        from pipeline.report.sweeps import fractions_figure, sweep_page

        data = SweepData(directory)
        write_page(sweep_page(data), directory / PAGE)
    except (Exception, KeyboardInterrupt) as error:
        return _failed(directory, error, say)
    say(f"Report: {directory / PAGE}")
    made = _figures(directory, lambda: {f"fractions-{n}": fractions_figure(data, n) for n in data.tables}, say)
    return [directory / PAGE, *made]


def _figures(directory: Path, make: Callable[[], dict[str, Any]], say: Callable[[str], None]) -> list[Path]:
    """The figures beside a page that is written: without them there is still the page."""
    try:
        from pipeline.report.figures import save

        save(make(), directory / FIGURES)
        return [directory / FIGURES]
    except (Exception, KeyboardInterrupt) as error:
        say(f"There are no figures ({_reason(error)}).")
        return []


def _failed(directory: Path, error: BaseException, say: Callable[[str], None]) -> list[Path]:
    page = directory / PAGE
    say(f"There is no report ({_reason(error)}). Try again: python -m jobs.report --run {directory} --out {page}")
    return []


def _reason(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
