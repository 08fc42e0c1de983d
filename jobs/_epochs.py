"""How many epochs are asked for, and what a training tells: a line per epoch, and one at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import typer

from jobs._progress import Progress

Passes = Annotated[
    int | None,
    typer.Option(
        help="Passes (map.epochs). Growing maps round up to whole map.pruning_epochs (10) and add one such period to "
        "converge: 5 make 20, 50 make 60."
    ),
]


class Epochs:
    """One line per epoch, on a terminal one bar."""

    _bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, epoch: int, expected: int, metrics: Mapping[str, float | None]) -> None:
        self._bar = self._bar or Progress("epochs", max(epoch, expected), every_s=1.0)
        score = _score(metrics)
        named = {"nodes": "nodes {:.0f}", "quantization_error": "quantization error {:.4g}", score: score + " {:.3f}",
                 "samples_per_second": "{:,.0f} samples/s"}  # fmt: skip
        if metrics.get("quantization_error") == 0:  # the samples of a first round became nodes: nothing was measured
            named.pop("quantization_error")
        notes = [text.format(metrics[k]) for k, text in named.items() if metrics.get(k) is not None]
        self._bar(epoch, " · ".join(notes), max(epoch, expected))


def _score(metrics: Mapping[str, Any]) -> str:
    """What is told first: a map without classes has no accuracy, and its groups are scored."""
    return "grouped_accuracy" if metrics.get("accuracy") is None else "accuracy"


def counted(number: int, what: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def sentence(summary: dict[str, Any]) -> str:
    """The last line of a training."""
    parts = [f"{summary['model']}: {counted(summary['nodes'], 'node')} after {counted(summary['epochs'], 'epoch')}"]
    scores = (
        _score(summary), "balanced_accuracy", "validation_accuracy", "clustering_accuracy", "nmi", "quantization_error"
    )  # fmt: skip
    rows, labelled, split = summary.get("scored_rows", 0), summary.get("scored_labelled_rows"), summary["split"]
    partly = labelled is not None and labelled != rows
    notes = {scores[0]: f" ({labelled} of {counted(rows, split + ' row')} have a class)" if partly else ""}
    if labelled == 0:
        parts.append(f"no row of the {split} split has a class")
    parts += [f"{key} {summary[key]:.4f}{notes.get(key, '')}" for key in scores if summary.get(key) is not None]
    of = " (of training rows)" if split == "train" else ""
    return f"{', '.join(parts)}{of}. Map in {summary['out']}, digest {summary['map_digest'][:12]}."
