"""The page of commands says what the commands say."""

from pathlib import Path

from jobs._commands import page

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_every_option_is_documented_as_it_is():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m jobs._commands > docs/commands.md"
