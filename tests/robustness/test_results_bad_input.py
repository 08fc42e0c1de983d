"""Stores and registries that refuse: one line, exit code 2, and what was trained stays."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from jobs._exit import FAULT, USER, end, exit_code
from jobs.results import results
from pipeline.errors import MachineError, UserError
from pipeline.serving.model import log_model, model_directory
from pipeline.tracking.results import kept_of, run_directory, tracked_runs
from pipeline.training.trainer import train
from tests.training import small


class Refusing(BaseHTTPRequestHandler):
    """Answers every request as a server without rights for this user does."""

    def refuse(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = refuse  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.fixture
def refusing():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


def test_a_registry_without_rights_loses_nothing(digits, tmp_path, refusing):
    train(small("kohonen", digits), tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    with pytest.raises(UserError, match="could not be logged: .*Ask for the right.*The run is kept in .*run") as caught:
        log_model(tmp_path / "run", "0" * 32, refusing, "a name")
    assert exit_code(caught.value) == USER and "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("location", "code"), [("file", USER), ("s3://bucket/x", FAULT)])
def test_a_store_of_files_that_fails_loses_nothing(digits, tmp_path, tracking_uri, location, code, monkeypatch):
    import mlflow

    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    train(small("kohonen", digits), tmp_path / "run")
    (tmp_path / "file").touch()
    client = mlflow.MlflowClient(tracking_uri)
    where = (tmp_path / "file" / "x").as_uri() if location == "file" else location
    run = client.create_run(client.create_experiment("x", artifact_location=where)).info.run_id
    client.set_terminated(run)
    with pytest.raises(Exception, match="The model could not be logged: .*--resume logs it again") as caught:
        log_model(tmp_path / "run", run, tracking_uri)
    assert exit_code(caught.value) == code and "\n" not in str(caught.value)
    assert client.get_run(run).info.status == "FINISHED"


def test_a_column_that_is_asked_for_twice():
    with pytest.raises(UserError, match="--group-by must be columns, each of them once. Got 'model, model'.") as caught:
        results(group_by="model, model")
    assert exit_code(caught.value) == USER


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"data": "digits"}, "--data must be left out with --compare, .* Got 'digits'."),
        ({"sweep": "s"}, "--sweep must be left out with --compare, .* Got 's'."),
        ({"best": True}, "--best must be left out with --compare"),
        ({"group_by": "seed"}, "--group-by must be left out with --compare, .* Got 'seed'."),
    ],
)
def test_what_does_not_go_with_sweeps_that_are_compared(given, line):
    with pytest.raises(UserError, match=line) as caught:
        results(compare=("a", "b"), **given)
    assert exit_code(caught.value) == USER


@pytest.mark.parametrize("words", ["", "?timeout=5"])
def test_asking_for_results_makes_no_store(tmp_path, words):
    store = f"sqlite:///{tmp_path}/mlflow.db{words}"
    with pytest.raises(UserError, match="--tracking-uri must be an MLflow store that is there. Got .* ran, or name"):
        tracked_runs("somgrad", store)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(UserError, match="--experiment must be"):
        tracked_runs("somgrad", store)


@pytest.mark.parametrize("uri", ["refusing", "http://127.0.0.1:9", "http://mlflow:PASSWORD@127.0.0.1:9"])
def test_results_of_a_store_that_cannot_be_asked(uri, refusing):
    with pytest.raises(UserError, match="--tracking-uri must be an MLflow store that can be reached. Got") as caught:
        tracked_runs("somgrad", refusing if uri == "refusing" else uri)
    assert exit_code(caught.value) == USER and "\n" not in str(caught.value) and "PASSWORD" not in str(caught.value)


ASKED = {
    "a model": lambda uri: model_directory("models:/x/1", uri),
    "a run": lambda uri: run_directory("a" * 32, uri),
    "a sweep": lambda uri: tracked_runs("study", uri, "a" * 32),
    "what is kept": lambda uri: kept_of("a" * 32, uri),
    "a model by its address": lambda uri: model_directory(f"{uri}/x"),
}


@pytest.mark.parametrize("what", ASKED)
def test_no_password_is_said_where_a_server_does_not_answer(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="127.0.0.1:9") as caught:
        ASKED[what]("http://mlflow:PASSWORD@127.0.0.1:9")
    assert "PASSWORD" not in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "no store of MLflow's own is made"


def test_no_password_is_said_where_a_model_cannot_be_logged(tmp_path):
    with pytest.raises(
        MachineError, match="The model could not be logged: API request to http://127.0.0.1:9"
    ) as caught:
        log_model(tmp_path, "a" * 32, "http://mlflow:PASSWORD@127.0.0.1:9")
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize("debug", [False, True])
def test_no_password_is_in_the_last_line_of_a_job_or_in_its_traceback(debug, capsys):
    with pytest.raises(SystemExit):
        end(RuntimeError("API request to http://mlflow:PASSWORD@host:5000/api failed"), debug)
    said = capsys.readouterr().err
    assert "API request to http://host:5000/api failed" in said and "PASSWORD" not in said


def test_a_driver_that_is_missing_is_told_by_the_option(monkeypatch):
    for driver in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, driver, None)
    for ask in (ASKED["a model"], ASKED["a run"]):
        with pytest.raises(UserError, match="--tracking-uri must be an MLflow store .* 'postgresql://h/x'. .*psycopg"):
            ask("postgresql://u:PASSWORD@h/x")
