"""The page of commands says what the commands say."""

from pathlib import Path

from jobs._commands import page

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_every_option_is_documented_as_it_is():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m jobs._commands > docs/commands.md"


def test_every_option_has_a_meaning():
    rows = [line.split(" | ") for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row[0] for row in rows if len(row) != 3 or not any(letter.isalpha() for letter in row[1])] == []
