"""infra/docker: entry points exist, stages run as a user, versions agree, only what is needed reaches the builder."""

import fnmatch
import importlib.metadata
import re
import subprocess
import tomllib

import pytest

from tests.infra.files import INFRA, ROOT, documents, pinned, version

DOCKER = INFRA / "docker"
FILES = {name: (DOCKER / name).read_text() for name in ("Dockerfile", "mlflow.Dockerfile")}
TARGETS = ("cpu", "cuda", "cloud")
CUDA = re.compile(r"torch|torchvision|triton|nvidia-.*|cuda-.*")


def stages(text: str) -> dict[str, list[str]]:
    """{stage: its instructions, those of the stages it builds on first}; the last stage is also `last`."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.startswith("FROM "):
            _, base, *name = line.split()
            current = found.setdefault(name[-1] if name else "last", list(found.get(base, [])))
        elif re.match(r"[A-Z]+ ", line) and found:
            current.append(line)
    found.setdefault("last", current)
    return found


def users(instructions: list[str]) -> str:
    """Who a container of the stage runs as."""
    return [line.split()[1] for line in instructions if line.startswith("USER ")][-1]


def entry_point(instructions: list[str]) -> list[str]:
    """What a container of the stage runs."""
    told = [line for line in instructions if re.match("ENTRYPOINT|CMD", line)]
    words = {line.split()[0]: re.findall(r'"([^"]*)"', line) for line in told}
    return [*words["ENTRYPOINT"], *words["CMD"]]


def commands() -> set[str]:
    """Console scripts of the package and of what it needs."""
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    theirs = [point.name for name in ("ray", "mlflow") for point in importlib.metadata.distribution(name).entry_points]
    return {*ours, *theirs, "bash"}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_a_command_of_the_package_as_a_user(target):
    stage = stages(FILES["Dockerfile"])[target]
    assert users(stage) == "1000:1000"
    assert entry_point(stage)[0] in commands()
    assert f"--target {target} " in FILES["Dockerfile"]
    assert not any("pip" in line for line in stage), "installs while it runs, or keeps what only the build needs"


def test_the_image_of_the_server_runs_mlflow_as_a_user():
    stage = stages(FILES["mlflow.Dockerfile"])["last"]
    assert users(stage) == "1000:1000"
    assert entry_point(stage)[:2] == ["mlflow", "server"]
    assert "mlflow" in commands()


@pytest.mark.parametrize(
    ("old", "new"),
    [("USER 1000:1000\nCOPY --from=build-cloud", "COPY --from=build-cloud"), ('"somgrad"', '"somegrad"')],
)
def test_a_planted_error_of_an_image_is_found(old, new):
    text = FILES["Dockerfile"]
    assert old in text
    planted = stages(text.replace(old, new))
    assert users(planted["cloud"]) != "1000:1000" or entry_point(planted["cpu"])[0] not in commands()


@pytest.mark.parametrize("name", FILES)
def test_base_images_have_exact_tags_and_fit_the_package(name):
    base = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", FILES[name], re.M).group(1)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    least = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert base.startswith(f"python:{least.removeprefix('>=')}."), "the images run what the tests run"
    assert set(re.findall(r"^FROM (\S+)", FILES[name], re.M)) - set(stages(FILES[name])) == {"${PYTHON_IMAGE}"}


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_by_hash_but_torch_for_the_cpu(name):
    installs = re.findall(r"pip install[^\n&]*", FILES[name])
    assert installs
    loose = [line for line in installs if "--require-hashes" not in line]
    allowed = {"pip install -q --no-deps -r torch.txt", "pip install -q --no-deps --no-build-isolation ."}
    assert {line.strip() for line in loose} <= allowed


def test_the_split_for_the_cpu_leaves_nothing_out_and_nothing_of_cuda_in():
    lock = (INFRA / "requirements.lock").read_text()
    parts = {}
    for part in ("torch", "rest"):
        command = ["bash", DOCKER / "cpu-requirements.sh", part]
        parts[part] = subprocess.run(command, input=lock, capture_output=True, text=True, check=True).stdout
    names = {part: set(re.findall(r"^([\w.-]+)==", text, re.M)) for part, text in parts.items()}
    assert names["torch"] == {"torch", "torchvision"}
    assert names["rest"] == {name for name in pinned() if not CUDA.fullmatch(name)}
    assert parts["rest"].count("--hash=sha256:") > len(names["rest"])
    assert f"torch=={pinned()['torch']}\n" in parts["torch"]
    wrong = subprocess.run(["bash", DOCKER / "cpu-requirements.sh"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "must be told torch or rest" in wrong.stderr


@pytest.mark.parametrize("name", ["docker/mlflow.lock", "docker/cloud.lock", "requirements-dev.lock"])
def test_lock_files_agree(name):
    ours, theirs = pinned(), pinned(f"infra/{name}")
    assert {p: (v, ours[p]) for p, v in theirs.items() if ours.get(p, v) != v} == {}


def test_every_tag_of_ours_is_the_version_of_the_package():
    """Images in compose and launcher files, kustomizations: wherever a tag of ours stands, it is the one version."""
    found = []
    for path in sorted(INFRA.rglob("*.yaml")):
        text = path.read_text()
        found += [(path.name, tag) for tag in re.findall(r"image:\s*\S*somgrad[a-z-]*:([^\s\"'}]+)", text)]
        found += [(path.name, tag) for tag in re.findall(r"newTag:\s*(\S+)", text)]
    known = {version(), *(f"{version()}-{target}" for target in TARGETS)}
    ours = [(name, tag) for name, tag in found if not tag.startswith("$")]
    assert [(name, tag) for name, tag in ours if tag not in known] == []
    assert {"aws.yaml", "gcp.yaml", "kustomization.yaml"} <= {name for name, _ in ours}


def test_only_what_an_image_needs_reaches_the_builder():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"

    def reaches(path: str) -> bool:
        """As docker decides: the last rule that matches the path or a folder above it."""
        sent = True
        for rule in rules:
            pattern = rule.removeprefix("!").removesuffix("/**").removeprefix("**/")
            above = [path.rsplit("/", n)[0] for n in range(path.count("/") + 1)]
            names = path.split("/") if rule.startswith("**/") else above
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                sent = rule.startswith("!")
        return sent

    wanted = ("pyproject.toml", "README.md", "LICENSE", "somcore/state.py", "jobs/cli.py", "infra/requirements.lock",
              "pipeline/sweeps/screening.c", "infra/docker/mlflow.lock")  # fmt: skip
    never = ("data/digits/manifest.json", ".env", ".git/config", ".venv/bin/python", "runs/a/run.json", "mlflow.db",
             "tests/conftest.py", "somcore/__pycache__/state.pyc", "infra/mlflow/.env", "secret.txt")  # fmt: skip
    assert [path for path in wanted if not reaches(path)] == []
    assert [path for path in never if reaches(path)] == []
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", "\n".join(FILES.values()), re.M)
    for path in " ".join(copied).split():
        assert path == "." or reaches(path), f"COPY {path}: does not reach the builder"


def test_the_image_of_the_server_has_the_mlflow_of_the_clients():
    assert pinned("infra/docker/mlflow.lock")["mlflow"] == pinned()["mlflow"]
    assert {"psycopg2-binary", "boto3"} <= set(pinned("infra/docker/mlflow.lock"))
    assert documents(INFRA / "kuberay/base/ray-cluster.yaml")[0]["spec"]["rayVersion"] == pinned()["ray"]
