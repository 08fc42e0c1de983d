"""What of a working tree travels to a cluster: its code, never its data or its secrets.

Ignore rules are those of git: every `.gitignore` and `.rayignore` on the way down. What they leave is looked at: a
file that looks like data or like a secret is not skipped silently but named, because a job would miss it or a
stranger would find it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pathspec import GitIgnoreSpec

from pipeline.errors import UserError, must

GIVEN = "_given"  # folder of the files that the command line names, in the package
PACKAGES = ("somcore", "pipeline", "jobs")
LOCKS = ("infra/requirements.lock", "requirements.lock", "requirements.txt")
FILE_BYTES, TREE_BYTES = 2**20, 50 * 2**20

_HOME = Path(__file__).resolve().parents[2]  # where the packages of this program are
_IGNORE_FILES = (".gitignore", ".rayignore")
_NEVER = {".git", "__pycache__", ".venv", "node_modules"}
_DATA = {
    ".parquet", ".arrow", ".feather", ".npy", ".npz", ".mat", ".arff", ".h5", ".hdf5", ".wav", ".flac", ".gz", ".zip",
    ".tar", ".tgz", ".xz", ".zst", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".pkl", ".pickle", ".db", ".sqlite",
}  # fmt: skip
_SECRET_NAME = re.compile(
    r"(^|/)(\.env(\.(?!example$|sample$|template$)[^/]*)?|[^/]*\.(pem|key|p12|pfx|jks|kdbx|keystore)|id_(rsa|dsa|ecdsa|ed25519)"
    r"|\.netrc|\.pgpass|\.pypirc|\.htpasswd|\.git-credentials|\.vault-token|\.dockercfg|[^/]*\.(tfstate(\.backup)?|tfvars)"
    r"|([^/]*\.)?kubeconfig|service[-_]account[^/]*\.json"
    r"|(kubeconfig|credentials|((auth|access|api)[-_])?token|(client[-_])?secrets?|api[-_]?keys?)(\.(ya?ml|json|toml|ini|cfg|txt))?"
    r"|\.(aws|ssh|gnupg|kube|docker|ray)/.*)$",
    re.IGNORECASE,
)
_SECRET_TEXT = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a key of a cloud": re.compile(rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[A-Za-z0-9_-]{35}\b"),
    "an access token": re.compile(
        rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{60}|glpat-[\w-]{20}|hf_[A-Za-z]{34}|xox[abprs]-[\w-]{20})"
    ),
}


def find_tree(start: Path) -> Path | None:
    """The nearest folder at or above that holds a repository or a project; None = there is none.

    Example:
        >>> find_tree(Path("/")) is None
        True
    """
    start = start.resolve()
    return next((f for f in (start, *start.parents) if (f / ".git").exists() or (f / "pyproject.toml").is_file()), None)


def files_of(tree: Path) -> list[str]:
    """Relative paths of the files that are not ignored, in order.

    Args:
        tree: folder.

    Raises:
        UserError: the folder cannot be read.
    """
    if not tree.is_dir():
        raise must("--tree", "a folder", str(tree))
    return sorted(_walk(tree, "", []))


def _walk(tree: Path, below: str, rules: list[tuple[str, GitIgnoreSpec]]) -> Iterator[str]:
    folder = tree / below
    for name in _IGNORE_FILES:
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            rules = [*rules, (below, GitIgnoreSpec.from_lines(lines))]
    for entry in os.scandir(folder):
        path = f"{below}{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER or entry.name in _IGNORE_FILES or _ignored(path + "/" * is_folder, rules):
            continue
        if not is_folder:
            yield path
        elif not (tree / path / "pyvenv.cfg").exists():  # a virtual environment by any name
            yield from _walk(tree, path + "/", rules)


def _ignored(path: str, rules: list[tuple[str, GitIgnoreSpec]]) -> bool:
    """The last rule that speaks of a path decides, deeper files after higher ones, as in git."""
    verdict = False
    for below, spec in rules:
        said = spec.check_file(path.removeprefix(below)).include
        verdict = verdict if said is None else said
    return verdict


def check(tree: Path, files: Iterable[str]) -> int:
    """Looks for what must not travel.

    Args:
        tree: folder.
        files: relative paths.

    Returns:
        Bytes in all.

    Raises:
        UserError: a file looks like data or a secret, or the tree is too large; it is named, with what to do.
    """
    total = 0
    refused: list[str] = []
    for name in files:
        path = tree / name
        size = path.stat().st_size if path.exists() else 0
        total += size
        reason = _strange(path) or _secret(path, name, size) or _data(name, size)
        if reason:
            refused.append(f"{name} {reason}")
    if refused:
        more = f" ({len(refused) - 1} more such files)" if len(refused) > 1 else ""
        raise UserError(
            f"Code travels to the cluster, data and secrets do not: {refused[0]}{more}. Name it in .rayignore if the "
            "job does not need it there; put data on storage that all nodes see, and secrets on the nodes.",
            files=refused,
        )
    if total > TREE_BYTES:
        raise UserError(
            f"'{tree}' must be at most {_size(TREE_BYTES)} to travel to the cluster. It is {_size(total)}. "
            "Name what the job does not need in .rayignore."
        )
    return total


def _strange(path: Path) -> str:
    if path.is_dir():
        return "is a link to a folder"
    return "is no file" if path.exists() and not path.is_file() else ""


def _secret(path: Path, name: str, size: int) -> str:
    if _SECRET_NAME.search(name):
        return "has the name of a secret"
    if size > FILE_BYTES or not path.is_file():  # or a link that leads nowhere
        return ""
    content = path.read_bytes()
    return next((f"holds what looks like {what}" for what, p in _SECRET_TEXT.items() if p.search(content)), "")


def _data(name: str, size: int) -> str:
    if Path(name).suffix.lower() in _DATA:
        return f"({_size(size)}) looks like data"
    return f"({_size(size)}) is larger than {_size(FILE_BYTES)}" if size > FILE_BYTES else ""


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.1f} kB"


def stage(target: Path, tree: Path | None, given: Mapping[str, Path], code: bool = True) -> tuple[int, int]:
    """Copies what travels to a folder.

    Args:
        target: an empty folder.
        tree: the user's working tree; None = the packages of this program only. A tree without these packages gets
            them, so that a project of its own can import what it extends.
        given: files that the command line names, by their name in `GIVEN`.
        code: False = only these files.

    Returns:
        Number of files and bytes.

    Raises:
        UserError: see `check`.
    """
    count = total = 0
    for root, below in _sources(tree) if code else []:
        files = [f"{below}/{name}" if below else name for name in files_of(root / below)]
        total += check(root, files)
        count += len(files)
        for name in files:
            _copy(root / name, target / name)
    for name, path in given.items():
        total += check(path.parent, [path.name])
        _copy(path, target / GIVEN / name)
    return count + len(given), total


def _sources(tree: Path | None) -> list[tuple[Path, str]]:
    """Folders to copy: (root, folder below it)."""
    own = [] if tree is None else [(tree, "")]
    return own + [(_HOME, name) for name in PACKAGES if tree is None or not (tree / name / "__init__.py").exists()]


def _copy(source: Path, target: Path) -> None:
    if not source.exists():  # a link that leads nowhere
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def lock_of(tree: Path | None, named: str) -> Path:
    """The lock file of an environment.

    Args:
        tree: where to look.
        named: a file; or "lock": the first of infra/requirements.lock, requirements.lock, requirements.txt.

    Raises:
        UserError: there is none.
    """
    if named != "lock":
        path = Path(named)
        if not path.is_file():
            raise must("--environment", "code, none, lock, or a file of requirements", named)
        return path
    found = [tree / name for name in LOCKS if tree is not None and (tree / name).is_file()]
    if not found:
        raise UserError(
            f"--environment lock needs a lock file: one of {', '.join(LOCKS)}. '{tree}' has none. "
            "Name the file, or let the nodes bring what the job needs (--environment code)."
        )
    return found[0]
