"""The table of views in the docs says what the code says."""

import math
from pathlib import Path

import pytest

from pipeline.deep.augment import KINDS, STRONG, WEAK, Strength

DEEP = Path(__file__).parents[2] / "docs" / "deep.md"
ROWS = {
    line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:4]]
    for line in DEEP.read_text(encoding="utf-8").split("\n## Views\n")[1].split("\n## ")[0].splitlines()
    if line.startswith("| `") and "weak view" not in line
}


def in_words(strength: Strength) -> str:
    """What a view of images does, as the table says it."""
    said = {
        f"moved by {100 * strength.shift:g} %": strength.shift,
        f"turned by {math.degrees(strength.turn):.0f}°": strength.turn,
        f"height and width changed by {100 * strength.scale:g} %": strength.scale,
        f"sheared by {strength.shear:g}": strength.shear,
        f"bent by {100 * strength.elastic:g} %": strength.elastic,
        f"contrast changed by {100 * strength.tone:g} % and brightness by {50 * strength.tone:g} %": strength.tone,
        f"covered by a grey square of {100 * strength.cover:g} % of height and width": strength.cover,
        "mirrored at random": strength.mirror,
    }
    return ", ".join(words for words, value in said.items() if value)


def test_every_kind_of_view_is_in_the_table():
    assert set(ROWS) == set(KINDS)


@pytest.mark.parametrize("kind", WEAK)
def test_views_of_images_are_documented_as_they_are(kind):
    weak, strong = ROWS[kind]
    assert weak.replace("8 % of height and width,", "8 %,") == in_words(WEAK[kind])
    assert strong == in_words(STRONG[kind])
