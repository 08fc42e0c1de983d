"""CITATION.cff says of the project what pyproject.toml says, and names papers that docs/references.md has."""

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


def test_every_reference_is_complete_and_stands_among_those_of_the_maps():
    page = (ROOT / "docs/references.md").read_text(encoding="utf-8")
    rows = page.partition("## The maps")[2].partition("\n## ")[0].lower().splitlines()
    assert "docs/references.md" in (ROOT / "README.md").read_text(encoding="utf-8").partition("## Citing")[2]
    assert len(CITATION["references"]) == 6
    for paper in CITATION["references"]:
        assert {"type", "title", "authors"} <= paper.keys()
        title = " ".join(paper["title"].lower().split())
        (row,) = [row for row in rows if f"*{title}" in row]
        assert all(author["family-names"].lower() in row for author in paper["authors"]), paper["title"]
        assert "year" not in paper or f" {paper['year']} |" in row, paper["title"]
