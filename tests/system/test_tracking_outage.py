"""A real MLflow server is killed in the middle of a run and comes back: the run does not notice, no record is lost."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import mlflow
import pytest

from pipeline.training.trainer import train
from tests.training import small


class Server:
    """`mlflow server` on a store of the test's own."""

    def __init__(self, folder, store):
        self._folder, self._store = folder, store
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        words = ["server", "--backend-store-uri", self._store, "--host", "127.0.0.1", "--port", str(self.port)]
        words += ["--workers", "1", "--artifacts-destination", str(self._folder / "artifacts")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 240
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert self._process.poll() is None and time.monotonic() < end, "the server did not start"
                time.sleep(0.1)

    def kill(self):
        """The server and its own processes at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tracking_uri, tmp_path):
    server = Server(tmp_path, tracking_uri)
    yield server
    server.kill()


@pytest.mark.timeout(600)
def test_a_server_that_goes_and_comes_back_has_every_record_once(server, digits, tmp_path, tracking_uri, capfd):
    run, lines = tmp_path / "run", []
    with_login = server.uri.replace("://", "://mlflow:PASSWORD@")
    settings = small("sssom", digits, tracking__uri=with_login, map__epochs=8, train__evaluate_epochs=0)
    undisturbed = train(settings | {"tracking.uri": "none"}, tmp_path / "undisturbed")

    def harm(epoch, expected, metrics):
        if epoch == 3:
            until(lambda: recorded(tracking_uri))  # it has heard of the run
            server.kill()
        if epoch == 6:
            until(lambda: lines)  # the loss was noticed
            server.start()

    result = train(settings, run, say=lines.append, on_epoch=harm)
    assert result["map_digest"] == undisturbed["map_digest"]
    found = mlflow.MlflowClient(tracking_uri).get_run(result["run_id"])
    page = f"{server.uri}/#/experiments/{found.info.experiment_id}/runs/{result['run_id']}"
    assert len(lines) == 2 and "Training goes on; the records are kept in" in lines[0] and lines[1] == f"MLflow: {page}"
    assert "PASSWORD" not in "".join(capfd.readouterr())
    assert found.info.status == "FINISHED"
    history = mlflow.MlflowClient(tracking_uri).get_metric_history(result["run_id"], "nodes")
    assert sorted(metric.step for metric in history) == list(range(1, result["epochs"] + 1))


def test_no_file_of_a_run_has_the_password_of_its_store(digits, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    run, lines = tmp_path / "run", []
    train(small("sssom", digits, tracking__uri=f"http://mlflow:PASSWORD@{address}"), run, say=lines.append)
    files = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert lines and not [line for line in lines if "PASSWORD" in line]
    assert not [name for name, content in files.items() if b"PASSWORD" in content]
    for name in ("run.json", "tracking.json", "tracking.jsonl"):
        assert f"http://{address}".encode() in files[name], name


def recorded(store):
    client = mlflow.MlflowClient(store)
    return client.search_runs([e.experiment_id for e in client.search_experiments()])


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
