"""A model served by MLflow's own server, from its directory alone, answers over HTTP as it does here."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from pipeline.predictor import Predictor
from pipeline.prepared.shards import Dataset
from pipeline.training.trainer import train
from tests.training import save_model, small


def ask(url: str, content: dict | None = None) -> str:
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_a_served_model_answers_over_http(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    save_model(tmp_path / "run", tmp_path / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binaries = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "model", "--env-manager", "local"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            until = time.monotonic() + 150
            while True:
                try:
                    ask(f"http://127.0.0.1:{port}/ping")
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < until, (tmp_path / "log").read_text()
                    time.sleep(0.5)
            images = Dataset.open(digits).read_raw("test", np.arange(4)).numpy()
            url = f"http://127.0.0.1:{port}/invocations"
            answers = json.loads(ask(url, {"inputs": images.tolist()}))
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(url, {"inputs": (images / 16).tolist()})
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
    assert refused.value.code == 400
    assert "Samples must be uint8. Got 'float64'. Give them as the source has them" in refused.value.read().decode()
    expected = Predictor.load(tmp_path / "run")(images).to_dict("records")
    assert [row["class"] for row in answers["predictions"]] == [row["class"] for row in expected]
    assert [row["node"] for row in answers["predictions"]] == [row["node"] for row in expected]
