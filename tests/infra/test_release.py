"""What is released: the wheel and the source archive, built, looked into, installed elsewhere and used."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.infra.files import BIN, ROOT, version
from tests.infra.test_linters import of_repository

PACKAGES = ("somcore", "pipeline", "jobs")


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    """What `make dist` makes of the files that belong to the repository."""
    copy = tmp_path_factory.mktemp("source")
    for name in of_repository("*"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    command = ["make", "-o", "setup", f"BIN={BIN}", "dist"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy / "dist"


def test_the_wheel_holds_the_packages_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"somgrad-{version()}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        about = archive.read(f"somgrad-{version()}.dist-info/METADATA").decode()
    ours = {name for name in of_repository("*") if name.split("/")[0] in PACKAGES}
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"pipeline/sweeps/screening.c", "pipeline/recipes/mnist.yaml"} <= names
    info = f"somgrad-{version()}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/THIRD_PARTY_LICENSES.md"} <= names
    assert f"\nVersion: {version()}\n" in about
    assert "\nLicense-Expression: Apache-2.0\n" in about
    assert "\nRequires-Python: >=3.11\n" in about


def test_the_source_archive_holds_what_a_build_needs(dist):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    ours = {name for name in of_repository("*") if name.split("/")[0] in PACKAGES}
    assert ours | {"LICENSE", "README.md", "pyproject.toml", "THIRD_PARTY_LICENSES.md"} <= names
    assert not [name for name in names if name.startswith(("tests/", ".ci", "infra/", "data/"))]


@pytest.mark.timeout(900)  # four processes import torch
def test_installed_elsewhere_the_command_works_without_the_repository(dist, tmp_path):
    """A new environment gets the wheel; what it needs is borrowed from this one, so nothing is downloaded."""
    (wheel,) = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv/bin/python"
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, cwd=tmp_path, env=env, check=True, timeout=240)
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")

    def run(*words: str) -> str:
        done = subprocess.run(
            [tmp_path / "venv/bin" / words[0], *words[1:]],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("somgrad", "--version").strip() == f"somgrad {version()}"
    code = (
        "import jobs, somcore, pipeline.config as c, pathlib as p\n"
        "print(jobs.__file__, somcore.__file__, c.__file__, sep='\\n')\nprint(c.read_file(p.Path('mnist')))"
    )
    *places, recipe = run("python", "-c", code).splitlines()
    assert all(path.startswith(str(tmp_path)) for path in places), places
    assert "encoder." in recipe
    run("somgrad", "prepare", "digits", "--out", "data")
    options = ["--model", "sssom", "--workers", "0", "--tracking-uri", "none", "--set", "map.epochs=1"]
    run("somgrad", "train", "--data", "data", "--out", "run", *options)
    assert (tmp_path / "run/map.safetensors").exists()


def test_the_version_has_one_place():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in text
    assert 'version = { attr = "somcore.__version__" }' in text
    assert f"## [{version()}]" in (ROOT / "CHANGELOG.md").read_text()
