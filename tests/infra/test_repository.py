"""What must not be in the repository: secrets, paths of a machine, hosts of package indices, unpickling."""

import ast
import re
from pathlib import Path

import pytest

from tests.infra.files import ROOT
from tests.infra.test_linters import of_repository

# Written in two parts, so that this file does not find itself.
SECRETS = {
    "key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE " + "KEY-----",
    "token of a code host": r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[\w-]{20}|github_pat_\w{40,})",
    "token of a service": r"\b(?:xox[abpr]-[\w-]{10,}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{32,}|pypi-AgE[\w-]{20,})",
    "key of Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "signed token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
    "password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@$<{]+:[^\s/:@$<{]{3,}@[\w.-]+",
    "password": r"(?i)\b\w*(?:password|passwd|secret_key|api_key)['\"]?\s*[:=]\s*['\"][^'\"\s$<{]{6,}['\"]",
}
PLACES = {
    "path of a machine": r"(?<![\w.~$}/-])/(?:work|root|Users|home/(?!ray\b)\w+|opt)/\w",
    "host of a package index": r"(?:pypi|pythonhosted|download\.pytorch|npmjs|debian)\.org/(?:simple|pool|whl|debian)",
    "address of a network": r"(?<![\d.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\w.])",
}
# Examples that show what is refused, and versions that look like addresses, by file and the text they contain.
EXCEPT = {
    ("tests/architecture/test_style.py", "10.0.0.1"),
    ("THIRD_PARTY_LICENSES.md", "| nvidia-"),
    ("infra/requirements.lock", "nvidia-"),
    ("infra/requirements-dev.lock", "nvidia-"),
}


def traces(text: str, kinds: dict[str, str]) -> list[str]:
    """What the text has that no file may have, with its line."""
    lines = text.splitlines()
    return [
        f"{number}: {kind}: {line.strip()[:100]}"
        for kind, pattern in kinds.items()
        for number, line in enumerate(lines, 1)
        if re.search(pattern, line)
    ]


def texts() -> list[tuple[str, str]]:
    """(name, text) of every file of the repository that is text."""
    found = []
    for name in of_repository("*"):
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:8192]:
            found.append((name, content.decode("utf-8", errors="replace")))
    return found


def test_no_file_holds_a_secret_or_names_a_place():
    found = [
        f"{name}:{trace}"
        for name, text in texts()
        for trace in traces(text, SECRETS | PLACES)
        if not any(name == file and example in trace for file, example in EXCEPT)
        and name != "tests/infra/test_repository.py"
    ]
    assert found == []


def test_no_file_is_a_key_or_a_list_of_secrets():
    bad = re.compile(r"(?:^|/)(?:\.env(?:\.(?!example$).+)?|id_[a-z0-9]+|.+\.(?:pem|p12|pfx|key)|\.netrc|\.pypirc)$")
    assert bad.search("infra/mlflow/.env")
    assert not bad.search("infra/mlflow/.env.example")
    assert [name for name in of_repository("*") if bad.search(name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "aws_access_key_id = " + "AKIA" + "ABCDEFGHIJKLMNOP",
        "-----BEGIN RSA PRIVATE " + "KEY-----",
        "token: " + "ghp_" + "a" * 36,
        "uri = 'postgresql://" + "mlflow:hunter22@db/mlflow'",
        "password" + " = 'hunter2222'",
        "see /" + "home/anna/data",
        "pip install -i https://" + "pypi.org/simple x",
        "host = 192.168." + "1.20",
    ],
)
def test_a_planted_trace_is_found(line):
    assert traces(line, SECRETS | PLACES)


@pytest.mark.parametrize(
    "line",
    [
        "uri = 'postgresql://$USER:$PASSWORD@db/mlflow'",
        "--from-literal=password=\"$(openssl rand -hex 32)\"",
        "pip install somgrad",
        "address http://127.0.0.1:5000 or 0.0.0.0",
        "version 1.10.0.1 and 10.2.0",
        "see https://example.org/home/anna/page",
    ],
)  # fmt: skip
def test_what_is_no_trace_is_not_found(line):
    assert traces(line, SECRETS | PLACES) == []


# ---------------------------------------------------------------- unpickling runs code of whoever wrote the file

PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
# CIFAR-10 is published as pickles: read by an unpickler that builds arrays and plain containers only.
RESTRICTED = {"pipeline/sources/classic.py": "pickle"}
SOURCES = [name for name in of_repository("*.py") if name.split("/")[0] in ("somcore", "pipeline", "jobs")]


def called(node: ast.expr) -> str:
    return f"{called(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def dangers(text: str) -> list[str]:
    """Calls and imports that can run code out of a data file."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in PICKLES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            name = called(node.func)
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            safe = {
                "torch.load": given.get("weights_only") is True,
                "yaml.load": "Loader" in given,
                "eval": False,
                "exec": False,
                "os.system": False,
            }
            if name.endswith(".read_pickle") or not safe.get(name, True) or given.get("allow_pickle") is True:
                found.append(f"{name}()")
            if given.get("shell") is True:
                found.append(f"{name}(shell=True)")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_in_the_product_unpickles(name):
    found = dangers((ROOT / name).read_text())
    assert [danger for danger in found if RESTRICTED.get(name) != danger] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch; torch.load(p)",
        "import torch; torch.load(p, weights_only=False)",
        "import numpy as np; np.load(p, allow_pickle=True)",
        "import pandas as pd; pd.read_pickle(p)",
        "import yaml; yaml.load(t)",
        "eval(t)",
        "import subprocess; subprocess.run(t, shell=True)",
    ],
)
def test_a_planted_danger_is_found(line):
    assert dangers(line)


def test_the_restricted_unpickler_refuses_what_runs(tmp_path: Path):
    import os
    import pickle

    from pipeline.errors import DataError
    from pipeline.sources.classic import _safe_pickle

    class Runs:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "batch").write_bytes(pickle.dumps({"data": Runs()}))
    with pytest.raises(DataError, match="is not allowed"):
        _safe_pickle(tmp_path / "batch")
    assert not (tmp_path / "ran").exists()
