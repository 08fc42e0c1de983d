"""Colours and marks that colour-blind readers can tell apart, in light and in dark.

Classes have a colour and a mark, so neither alone must be told apart; numbers have viridis.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable

COLOURS = (
    "#CC6677", "#5B6FD0", "#DDCC77", "#229A55", "#88CCEE", "#A8326E", "#44AA99", "#999933", "#AA4499", "#EE7733",
)  # fmt: skip
MARKS = (
    "circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hexagon", "pentagon",
)  # fmt: skip
MATPLOTLIB_MARKS = ("o", "s", "D", "^", "v", "P", "X", "*", "h", "p")
NO_CLASS = "#8C8C8C"
SCALE = "Viridis"


def colour(label: int) -> str:
    """Colour of a class, grey for none.

    Source: P. Tol, Colour schemes (SRON/EPS/TN/09-002): "muted", its two darkest made lighter, and an orange.
    """
    return NO_CLASS if label < 0 else COLOURS[label % len(COLOURS)]


def mark(label: int) -> int:
    """Number of the mark of a class: after ten classes colours come again with another mark."""
    return 0 if label < 0 else (label + label // len(COLOURS)) % len(MARKS)


def names_of(class_names: tuple[str, ...], num_classes: int) -> list[str]:
    """Names of the classes as shown; numbers where there are none."""
    return [str(class_names[c]) if c < len(class_names) else str(c) for c in range(num_classes)]


def shown(text: object, most: int = 40) -> str:
    """A text of the user, cut to a readable length and harmless in the labels of a chart."""
    return html.escape(_cut(str(text), most), quote=False)


def printed(text: object, most: int = 24) -> str:
    r"""The same for figures, where matplotlib reads dollars as formulas and hides what begins with an underscore.

    Example:
        >>> printed("$1 to $2") == r"\$1 to \$2"
        True
    """
    plain = _cut(str(text), most).replace("$", r"\$")
    return f"\u200b{plain}" if plain.startswith("_") else plain


def apart(names: Iterable[object], most: int, one: Callable[[object, int], str] = shown) -> list[str]:
    """The names as `shown` or `printed`; where two are cut to the same, later ones get their number.

    Example:
        >>> apart(["channel 0001", "channel 0002", "x"], 8)
        ['channel…', 'channel… (2)', 'x']
    """
    cut, taken = [], set()
    for number, name in enumerate(names, 1):
        text = one(name, most)
        cut.append(f"{text} ({number})" if text in taken else text)
        taken.add(text)
    return cut


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
