"""What a sweep says at its end: a row per trial, the choices, and the same as files for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import MachineError, UserError
from pipeline.places import write_atomically
from pipeline.report.palette import printed
from pipeline.sweeps.folder import FAILED, FIGURE, FINISHED, PAGE, STOPPED, SWEEP, TABLE
from pipeline.sweeps.selection import best_trial, on_split, selected
from pipeline.sweeps.trials import settled

Row = dict[str, Any]


def summarise(rows: Sequence[Row], metric: str, num_trials: int) -> dict[str, Any]:
    """Counts, the best trial, the choices, all rows."""
    counts = {name: sum(row["status"] == name for row in rows) for name in (FINISHED, FAILED, STOPPED)}
    counts["waiting"] = num_trials - sum(counts.values())
    counts["to_retry"] = sum(row["status"] == FAILED and not settled(row) for row in rows)
    choices = {"best": best_trial(rows, metric), "selected": selected(rows, metric)}
    return {"trials": num_trials, **counts, **choices, "rows": list(rows)}


def in_one_line(result: Row) -> str:
    """How many trials ended how, and what `--resume` would do."""
    counts = [f"{result[name]} {name}" for name in (FINISHED, FAILED, STOPPED) if result[name]]
    again = f" --resume retries {result['to_retry']}." if result["to_retry"] else ""
    if result["waiting"]:
        counts.append(f"{result['waiting']} waiting")
        again += f" --resume --out {result['out']} goes on."
    return f"{result['trials']} trials: {', '.join(counts)}.{again} Table in {result['out']}/{TABLE}."


def all_failed(result: Row, first: Mapping[str, Any]) -> UserError | MachineError | None:
    """The error of a sweep in which no trial did anything but fail: the user's to mend if that of the first is.

    Args:
        result: of `summarise`.
        first: the record of the first trial.
    """
    if result["failed"] < result["trials"]:
        return None
    again = " --resume tries them again." if result["to_retry"] else ""
    kind = UserError if first.get("fixable") else MachineError
    return kind(f"All {result['trials']} trials failed. {str(first['error']).rstrip('.')}.{again}")


def write_results(folder: Path, model: str, result: dict[str, Any]) -> list[Path]:
    """Writes the table of trials, the choices as a page, and a figure where several fractions were swept.

    Returns:
        What is there now: these, and `sweep.json`.
    """
    choices = result["selected"]
    write_table(folder / TABLE, result["rows"])
    paths = [folder / TABLE]
    if choices:
        write_atomically(folder / PAGE, page(model, choices).encode())
        paths.append(folder / PAGE)
    if len({row["labelled_fraction"] for row in choices if row["mean"] is not None}) > 1:
        _draw(folder / FIGURE, model, choices)
        paths.append(folder / FIGURE)
    return [*paths, folder / SWEEP]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Rows as CSV, all or none; a row without a column has nothing there."""
    names, text = list(dict.fromkeys(name for row in rows for name in row)), io.StringIO(newline="")
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())


def write_so_far(folder: Path, rows: Sequence[Row], say: Callable[[str], None]) -> None:
    """The table of an interrupted sweep; one that cannot be written is told, and does not hide the interruption."""
    try:
        write_table(folder / TABLE, rows)
    except OSError as error:
        say(f"{folder / TABLE} could not be written: {error.strerror or error}.")


def page(model: str, choices: Sequence[Row]) -> str:
    """The choices as a table in Markdown."""
    lines = [f"# {model}: {choices[0]['metric']}{of_choice(choices[0])}", ""]
    known = " Rows of the train split were trained on." if any(row["split"] == "train" for row in choices) else ""
    lines += [f"Mean ± standard deviation (n − 1) over n seeds, or folds.{known}", ""]
    head = ["data", "labelled", "set", "split", choices[0]["metric"], "n", "validation", "sets"]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in choices:
        index = "by fold" if row["set"] is None else str(row["set"])
        cells = [row["data"], f"{100 * row['labelled_fraction']:g} %", index, row["split"] or "–", in_words(row)]
        score = "–" if row["score"] is None else f"{row['score']:.4f}"
        lines.append("| " + " | ".join([*cells, str(len(row["tests"])), score, str(row["of"])]) + " |")
    return "\n".join(lines) + "\n"


def of_choice(row: Row) -> str:
    """How a set was chosen; nothing of the only one."""
    return "" if row["score"] is None else f" of the sets chosen by {row['chosen_by']}"


def in_words(row: Row) -> str:
    """Mean and deviation of a choice."""
    if row["mean"] is None:
        return "unknown"
    return f"{row['mean']:.4f}" + ("" if row["sd"] is None else f" ± {row['sd']:.4f}")


def _draw(path: Path, model: str, choices: Sequence[Row]) -> None:
    """The metric by labelled fraction, a line per data set, bars of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    fractions = sorted({row["labelled_fraction"] for row in choices})
    for data in dict.fromkeys(row["data"] for row in choices):
        rows = [row for row in choices if row["data"] == data and row["mean"] is not None]
        places = [100 * row["labelled_fraction"] for row in rows]
        bars = [row["sd"] or 0.0 for row in rows]
        axes.errorbar(places, [row["mean"] for row in rows], yerr=bars, marker="o", capsize=3, label=printed(data))
    if min(fractions) > 0:
        axes.set_xscale("log")
    axes.set_xticks([100 * f for f in fractions], [f"{100 * f:g}" for f in fractions])
    axes.minorticks_off()
    axes.set(xlabel="labelled rows, %", ylabel=f"{choices[0]['metric']}{on_split(choices)}", title=model)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
