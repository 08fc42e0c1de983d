"""Shell, YAML, container and compose files, each with the linter of its kind. Every linter finds a planted error."""

import subprocess

import jsonschema
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from tests.infra.files import ROOT, documents, tool

CONFIG = "infra/ci/yamllint.yaml"


def of_repository(*patterns: str) -> list[str]:
    """Files that git knows or would add; all that match in a source archive without git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return sorted(name for name in set(done.stdout.splitlines()) if (ROOT / name).is_file())
    found = (path.relative_to(ROOT) for pattern in patterns for path in ROOT.rglob(pattern.removeprefix("*/")))
    return sorted({path.as_posix() for path in found if ".venv" not in path.parts})


SHELL = [*of_repository("*.sh"), ".ci/run"]
YAML = of_repository("*.yaml", "*.yml")
CONTAINERS = of_repository("*Dockerfile")
COMPOSE = of_repository("*compose*.yaml", "*compose*.yml")

SHELL_ERROR = '#!/bin/sh\nrm -rf "$HOME"/$1/*\n'
YAML_ERROR = "a: 1\nb:   2\na: 3\n"
CONTAINER_ERROR = "FROM python:latest\nRUN apt-get update && apt-get install curl\n"
COMPOSE_FILE = "services:\n  server:\n    image: somgrad-mlflow:0.1.0\n    read_only: true\n"


def test_there_is_something_to_lint():
    assert {".ci/run", "infra/kuberay/base/mirror.sh"} <= set(SHELL)
    assert {"infra/kuberay/base/train.yaml", "pipeline/recipes/mnist.yaml"} <= set(YAML)
    assert {"infra/docker/Dockerfile", "infra/docker/mlflow.Dockerfile"} <= set(CONTAINERS)


def test_shell(tmp_path):
    done = tool("shellcheck", "--severity=style", *SHELL)
    assert done.returncode == 0, done.stdout
    (tmp_path / "planted.sh").write_text(SHELL_ERROR)
    assert "SC2086" in tool("shellcheck", tmp_path / "planted.sh").stdout


@pytest.mark.parametrize("name", SHELL)
def test_a_shell_file_ends_at_its_first_error(name):
    text = (ROOT / name).read_text()
    assert text.startswith("#!"), "no interpreter"
    assert "set -eu" in text or "set -uo pipefail" in text, "goes on after an error"


def test_yaml(tmp_path):
    done = tool("yamllint", "--strict", "-c", CONFIG, *YAML)
    assert done.returncode == 0, done.stdout
    (tmp_path / "planted.yaml").write_text(YAML_ERROR)
    found = tool("yamllint", "-c", CONFIG, tmp_path / "planted.yaml").stdout
    assert "duplication of key" in found
    assert "too many spaces" in found


def test_containers(tmp_path):
    done = tool("hadolint", *CONTAINERS)
    assert done.returncode == 0, done.stdout
    (tmp_path / "Dockerfile").write_text(CONTAINER_ERROR)
    found = tool("hadolint", tmp_path / "Dockerfile").stdout
    assert {"DL3007", "DL3015", "DL3014"} <= {word for word in found.split() if word.startswith("DL")}


def compose_problems(content: dict) -> list[str]:
    """What the published schema of compose files says, and images without an exact tag."""
    schema = get_builtin_schema("vendor.compose-spec")
    checker = jsonschema.validators.validator_for(schema)(schema)
    found = [error.message for error in checker.iter_errors(content)]
    for service, given in content.get("services", {}).items():
        tag = given.get("image", "none:0").rpartition(":")[2]
        found += [f"{service}: image without an exact tag"] if tag in ("", "latest") else []
    return found


def test_compose():
    for name in COMPOSE:
        (content,) = documents(ROOT / name)
        assert compose_problems(content) == [], name


@pytest.mark.parametrize(
    ("old", "new"), [("read_only", "readonly"), ("true", "3"), ("services", "service"), (":0.1.0", ":latest")]
)
def test_a_planted_error_of_a_compose_file_is_found(old, new):
    assert compose_problems(yaml.safe_load(COMPOSE_FILE)) == []
    assert compose_problems(yaml.safe_load(COMPOSE_FILE.replace(old, new, 1)))
