"""What we build on: pinned, complete, of known licences, listed; and what happens when the list cannot be checked."""

import http.server
import importlib.metadata
import json
import re
import subprocess
import threading
import tomllib

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.infra.files import BIN, INFRA, ROOT, pinned

RUNTIME, DEV = "infra/requirements.lock", "infra/requirements-dev.lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# What may be used without asking. NVIDIA's libraries come with torch for GPUs only (THIRD_PARTY_LICENSES.md says more).
ALLOWED = (
    "0BSD", "Apache", "BSD", "BSL-1.0", "CC0-1.0", "HPND", "ISC", "MIT", "Mozilla Public License 2.0", "MPL-2.0", "PSF",
    "Python Software Foundation", "Unlicense", "Zlib", "3-Clause BSD",
)  # fmt: skip
REVIEWED = {
    "cuda-toolkit": ("UNKNOWN", "empty, requires the nvidia packages"),
    "huey": ("UNKNOWN", "MIT, as a file"),
    "skops": ("UNKNOWN", "MIT, as a file"),
    "frozendict": ("LGPL-3.0-only", "imported unchanged, installed as a package of its own that its user can replace"),
}
NVIDIA = re.compile(r"nvidia-[a-z0-9-]+|cuda-(bindings|pathfinder)")


def faults(lock: str, wanted: list[str]) -> list[str]:
    """What of the wanted requirements the text of a lock file does not satisfy, and what in it is not locked."""
    versions = dict(re.findall(r"^([A-Za-z0-9][\w.-]*)==(\S+)", lock, re.M))
    found = []
    for requirement in map(Requirement, wanted):
        locked = versions.get(canonicalize_name(requirement.name))
        if locked is None:
            found.append(f"{requirement.name} is not in the lock file. Run make lock.")
        elif locked not in requirement.specifier:
            found.append(f"{requirement.name} is locked at {locked}, wanted is {requirement.specifier}. Run make lock.")
    for block in re.split(r"\n(?=\S)", lock):
        if not block.startswith("#") and "--hash=sha256:" not in block:
            found.append(f"no hash: {block[:80]}")
        if re.search(r"https?:|^-|index|find-links", block, re.M):
            found.append(f"names a place: {block[:80]}")
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (RUNTIME, PROJECT["dependencies"]),
        (DEV, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]),
        ("infra/docker/mlflow.lock", (INFRA / "docker/mlflow.in").read_text().splitlines()[1:]),
        ("infra/docker/cloud.lock", (INFRA / "docker/cloud.in").read_text().splitlines()[1:]),
    ],
)
def test_the_lock_file_satisfies_what_is_asked_of_it(name, wanted):
    assert faults((ROOT / name).read_text(), wanted) == []


@pytest.mark.parametrize(
    ("old", "new", "wanted", "said"),
    [
        ("", "", "torch>=99", "locked at"),
        ("", "", "leftpad", "is not in the lock file"),
        ("numpy==", "numpie==", "numpy", "is not in the lock file"),
        ("aiohappyeyeballs==", "plain==1.0\naiohappyeyeballs==", "torch", "no hash: plain"),
        ("aiohappyeyeballs==", "--index" + "-url https://a.org/x\naiohappyeyeballs==", "torch", "names a place"),
    ],
)
def test_a_planted_error_of_a_lock_file_is_found(old, new, wanted, said):
    text = (ROOT / RUNTIME).read_text()
    assert any(said in line for line in faults(text.replace(old, new, 1) if old else text, [wanted]))


def test_everything_that_is_needed_to_run_is_locked():
    """The whole closure, as the installed packages declare it for this machine."""
    locked, environment = pinned(), default_environment() | {"extra": ""}
    left = [Requirement(text) for text in PROJECT["dependencies"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    missing = set()
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        missing |= {name} - set(locked)
        for text in importlib.metadata.distribution(name).requires or []:
            inner = Requirement(text)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate(environment | {"extra": e}) for e in extras):
                left.append(inner)
    assert missing == set(), "run make lock"
    assert len(seen) > 80


def licences(text: str) -> dict[str, tuple[str, str]]:
    """{package: (version, licence)} of THIRD_PARTY_LICENSES.md."""
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.*?) \| \S+ \|$", text, re.M)
    return {canonicalize_name(name): (number, licence) for name, number, licence in rows if name != "Name"}


def refused(listed: dict[str, tuple[str, str]]) -> list[str]:
    """Packages whose licence is not among those allowed."""
    found = []
    for name, (_, licence) in listed.items():
        parts = re.split(r" AND |; | OR | WITH ", licence)
        fine = all(part.strip("() ").startswith((*ALLOWED, "LLVM-exception")) for part in parts)
        if not (fine or NVIDIA.fullmatch(name) or REVIEWED.get(name, ("",))[0] == licence):
            found.append(f"{name}: {licence}")
    return found


def test_every_package_is_listed_with_its_licence():
    listed = licences((ROOT / "THIRD_PARTY_LICENSES.md").read_text())
    elsewhere = set(re.findall(r"^(\S+)==\S+ ; sys_platform == 'win32'", (ROOT / RUNTIME).read_text(), re.M))
    versions = {name: number for name, (number, _) in listed.items()}
    assert versions == {name: number for name, number in pinned().items() if name not in elsewhere}, "run make licences"
    assert refused(listed) == []


@pytest.mark.parametrize(
    "licence", ["GPL-3.0-or-later", "MIT AND AGPL-3.0", "UNKNOWN", "Other/Proprietary License", "SSPL-1.0"]
)
def test_a_planted_licence_is_refused(licence):
    listed = licences(f"| leftpad | 1.0 | {licence} | https://example.org |\n")
    assert refused(listed) == [f"leftpad: {licence}"]


def test_the_bill_of_materials_lists_every_package(tmp_path):
    command = ["make", "-o", "setup", f"BIN={BIN}", f"DIST={tmp_path}", "sbom"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    bill = json.loads(next(tmp_path.glob("*.cdx.json")).read_text())
    assert {part["name"]: part["version"] for part in bill["components"]} == pinned()
    assert bill["bomFormat"] == "CycloneDX"


@pytest.mark.parametrize("name", [RUNTIME, DEV])
def test_no_tool_slows_every_ray_process(name):
    assert "\nrfc3987-syntax==" not in (ROOT / name).read_text(), "import ray would take seconds more (decision 0028)"


class Answers(http.server.BaseHTTPRequestHandler):
    """A database of vulnerabilities on this machine, with the interface of OSV."""

    known: dict[str, list] = {}

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"vulns": self.known[asked["package"]["name"]]} if self.known else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def database():
    """Its address."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/query"
    server.shutdown()
    server.server_close()


def audit(tmp_path, url):
    lock = re.search(r"^idna==.*?(?=^\S)", (ROOT / RUNTIME).read_text(), re.M | re.S).group(0)
    (tmp_path / "one.lock").write_text(lock)
    command = [INFRA / "release/audit.sh", BIN, tmp_path / "one.lock", "-s", "osv", "--osv-url", url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_an_audit_tells_known_vulnerabilities_from_none(tmp_path, database, monkeypatch):
    none = audit(tmp_path, database)
    assert (none.returncode, none.stdout.split(" of ")[0]) == (0, "audit: no known vulnerability in the 1 packages")
    fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}
    affected = [{"package": {"name": "idna", "ecosystem": "PyPI"}, "ranges": [fixed], "versions": [pinned()["idna"]]}]
    one = {"id": "PYSEC-2026-1", "summary": "planted", "details": "planted", "aliases": [], "affected": affected}
    monkeypatch.setattr(Answers, "known", {"idna": [one | {"modified": "2026-01-01T00:00:00Z"}]})
    some = audit(tmp_path, database)
    assert some.returncode == 1
    assert "PYSEC-2026-1" in some.stderr


def test_an_audit_that_nobody_answers_promises_nothing(tmp_path):
    done = audit(tmp_path, "http://127.0.0.1:9/query")
    assert done.returncode == 2
    assert "NOTHING was checked" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
