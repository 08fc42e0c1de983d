"""The page of settings says what the sections say, and every setting has a meaning."""

from pathlib import Path

import pytest

from jobs import _settings
from pipeline.config import RunConfig, keys

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def without_text():
    return [key for key, row in _settings.described().items() if not all(text.strip() for text in row)]


def test_every_setting_is_documented_as_it_is():
    assert PAGE.read_text(encoding="utf-8") == _settings.page(), "python -m jobs._settings > docs/settings.md"


def test_every_key_is_there_or_in_the_table_of_another_page():
    assert set(_settings.described()) == {key for key in keys() if not key.startswith(("map.", "loss."))}
    assert set(_settings.ORDER) == set(RunConfig.model_fields)


def test_every_setting_has_a_meaning_and_no_meaning_is_left_over():
    assert without_text() == []
    assert set(_settings.MEANINGS) == set(_settings.described())


@pytest.mark.parametrize("key", ["cluster.join_s", "deep.clip_norm"])
def test_a_setting_without_a_meaning_is_found(key, monkeypatch):
    monkeypatch.delitem(_settings.MEANINGS, key)
    assert without_text() == [key]
