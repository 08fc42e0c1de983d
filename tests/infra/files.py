"""What the checks of infra share: where things are, what is pinned, programs of the tests' own environment."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent


def version() -> str:
    """The version of somgrad, from its one place; read, not imported, so that an old installation does not count."""
    return re.search(r'^__version__ = "([^"]+)"', (ROOT / "somcore/__init__.py").read_text(), re.M).group(1)


def pinned(lock: str = "infra/requirements.lock") -> dict[str, str]:
    """{package: version} of a lock file."""
    return dict(re.findall(r"^([A-Za-z0-9][\w.-]*)==(\S+)", (ROOT / lock).read_text(), re.M))


def documents(path: Path) -> list[dict]:
    """The documents of a YAML file; twice the same key is an error, where YAML would take the last."""
    return [document for document in yaml.load_all(path.read_text(), Loader=_OnceOnly) if document is not None]


class _OnceOnly(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} twice, {node.start_mark}"
        return super().construct_mapping(node, deep)


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a program of the environment of the tests, in the repository."""
    return subprocess.run([BIN / name, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120)
