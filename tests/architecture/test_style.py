"""House rules that no linter knows: length, printing, leftovers, docstrings, traces of a machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("somcore", "pipeline", "jobs")
SOURCES = sorted(path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
MAX_FILE_LINES, MAX_JOB_LINES, MAX_FUNCTION_LINES = 300, 120, 60

# Longer than the house allows, with the reason. An entry that is no longer needed fails.
LONG_FILES: dict[str, str] = {
    "somcore/matching.py": "one question, who is nearest, with its exact answers for every kind of map",
}
LONG_FUNCTIONS: dict[str, str] = {  # "package/file.py:function"
    "jobs/prepare.py:prepare": "a command: an option a line",
    "jobs/sweep.py:sweep": "a command: an option a line",
}

JOB = re.compile(r"jobs/[a-z]")  # what several jobs share begins with an underscore
LEFTOVER = re.compile(r"\b(?:TO[D]O|FIX[M]E|X[X]X)\b")
MACHINE = re.compile(r"(?<![\w.~$}/-])/(?:work|root|Users|home/(?!ray\b)\w+|opt)/\w")
INDEX = re.compile(r"(?:index-url|find-links)[=\s]+(?!https://download\.pytorch\.org/)\S+")
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".cfg", ".ini", ".sh", ".html", ".json", ".csv", ".txt", ""}


def _relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: documentation is never too long."""
    documented = ast.get_docstring(node, clean=False) is not None
    docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
    return node.end_lineno - node.lineno + 1 - docstring


def _tracked() -> list[Path]:
    """Text files of the repository: those git knows or would add; all of a source archive without git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [REPOSITORY / line for line in listed.stdout.splitlines()]
    else:
        hidden = {".venv", ".git"}
        paths = [p for p in REPOSITORY.rglob("*") if not hidden & set(p.relative_to(REPOSITORY).parts)]
    return [path for path in paths if path.is_file() and path.suffix in TEXTS]


def test_there_is_something_to_check():
    assert {path.relative_to(REPOSITORY).parts[0] for path in SOURCES} == set(PACKAGES)
    assert len(_tracked()) > 10


def test_long_files_have_a_reason():
    lines = {_relative(path): len(path.read_text().splitlines()) for path in SOURCES}
    limit = {name: MAX_JOB_LINES if JOB.match(name) else MAX_FILE_LINES for name in lines}
    long = {name: count for name, count in lines.items() if count > limit[name]}
    assert {n: c for n, c in long.items() if n not in LONG_FILES} == {}, "split them, or give a reason above"
    assert set(LONG_FILES) <= set(long), "no longer needed"


def test_long_functions_have_a_reason():
    long = {}
    for path in SOURCES:
        for node in _functions(ast.parse(path.read_text())):
            if _body_lines(node) > MAX_FUNCTION_LINES:
                long[f"{_relative(path)}:{node.name}"] = _body_lines(node)
    assert {n: c for n, c in long.items() if n not in LONG_FUNCTIONS} == {}, "split them, or give a reason above"
    assert set(LONG_FUNCTIONS) <= set(long), "no longer needed"


@pytest.mark.parametrize("package", ["somcore", "pipeline"])
def test_the_core_and_the_pipeline_do_not_print(package):
    for path in sorted((REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            assert not printing, f"{_relative(path)}:{node.lineno} prints"


def test_nothing_is_left_for_later():
    for path in _tracked():
        if path.suffix == ".py":
            found = [n for n, line in enumerate(path.read_text().splitlines(), 1) if LEFTOVER.search(line)]
            assert not found, f"{_relative(path)}: lines {found}"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "somcore").glob("*.py")), ids=lambda path: path.stem)
def test_what_is_public_in_the_core_has_a_docstring(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.name}: the module says nothing"
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    members = [
        node
        for parent in public
        if isinstance(parent, ast.ClassDef)
        for node in parent.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public + members if not ast.get_docstring(node)]
    assert not silent, f"{path.name}: {silent} say nothing"


def test_no_text_names_somebodys_machine_or_package_index():
    found = []
    for path in _tracked():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if MACHINE.search(line) or INDEX.search(line):
                found.append(f"{_relative(path)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("open('" + "/" + "root/data/x.parquet')", True),
        ("see " + "/" + "home/anna/run", True),
        ("pip install --index" + "-url=http://10.0.0.1/simple x", True),
        ("docs/" + "work/plan and https://example.org/" + "work/page and $HOME/" + "work/x", False),
        ("writes to /tmp/x", False),
    ],
)
def test_the_patterns_above_find_what_they_should(line, bad):
    assert bool(MACHINE.search(line) or INDEX.search(line)) is bad
