"""CITATION.cff says of the project what pyproject.toml says, and names the papers that the README names."""

import re
import tomllib

import yaml

from tests.infra.files import ROOT

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_authors_and_licence_are_those_of_the_project():
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["authors"] == PROJECT["authors"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"][:3]


def test_every_reference_is_complete_and_named_by_the_readme():
    citing = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Citing")[2]
    assert len(CITATION["references"]) == 6
    for paper in CITATION["references"]:
        assert {"type", "title", "authors"} <= paper.keys()
        assert all(author["family-names"] in citing for author in paper["authors"]), paper["title"]
        assert "year" not in paper or re.search(rf"\b{paper['year']}\b", citing), paper["title"]
