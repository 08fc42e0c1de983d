"""Every work that a docstring names as its source is in docs/references.md, and the citation says the version."""

import ast
import re

import somcore
from tests.architecture.test_style import REPOSITORY, SOURCES

PAGE = (REPOSITORY / "docs/references.md").read_text(encoding="utf-8")
# Surname of the first author, what may stand before the year (other authors, "et al.", a venue), the year.
WORK = re.compile(r"([A-Z][a-z]\w*)(?:, Proc\.| et al\.)?[^;:.]{0,60}?\b((?:19|20)\d\d)\b")


def _sources() -> set[tuple[str, str]]:
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                for source in re.findall(r"Source: ((?:.+\n?)+)", text):
                    found |= set(WORK.findall(" ".join(source.split())))
    return found


def test_every_source_has_its_row_in_the_references():
    sources = _sources()
    assert len(sources) > 25
    missing = {f"{author} {year}" for author, year in sources if f"| {author} {year} |" not in PAGE}
    assert missing == set(), "docs/references.md lists each source by first author and year"


def test_the_citation_names_the_version():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {somcore.__version__}\n" in citation
    assert f"version = {{{somcore.__version__}}}," in PAGE
