"""What a run was computed with: versions, commit, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path

_COMPUTES = ("somcore", "pipeline")
_PACKAGES = ("somgrad", "torch", "numpy", "pyarrow", "ray", "mlflow", "safetensors")
COMMIT = "mlflow.source.git.commit"
TRAVELLED = "SOMGRAD_COMMIT"
"""Environment variable of a job whose code was sent to a cluster: what `commit` says where it came from."""


def environment() -> dict[str, str]:
    """Versions, git commit and machine, as tags of a run; looked up once in a process."""
    return dict(_environment())


@lru_cache(maxsize=1)
def _environment() -> dict[str, str]:
    tags = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": str(os.cpu_count()),
    }
    for name in _PACKAGES:
        try:
            tags[f"version.{name}"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if known := os.environ.get(TRAVELLED) or commit():
        tags[COMMIT] = known.removesuffix("+")
        tags["git_changed"] = str(known.endswith("+")).lower()
    return tags


@lru_cache(maxsize=1)
def code() -> tuple[str, str]:
    """Digest of the files of the modules that compute, as they are at the first call, and the folder they are in."""
    digest, folder = hashlib.sha256(), Path(__file__).resolve().parents[1]
    for package in _COMPUTES:
        for path in sorted((folder / package).rglob("*.py")):
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest(), str(folder)


def commit() -> str:
    """Hash of the commit of this program, + behind it where files were changed since; empty where git knows none."""
    found = _git("rev-parse", "HEAD")
    return found and found + "+" * bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*arguments: str) -> str:
    """Answer of git about the directory of this program; empty where there is no git or no repository."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
