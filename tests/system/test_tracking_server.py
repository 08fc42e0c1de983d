"""The tracking server of infra/mlflow for real: PostgreSQL, passwords, files; backed up, lost, restored."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from tests.cluster.nodes import free_port
from tests.training import REPOSITORY, command, small

SCRIPTS = REPOSITORY / "infra" / "mlflow"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def postgres() -> Path | None:
    """Where the programs of PostgreSQL are."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *map(Path, filter(None, [shutil.which("initdb")]))]
    return found[0].resolve().parent if found else None


@pytest.fixture(scope="module")
def server():
    """Folder and environment of a running server."""
    binaries = postgres()
    if binaries is None:
        pytest.skip("PostgreSQL is absent (apt-get install postgresql)")
    folder, port = Path(tempfile.mkdtemp(prefix="sg", dir="/var/tmp")), free_port()
    folder.chmod(0o755)  # root starts the database as another user
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACK", "PG"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{binaries}:{environment['PATH']}"
    try:
        run([SCRIPTS / "local.sh", "start", folder, port], environment)
        yield folder, environment | variables(folder / "client.env"), port
    finally:
        run([SCRIPTS / "local.sh", "stop", folder], environment)
        shutil.rmtree(folder, ignore_errors=True)


def run(words, environment, code=0):
    """Standard output and error of a command that ends with a code."""
    words = [str(word) for word in words]
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=800, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout, done.stderr


def variables(path):
    """What a file of exports sets."""
    lines = [line.removeprefix("export ") for line in path.read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines)


def job(name, *words):
    return [sys.executable, "-m", f"jobs.{name}", *words]


@pytest.fixture(scope="module")
def trained(server, digits, tmp_path_factory):
    """Two tracked runs, the second one registered."""
    _, environment, _ = server
    folder = tmp_path_factory.mktemp("runs")
    fixed = [w for k, v in small("sssom", digits).items() if k.startswith("map.") for w in ("--set", f"{k}={v}")]
    for seed in (0, 1):
        words = ["--data", digits, "--model", "sssom", "--workers", 0, "--seed", seed, "--out", folder / str(seed)]
        run([*command(*words, "--experiment", "afternoon", *fixed), *["--register", "digits-map"] * seed], environment)
    return folder


def results(environment):
    """What the server knows of the experiment."""
    out, _ = run(job("results", "--experiment", "afternoon", "--group-by", "seed", "--json"), environment)
    return json.loads(out.splitlines()[-1])


def test_runs_are_recorded_pulled_and_the_model_is_served(server, trained, digits, tmp_path):
    folder, environment, _ = server
    rows = results(environment)["rows"]
    assert {row["seed"] for row in rows} == {0, 1}, rows
    stored = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert any(path.name == "map.safetensors" for path in stored)

    port = free_port()
    words = ["mlflow", "models", "serve", "-m", "models:/digits-map@latest-trained", "--env-manager", "local"]
    with open(tmp_path / "log", "w") as log:
        serving = subprocess.Popen(
            [*words, "-h", "127.0.0.1", "-p", str(port)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            images = Dataset.open(digits).read_raw("test", np.arange(4)).numpy()
            answers = ask(serving, port, {"inputs": images.tolist()}, tmp_path / "log")
        finally:
            os.killpg(serving.pid, signal.SIGTERM)
            serving.wait(30)
    expected = Predictor.load(trained / "1")(images).to_dict("records")
    assert [row["class"] for row in answers["predictions"]] == [row["class"] for row in expected]


def ask(serving, port, content, log):
    """The answer of a model server that is starting."""
    until = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=10).close()
            break
        except OSError:
            assert serving.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.5)
    body = json.dumps(content).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_a_wrong_password_is_told_in_one_line(server, trained):
    _, environment, _ = server
    _, said = run(job("results", "--experiment", "afternoon"), environment | {"MLFLOW_TRACKING_PASSWORD": "no"}, code=2)
    assert len(said.strip().splitlines()) == 1 and "MLFLOW_TRACKING_PASSWORD" in said


def test_what_is_backed_up_lost_and_restored_is_there_again(server, trained, tmp_path):
    folder, environment, port = server
    before = results(environment)
    own = environment | variables(folder / "server.env")
    backup = folder / "backup"
    run([SCRIPTS / "backup.sh", backup], own)
    _, said = run([SCRIPTS / "restore.sh", backup], own, code=2)
    assert "must be empty" in said
    database = own | {"PGHOST": "127.0.0.1", "PGPORT": str(port + 1), "PGUSER": "mlflow"}
    database["PGPASSWORD"] = (folder / "database.password").read_text()
    for name in ("mlflow", "mlflow_auth"):
        run(["dropdb", "--force", name], database)
        run(["createdb", name], database)
    shutil.rmtree(folder / "artifacts")
    (backup / "mlflow.dump").rename(tmp_path / "dump")
    _, said = run([SCRIPTS / "restore.sh", backup], own, code=2)
    assert "is damaged" in said
    shutil.move(tmp_path / "dump", backup / "mlflow.dump")
    run([SCRIPTS / "restore.sh", backup], own)
    run([SCRIPTS / "local.sh", "stop", folder], environment)
    run([SCRIPTS / "local.sh", "start", folder, port], environment)
    assert results(environment) == before
    answers = tmp_path / "answers"
    words = ["--model", "models:/digits-map@latest-trained", "--input", trained.parent / "none", "--output", answers]
    _, said = run(job("predict", *words, "--actors", "0"), environment, code=2)
    assert "models:/digits-map" not in said  # the model was fetched: what is missing is the input
