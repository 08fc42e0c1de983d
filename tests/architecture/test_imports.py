"""The layering table of the design, checked: import rules, heavy modules of a job, global randomness."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "ray",
    "mlflow",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "optuna",
)
DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}


def test_the_import_rules_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 kept, 0 broken" in done.stdout


def test_the_import_rules_can_break(tmp_path):
    """The rules are read from pyproject.toml and bite: forbidden imports in a small copy are noticed."""
    for package in ("somcore", "pipeline", "jobs"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "somcore" / "state.py").write_text("def f():\n    import ray\n")
    (tmp_path / "pipeline" / "step.py").write_text("import jobs\nimport mlflow\n")
    (tmp_path / "jobs" / "train.py").write_text("import torch\n")
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "3 kept, 4 broken" in done.stdout, done.stdout


JOBS = sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py") if not path.stem.startswith("_"))


@pytest.mark.parametrize("job", JOBS)
def test_a_job_imports_nothing_heavy_before_it_works(job):
    """`--help` answers at once only if torch, Ray and MLflow are imported inside functions."""
    code = f"import sys, jobs.{job}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def _name(node: ast.expr) -> str:
    return f"{_name(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "somcore").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_draws_no_global_random_numbers_and_opens_no_files(path):
    """Randomness is counter-based (decision 0005), never the state of a global generator."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        module, _, name = _name(node.func).rpartition(".")
        where = f"{path.name}:{node.lineno}"
        assert name not in ("manual_seed", "seed"), f"{where} seeds a generator"
        if module == "torch" and name in DRAWS:
            assert any(keyword.arg == "generator" for keyword in node.keywords), f"{where} draws globally"
        assert "random" not in module.split(".") or name in ("default_rng", "Generator"), f"{where} draws globally"
        assert (module, name) != ("", "open") or "estimators" in path.parts, f"{where} opens a file"
