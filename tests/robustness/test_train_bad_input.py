"""Bad input to a training: the right map, or one clear line and exit code 2 with earlier outputs intact."""

import errno
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import typer

from jobs.benchmark import BENCHMARKS
from jobs.cli import JOBS
from pipeline import places
from pipeline.config import ClusterConfig
from pipeline.errors import OutputLost, UserError, WorkerLost
from pipeline.prepared.shards import Dataset
from pipeline.serving.model import check_name
from pipeline.tracking import journal, sender
from pipeline.tracking.journal import Journal
from pipeline.tracking.tracker import check_store
from pipeline.training import checkpoint, history, rundir, trainer
from pipeline.training.checkpoint import CheckpointStore, Snapshot
from pipeline.training.history import HISTORY, History
from pipeline.training.keepsakes import keepsakes
from pipeline.training.local import LocalGroup
from pipeline.training.plan import make_plan
from pipeline.training.rundir import RunDirectory
from pipeline.training.scoring import Scorer
from pipeline.training.trainer import train
from tests.training import REPOSITORY, call_job, command, last_json, run_job, small, table

SEMI_SUPERVISED = ("sssom", "altsssom")


def options(settings, *direct):
    """The settings as words of a command line."""
    named = {"data.path": "--data", "train.model": "--model", "cluster.workers": "--workers"}
    words = []
    for key, value in settings.items():
        words += [named[key], str(value)] if key in named else ["--set", f"{key}={value}"]
    return words


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def until_sent(run):
    """Waits until MLflow has all that is recorded of a run in progress."""
    end = time.monotonic() + 60
    while json.loads((run / "tracking.json").read_text())["sent"] < len(Journal(run).lines()):
        assert time.monotonic() < end
        time.sleep(0.05)


# ---------------------------------------------------------------- what the command line says


@pytest.mark.parametrize(
    ("extra", "line"),
    [
        (["--set", "map.capasity=5"], "Unknown key 'map.capasity'. Did you mean 'map.capacity'?"),
        (["--set", "map.capacity"], "--set must be key=value. Got 'map.capacity'."),
        (["--set", "map.bmu_rate=1.5"], "map.bmu_rate must be a number in [0, 1). Got 1.5."),
        (["--model", "som"], "train.model must be one of kohonen, dssom"),
        (["--labelled-fraction", "2"], "train.labelled_fraction must be a share in [0, 1]. Got 2.0."),
        (["--workers", "-1"], "cluster.workers must be an integer >= 0"),
        (["--set", "tracking.uri=s3://bucket"], "tracking.uri must be a URI such as"),
        (["--reduction", "sloppy"], "train.reduction must be exact or fast. Got 'sloppy'."),
        (["--config", "no-such-file.yaml"], "--config must be a file. Got 'no-such-file.yaml'"),
        (["--data", "no-such-folder"], "no-such-folder is not a prepared data set"),
        (["--epochz", "3"], "No such option: --epochz"),
        (["--data", ""], "--data must be a name or a place. Got ''. Is a variable of the shell not set?"),
        (["--config="], "--config must be a path. Got ''."),
        (["--register", "a/b"], "--register must be a name without '/' and ':' that MLflow takes. Got 'a/b'."),
        (["--register", ""], "--register must be a name or a place. Got ''."),
        (["--tracking-uri", "none", "--register", "m"], "--register must be used with an MLflow store. Got '--tr"),
        (["--tracking-uri", "none", "--log-model"], "--log-model must be used with an MLflow store. Got '--tr"),
        (["--tracking-uri", ""], "--tracking-uri must be a name or a place. Got ''."),
        (["--tracking-uri", "htp://host:5000"], "--tracking-uri must be a URI such as"),
        (["--address", ""], "--address must be a name or a place. Got ''."),
        (["--address", "head:6379"], "--address must be left out with --workers 0, which needs no cluster. Got 'head"),
    ],
    ids=lambda value: value[-1] or "empty" if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_and_exit_code_2(digits, tmp_path, extra, line):
    out = tmp_path / "run"
    code, said, complaint = call_job("--data", digits, "--model", "sssom", "--workers", 0, "--out", out, *extra)
    assert code == 2
    assert len(complaint.strip().splitlines()) == 1
    assert line in complaint
    assert said == ""
    assert not out.exists()


def test_data_and_model_must_come_from_somewhere(digits, tmp_path):
    common = ["--workers", 0, "--out", tmp_path / "run", "--tracking-uri", "none"]
    assert call_job(*common, "--model", "sssom")[::2] == (
        2,
        "--data must be given, unless --resume goes on with a run.\n",
    )
    code, _, complaint = call_job(*common, "--data", digits)
    assert code == 2 and complaint.startswith("--model must be given, by itself or by --config")
    code, _, complaint = call_job(*common, "--resume")
    assert code == 2 and "run' holds no run to go on with." in complaint
    assert not (tmp_path / "run").exists()
    (tmp_path / "model.yaml").write_text("train: {model: sssom}")
    assert call_job(*common, "--data", digits, "--config", tmp_path / "model.yaml", "--epochs", 1)[0] == 0


@pytest.mark.parametrize("name", ["--address", "RAY_ADDRESS"])
def test_a_cluster_that_does_not_answer_is_told_soon(digits, tmp_path, name):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        words = ["--data", digits, "--model", "sssom", "--workers", 1, "--out", tmp_path / "run"]
        words += [name, address] if name == "--address" else []
        done = run_job(*words, **({"RAY_ADDRESS": address} if name == "RAY_ADDRESS" else {}))
    field = name.replace("--address", "cluster.address")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"{field} must be the address of a running Ray cluster. Got '{address}'. "
        "Nothing answers there: [Errno 111] Connection refused."
    )


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--out", " "]], ids=["apart", "joined", "blank"])
def test_an_empty_output_is_not_the_working_directory(digits, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    code, _, complaint = call_job("--data", digits, "--model", "sssom", "--workers", 0, *words)
    assert (code, complaint) == (2, "--out must be a path. Got ''. Is a variable of the shell not set?\n")
    assert not list(tmp_path.iterdir())


def test_every_job_refuses_an_empty_path():
    for module in [f"jobs.{name}" for name in JOBS if name != "benchmark"] + [name for name, _ in BENCHMARKS.values()]:
        task = typer.main.get_command(importlib.import_module(module).app)
        for parameter in task.params:
            if parameter.name in ("data", "out", "root", "config", "input", "output"):
                with pytest.raises(UserError, match=rf"{parameter.opts[0]} must be .*Got ''"):
                    task.make_context(module, [parameter.opts[0], ""])


@pytest.mark.parametrize("job", ["predict", "evaluate", "export", "features", "report"])
def test_a_trained_model_named_by_the_option_of_another_job_is_told_the_right_one(job):
    right, wrong = ("--model", "--run") if job == "predict" else ("--run", "--model")
    task = typer.main.get_command(importlib.import_module(f"jobs.{job}").app)
    assert right in {option for parameter in task.params for option in parameter.opts}
    for words in ([wrong, "runs/a"], ["--help-me", f"{wrong}=runs/a"]):
        with pytest.raises(UserError, match=f"^The trained model must be named by {right} here. Got {wrong}.$"):
            task.make_context(job, list(words))


@pytest.mark.parametrize("name", ["a/b", "a:b", " ", ".", "..a"])
def test_names_of_models_are_refused_as_mlflow_refuses_them(name):
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_model_name

    with pytest.raises(MlflowException):
        _validate_model_name(name)
    with pytest.raises(UserError, match="--register must be a name"):
        check_name(name)
    for good in ("digits-map", "a.b", "a b", "größe"):
        _validate_model_name(good)
        check_name(good)


def test_stores_are_those_that_mlflow_knows(monkeypatch, tmp_path):
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    folders = ("mlruns", "/data/mlruns", "file:///data/mlruns", "file:./mlruns")
    for kind in set(_tracking_store_registry._registry) - {"", "file"}:
        check_store(f"{kind}://somewhere")
    for good in ("none", "postgresql+psycopg2://host/b", "databricks"):
        check_store(good)
    for folder in folders:
        with pytest.raises(UserError, match=f"Got '{folder}'. It is a folder, which MLflow takes with MLFLOW_ALLOW_"):
            check_store(folder)
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(UserError, match=f"It is a file: sqlite:///{tmp_path}/mlflow.db where it is an SQLite"):
        check_store(str(tmp_path / "mlflow.db"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for folder in folders:
        check_store(folder)
    with pytest.raises(UserError, match="--tracking-uri must be a URI .* Got 's3://bucket'"):
        check_store("s3://bucket")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    with pytest.raises(UserError, match="^MLFLOW_TRACKING_URI must be a URI .* pass --tracking-uri none.$"):
        check_store(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://host")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI must be .* Got 'htp://host'"):
        check_store(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    check_store(None)


# ---------------------------------------------------------------- where the output goes


@pytest.mark.parametrize("inside", [".", "run", "train/deep/run"])
def test_a_run_does_not_go_into_a_data_set(tmp_path, rng, inside):
    data = table(tmp_path / "table", rng.random((60, 3)), rng.integers(0, 2, 60))
    before = contents(data)
    with pytest.raises(ValueError, match=r"--out must be a directory outside of data sets\. Got .*prepared data set"):
        train(small("sssom", data), data / inside)
    (tmp_path / "link").symlink_to(data)
    with pytest.raises(ValueError, match="lies in the prepared data set"):
        train(small("sssom", data), tmp_path / "link" / "run")
    assert contents(data) == before
    (tmp_path / "manifest.json").write_text('{"name": "a page of the web"}')
    assert train(small("sssom", data), tmp_path / "run")["nodes"] > 0


@pytest.mark.parametrize("job", ["sweep", "compare", "fractions"])
def test_other_jobs_do_not_write_into_a_data_set_either(digits, tmp_path, job):
    from jobs._given import check

    with pytest.raises(UserError, match="--out must be a directory outside of data sets"):
        check(job, {"out": digits / "results"})
    check(job, {"out": tmp_path / "results"})
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"--out must be a directory that can be written. Got '.*/file': Not a dir"):
        check(job, {"out": tmp_path / "file"})


def test_a_run_that_cannot_be_written_any_more_is_told_so(tmp_path, monkeypatch):
    """Root may write everywhere, so the refusal of the file system is played."""

    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "run.json").write_text(json.dumps({"version": rundir.VERSION, "settings": {}}))
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=f"--out must be .* written. Got '{tmp_path}': Read-only file system"):
        RunDirectory(tmp_path).settings({}, resume=True)


def test_an_output_below_a_file_is_told_before_the_work(digits, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = run_job(*options(small("sssom", digits)), "--out", tmp_path / "file" / "run")
    assert done.returncode == 2
    assert "--out must be a directory that can be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "not a folder"


def test_runs_that_begin_at_once_below_a_new_folder_do_not_disturb_each_other(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        for turn in range(50):
            new = tmp_path / str(turn)
            runs = [RunDirectory(new / "runs" / str(number)) for number in range(8)]
            assert list(threads.map(lambda run: run.settings({}, resume=False), runs)) == [{}] * 8
            assert not new.exists()


def test_the_directory_of_another_run_is_refused_and_left_as_it_was(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match=r"already holds a run \(sssom, finished\).*--resume to go on"):
        train(small("sssom", digits, train__seed=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"train\.seed must be 0 to go on with the run in .*Got 1\."):
        train(small("sssom", digits, train__seed=1), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match=r"map\.epochs must be 2 to go on"):
        train(small("sssom", digits, map__epochs=3), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_finished_run_resumed_says_the_same_again(digits, tmp_path):
    first = train(small("sssom", digits), tmp_path / "run")
    again = train(small("sssom", digits), tmp_path / "run", resume=True)
    same = [key for key in first if key not in ("seconds", "samples_per_second")]
    assert {key: again[key] for key in same} == {key: first[key] for key in same}


def test_resuming_where_nothing_is_begins_and_says_so(digits, tmp_path):
    lines: list[str] = []
    train(small("sssom", digits), tmp_path / "run", resume=True, say=lines.append)
    assert "holds no run yet: starting from the beginning" in lines[0]


def test_a_run_whose_data_are_not_where_it_found_them_asks_for_them(digits, tmp_path, monkeypatch):
    """As from another directory than the one it was begun in, where its path was relative."""
    shutil.copytree(digits, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    first = train(small("sssom", "data"), "run")  # a place may be text
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    with pytest.raises(
        UserError, match=r"^data is not a prepared data set.*'\.\./run' was trained on it; give --data\.$"
    ):
        train({}, "../run", resume=True)
    with pytest.raises(UserError, match="^data is not a prepared data set[^;]*$"):
        train({"data.path": "data"}, "../run", resume=True)
    assert train({"data.path": "../data"}, "../run", resume=True)["map_digest"] == first["map_digest"]


def test_no_model_is_asked_of_a_run_that_is_not_recorded_before_it_is_trained_further(digits, tmp_path):
    settings = small("sssom", digits)
    (tmp_path / "run").mkdir()
    RunDirectory(tmp_path / "run").write(settings=settings, status="killed")
    before = contents(tmp_path / "run")
    line = "must be used with an MLflow store. Got '--tracking-uri none'. It began so: give a --tracking-uri"
    for words in (["--log-model"], ["--register", "m"]):
        code, _, complaint = call_job("--resume", "--out", tmp_path / "run", *words)
        assert code == 2 and complaint.startswith(f"{words[0]} {line}") and complaint.count("\n") == 1
    assert contents(tmp_path / "run") == before


def test_a_run_of_another_version_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "VERSION", 999)
    train(small("sssom", digits), tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"was written by another version \(999, this is 1\)"):
        train(small("sssom", digits), tmp_path / "run", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_another_command_finished_meanwhile_is_not_trained_over(digits, tmp_path, monkeypatch, resume):
    out, settings, first = tmp_path / "run", small("sssom", digits), {}

    def planned(run, dataset):  # the second command has looked at its directory by now
        if not first:
            first["digest"] = None
            first["digest"] = train(settings, out)["map_digest"]
            first["files"] = contents(out)
        return make_plan(run, dataset)

    monkeypatch.setattr(trainer, "make_plan", planned)
    if resume:
        result = train(settings, out, resume=True)
        assert result["map_digest"] == first["digest"]
        assert (out / "tracking.jsonl").read_text().count('"nodes"') == result["epochs"]
        return
    with pytest.raises(UserError, match=r"already holds a run \(sssom, finished\)"):
        train(settings | {"train.seed": 1}, out)
    assert contents(out) == first["files"]


def test_a_checkpoint_of_another_version_is_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 999)
    train(small("sssom", digits), tmp_path / "run")
    monkeypatch.undo()
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match="has version 999, this program writes and reads version 1"):
        train(small("sssom", digits), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_checkpoint_of_another_data_set_is_refused(digits, tmp_path, rng):
    train(small("sssom", digits), tmp_path / "run")
    other = table(tmp_path / "other", rng.random((1438, 64)), rng.integers(0, 10, 1438))
    before = contents(tmp_path / "run")
    with pytest.raises(ValueError, match="belongs to another data set"):
        train(small("sssom", other), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_checkpoint_of_another_run_put_in_its_place_is_refused(digits, tmp_path):
    train(small("sssom", digits, train__seed=1), tmp_path / "other")
    train(small("sssom", digits), tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        path.unlink()
    for path in (tmp_path / "other" / "checkpoints").iterdir():
        (tmp_path / "run" / "checkpoints" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="belongs to another configuration"):
        train(small("sssom", digits), tmp_path / "run", resume=True)


@pytest.mark.parametrize("left", ["checkpoints", "none"])
@pytest.mark.parametrize(
    ("key", "value", "was"),
    [("map.capacity", 3, r"\d+"), ("map.bmu_rate", 0.5, r"0\.\d+"), ("map.batch_size", 9, "400")],
)
def test_a_setting_that_was_not_given_cannot_change_either(digits, tmp_path, left, key, value, was):
    train(small("sssom", digits), tmp_path / "run")
    if left == "none":
        shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match=rf"^{key} must be {was} to go on with the run in .*Got {value}\. Give another"):
        train(small("sssom", digits) | {key: value}, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("model", ["sssom", "deep"])
def test_threads_may_change_where_a_run_goes_on_but_not_those_of_a_network(digits, tmp_path, model):
    quick = {} if model == "sssom" else {"encoder__width": 4, "encoder__dim": 8, "deep__on_collapse": "go_on"}
    first = train(small(model, digits, **quick), tmp_path / "run")
    before = contents(tmp_path / "run")
    again = small(model, digits, **quick, cluster__threads=2)
    if model == "sssom":
        assert train(again, tmp_path / "run", resume=True)["map_digest"] == first["map_digest"]
        return
    with pytest.raises(UserError, match=r"^cluster.threads must be 1 to go on with the run in .*Got 2\."):
        train(again, tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_run_without_checkpoints_begins_again_with_its_own_settings_and_data_only(digits, tmp_path, rng):
    first = train(small("sssom", digits), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = contents(tmp_path / "run")
    other = table(tmp_path / "other", rng.random((1438, 64)), rng.integers(0, 10, 1438))
    with pytest.raises(UserError, match=r"The run in '.*run' belongs to another data set than '.*other"):
        train(small("sssom", other), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before
    resolved = json.loads((tmp_path / "run" / "run.json").read_text())["map"]
    again = small("sssom", digits, map__capacity=resolved["capacity"], train__evaluate_rows=50)
    assert train(again, tmp_path / "run", resume=True)["map_digest"] == first["map_digest"]


def test_a_configuration_that_another_version_resolved_otherwise_is_told(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    RunDirectory(tmp_path / "run").write(config_hash="0" * 64)
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match="another configuration .*though its settings are the same"):
        train(small("sssom", digits), tmp_path / "run", resume=True)
    assert contents(tmp_path / "run") == before


def test_a_torn_newest_checkpoint_costs_only_the_rounds_since_the_one_before(digits, tmp_path):
    settings = small("sssom", digits, train__checkpoint_rounds=2)
    whole = train(settings, tmp_path / "run")
    newest = max((tmp_path / "run" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:100])
    lines: list[str] = []
    result = train(settings, tmp_path / "run", resume=True, say=lines.append)
    assert result["map_digest"] == whole["map_digest"]
    assert any("is torn" in line and "Using the one before" in line for line in lines)


def test_a_full_disk_at_a_checkpoint_is_told_and_the_run_goes_on(digits, tmp_path, monkeypatch):
    def full(self, snapshot):
        raise OSError(28, "No space left on device")

    expected = train(small("sssom", digits), tmp_path / "undisturbed")
    monkeypatch.setattr(CheckpointStore, "save", full)
    lines: list[str] = []
    settings = small("sssom", digits, train__checkpoint_rounds=4)
    result = train(settings, tmp_path / "run", say=lines.append)
    assert result["map_digest"] == expected["map_digest"]
    assert any("could not be written" in line and "No space left" in line for line in lines)


def test_a_disk_that_stays_full_to_the_end_says_how_to_go_on(digits, tmp_path, tracking_uri, monkeypatch):
    import mlflow

    expected = train(small("sssom", digits), tmp_path / "undisturbed")
    client, settings = mlflow.MlflowClient(tracking_uri), small("sssom", digits, tracking__uri=tracking_uri)
    lines: list[str] = []

    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def fill(epoch, *_):
        until_sent(tmp_path / "run")
        for module in (history, places, rundir, sender):
            monkeypatch.setattr(module, "write_atomically", full)
        monkeypatch.setattr(journal, "_append", full)

    def run():
        (found,) = client.search_runs([client.get_experiment_by_name("somgrad").experiment_id])
        return found

    with pytest.raises(OSError, match="No space left on device: '.*map.safetensors'"):
        train(settings, tmp_path / "run", say=lines.append, on_epoch=fill)
    assert "The state is NOT saved; --resume goes on from the last checkpoint in" in lines[-2]
    assert lines[-1].startswith("Tracking: not everything was sent.") and lines[-1].endswith(
        "--resume records the rest."
    )
    assert run().info.status == "FAILED" and "map.safetensors': No space" in run().data.tags["reason"]
    monkeypatch.undo()
    result = train(settings, tmp_path / "run", resume=True)
    assert result["map_digest"] == expected["map_digest"]
    assert run().info.status == "FINISHED" and "reason" not in run().data.tags
    steps = [metric.step for metric in client.get_metric_history(result["run_id"], "nodes")]
    assert steps == list(range(1, result["epochs"] + 1))


def test_predictions_that_there_is_no_room_for_leave_those_of_before(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    before = contents(tmp_path / "run")
    assert before["predictions.csv"].startswith(b"row,split,label,")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="predictions.csv"):
            keepsakes(tmp_path / "run", Dataset.open(digits))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert contents(tmp_path / "run") == before


def test_a_run_json_that_is_not_json_is_named(digits, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        train(small("sssom", digits), tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == "{"


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_json_without_settings_is_named(digits, tmp_path, resume):
    (tmp_path / "run").mkdir()
    RunDirectory(tmp_path / "run").write(status="finished")
    before = contents(tmp_path / "run")
    with pytest.raises(UserError, match=r"^'.*run\.json' must have the settings of a run\. It has none"):
        train({} if resume else small("sssom", digits), tmp_path / "run", resume=resume)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("then", ["nothing", "a file", "another run", "Ctrl-C"])
def test_a_run_whose_directory_is_taken_away_ends_and_does_not_make_it_again(digits, tmp_path, tracking_uri, then):
    import mlflow

    out, client = tmp_path / "run", mlflow.MlflowClient(tracking_uri)

    def take_away(epoch, expected, metrics):
        until_sent(out)
        shutil.rmtree(out)
        if then == "another run":
            others.append(train(settings | {"tracking.experiment": "other"}, out)["run_id"])
        elif then == "a file":
            out.touch()
        elif then == "Ctrl-C":
            raise KeyboardInterrupt

    expected = {"Ctrl-C": (KeyboardInterrupt, "NOT saved: '.*run' was rem")}.get(then, (OutputLost, "^'.*run' was rem"))
    lines: list[str] = []
    others: list[str] = []
    settings = small("sssom", digits, tracking__uri=tracking_uri, train__checkpoint_rounds=1)
    with pytest.raises(expected[0], match=expected[1]):
        train(settings, out, on_epoch=take_away, say=lines.append)
    assert lines == []
    (run,) = client.search_runs([client.get_experiment_by_name("somgrad").experiment_id])
    assert run.info.status == ("KILLED" if then == "Ctrl-C" else "FAILED")
    assert "map_digest" not in run.data.tags
    assert out.exists() == (then in ("a file", "another run"))
    if then == "another run":
        assert json.loads((out / "tracking.json").read_text())["run_id"] == others[0]
        assert json.loads((out / "run.json").read_text())["status"] == "finished"
        assert Journal(out).lines()[-1]["status"] == "FINISHED"


# ---------------------------------------------------------------- interruptions


def test_a_state_that_could_not_be_saved_is_not_called_saved(digits, tmp_path, monkeypatch):
    def full(self, snapshot):
        raise OSError(28, "No space left on device")

    def interrupt(epoch, expected, metrics):
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointStore, "save", full)
    with pytest.raises(KeyboardInterrupt, match="The state is NOT saved; --resume goes on from the last checkpoint"):
        train(small("sssom", digits), tmp_path / "run", on_epoch=interrupt)


def test_workers_that_cannot_be_asked_for_their_map_do_not_hide_why_a_run_ended(digits, tmp_path):
    class Lost(LocalGroup):
        def wait(self):
            raise WorkerLost("Worker 1 was lost")

        def latest(self):
            raise ValueError("nobody answers")

    lines: list[str] = []
    with pytest.raises(WorkerLost, match="Worker 1 was lost"):
        train(small("sssom", digits), tmp_path / "run", group=Lost(ClusterConfig()), say=lines.append)
    assert lines[0] == "nobody answers" and lines[1].startswith("The state is NOT saved; --resume goes on from")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_two_processes_do_not_train_in_one_directory(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    before = contents(tmp_path / "run")
    with RunDirectory(tmp_path / "run").alone(resume=True):
        with pytest.raises(UserError, match=r"run' is in use by a run that goes on. Wait for its end, or give another"):
            train(small("sssom", digits), tmp_path / "run", resume=True)
        assert contents(tmp_path / "run") == before
    train(small("sssom", digits), tmp_path / "run", resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_saves_its_state_and_goes_on(digits, tmp_path, tracking_uri, number):
    import mlflow

    settings = small("sssom", digits, map__epochs=60, map__tile_size=400, tracking__uri=tracking_uri)
    expected = train({**settings, "tracking.uri": "none"}, tmp_path / "undisturbed")
    words = [*options(settings), "--out", tmp_path / "run"]
    job = subprocess.Popen(command(*words), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 90
    journal = tmp_path / "run" / "tracking.jsonl"
    while not (journal.exists() and journal.read_text().count('"metrics"') > 3) and time.monotonic() < until:
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)
    job.send_signal(number)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 130, said
    assert said.strip().splitlines()[-1].startswith("Interrupted. State saved after round ")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "killed"
    client = mlflow.MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("somgrad").experiment_id])
    assert run.info.status == "KILLED"

    result = last_json(run_job("--out", tmp_path / "run", "--resume", "--json"))  # the run knows its settings
    assert result["map_digest"] == expected["map_digest"]
    assert result["run_id"] == run.info.run_id
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError], ids=["stopped", "killed"])
def test_each_epoch_is_recorded_once_wherever_a_run_ended(digits, tmp_path, tracking_uri, monkeypatch, error):
    """A stopped run may have saved an epoch that it has not noted, a killed one noted more than it saved."""
    import mlflow

    settings = small("sssom", digits, tracking__uri=tracking_uri, train__checkpoint_rounds=1000)
    out, sample, seen = tmp_path / "run", Scorer.sample, []

    def interrupted(self, snapshot):
        seen.append(snapshot.state.round)
        if error is KeyboardInterrupt and len(seen) == 3:
            raise error
        return sample(self, snapshot)

    def told(epoch, *_):
        if error is not KeyboardInterrupt and epoch == 3:
            raise error

    monkeypatch.setattr(Scorer, "sample", interrupted)
    with pytest.raises(error):
        train(settings, out, on_epoch=told)
    result = train(settings, out, resume=True)
    steps = list(range(1, result["epochs"] + 1))
    client = mlflow.MlflowClient(tracking_uri)
    assert [metric.step for metric in client.get_metric_history(result["run_id"], "nodes")] == steps
    assert [numbers["epoch"] for numbers in History.load(out / HISTORY).epochs] == steps
    assert train(settings, out, resume=True)["map_digest"] == result["map_digest"]
    assert [metric.step for metric in client.get_metric_history(result["run_id"], "nodes")] == steps


def test_a_journal_that_cannot_be_read_in_the_end_does_not_hide_why_a_run_failed(digits, tmp_path, monkeypatch):
    def unreadable(self):
        raise OSError(errno.EIO, "Input/output error")

    def fail(epoch, expected, metrics):
        monkeypatch.setattr(Path, "read_bytes", unreadable)
        raise RuntimeError("something of ours broke")

    lines: list[str] = []
    settings = small("sssom", digits, tracking__uri=f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(RuntimeError, match="something of ours broke"):
        train(settings, tmp_path / "run", on_epoch=fail, say=lines.append)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert f"'{tmp_path / 'run' / 'tracking.jsonl'}': Input/output error. Training goes on" in lines[-1]


def test_an_error_in_the_middle_ends_the_record_too(digits, tmp_path, tracking_uri):
    import mlflow

    def fail(epoch, expected, metrics):
        raise RuntimeError("something of ours broke")

    with pytest.raises(RuntimeError, match="something of ours"):
        train(small("sssom", digits, tracking__uri=tracking_uri), tmp_path / "run", on_epoch=fail)
    client = mlflow.MlflowClient(tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("somgrad").experiment_id])
    assert run.info.status == "FAILED"


# ---------------------------------------------------------------- data that is hardly there


@pytest.mark.parametrize("model", SEMI_SUPERVISED)
def test_capacity_1_is_one_node(digits, tmp_path, model):
    result = train(small(model, digits, map__capacity=1), tmp_path / "run")
    assert result["nodes"] == 1
    assert result["accuracy"] is not None


@pytest.mark.parametrize("model", ["kohonen", "dssom", "larfdssom", "sssom", "altsssom"])
def test_one_sample_trains(tmp_path, model):
    data = table(tmp_path / "one", np.array([[0.25, 0.5, 0.75]]), np.array([0]))
    lattice = {"map.rows": 2, "map.columns": 2} if model in ("kohonen", "dssom") else {}
    settings = {"data.path": str(data), "train.model": model, "cluster.workers": 0, "tracking.uri": "none"}
    result = train(settings | lattice | {"map.epochs": 2}, tmp_path / "run")
    assert result["nodes"] == (4 if lattice else 1)
    assert result["quantization_error"] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("model", SEMI_SUPERVISED)
def test_no_labels_at_all_is_a_map_without_classes(tmp_path, rng, model):
    data = table(tmp_path / "unlabelled", rng.random((120, 4)))
    result = train(small(model, data), tmp_path / "run")
    assert result["accuracy"] is None
    assert result["nodes"] >= 1
    state, _, _ = RunDirectory(tmp_path / "run").load_map()
    assert bool((state.classes == -1).all())


@pytest.mark.parametrize(
    ("model", "fraction", "told"),
    [("sssom", 1.0, True), ("dssom", 0.1, True), ("altsssom", 0.1, True), ("sssom", 0.0, False), ("dssom", 1.0, False)],
)
def test_where_labels_are_asked_for_and_there_are_none_that_is_said(tmp_path, rng, model, fraction, told):
    said = []
    data = table(tmp_path / "unlabelled", rng.random((60, 3)))
    train(small(model, data, train__labelled_fraction=fraction), tmp_path / "run", say=said.append)
    assert [line for line in said if "--label-column of jobs.prepare" in line] == said[:told]
    assert all(line.startswith("No training row has a label: ") for line in said[:told])


@pytest.mark.parametrize("model", SEMI_SUPERVISED)
def test_labels_that_are_all_withheld_are_the_same_as_none(tmp_path, rng, model):
    features = rng.random((120, 4))
    labelled = table(tmp_path / "labelled", features, rng.integers(0, 3, 120))
    settings = small(model, labelled, train__labelled_fraction=0.0)
    result = train(settings, tmp_path / "run")
    assert result["accuracy"] is None and result["clustering_accuracy"] > 0
    state, _, _ = RunDirectory(tmp_path / "run").load_map()
    assert bool((state.classes == -1).all())


@pytest.mark.parametrize("model", SEMI_SUPERVISED)
def test_one_class_is_always_right(tmp_path, rng, model):
    data = table(tmp_path / "one-class", rng.random((120, 4)), np.zeros(120, dtype=int))
    result = train(small(model, data), tmp_path / "run")
    assert result["accuracy"] == 1.0


def test_a_class_without_any_label_is_never_predicted_and_costs_accuracy(tmp_path, rng):
    centres = np.eye(3) * 0.8 + 0.1
    labels = np.repeat([0, 1, 2], 60)
    features = centres[labels] + rng.normal(0, 0.01, (180, 3))
    seen = np.where(labels == 2, -1, labels)
    columns = np.concatenate([features, np.zeros((180, 1))], axis=1)
    data = table(tmp_path / "two-of-three", columns, seen)
    result = train(small("sssom", data, train__labelled_fraction=1.0), tmp_path / "run")
    state, _, about = RunDirectory(tmp_path / "run").load_map()
    assert about["num_classes"] == 2
    assert set(state.classes[state.alive].tolist()) <= {-1, 0, 1}
    assert result["accuracy"] == 1.0, "the rows without a class are not scored"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_any_batch_size_counts_every_sample_once(tmp_path, rng, size):
    data = table(tmp_path / "table", rng.random((50, 3)), rng.integers(0, 2, 50))
    settings = small("larfdssom", data, map__batch_size=size, map__epochs=1, map__pruning_epochs=1)
    result = train(settings, tmp_path / "run")
    per_epoch = -(-50 // min(size, 50))
    assert result["rounds"] % per_epoch == 0
    assert result["epochs"] == result["rounds"] // per_epoch == 2


def test_missing_values_are_followed_when_the_data_were_prepared_with_them(tmp_path, rng):
    features = rng.random((120, 4))
    features[rng.random((120, 4)) < 0.1] = np.nan
    data = table(tmp_path / "holes", features, rng.integers(0, 2, 120), missing="mask")
    result = train(small("sssom", data), tmp_path / "run")
    assert result["quantization_error"] > 0
    _, config, _ = RunDirectory(tmp_path / "run").load_map()
    assert config.missing == "mask"
    with pytest.raises(ValueError, match=r"Training row \d+, feature \d must be a number in \[-1, 1\]. Got nan"):
        train(small("sssom", data, map__missing="error"), tmp_path / "strict")


# ---------------------------------------------------------------- the trained map


def test_a_damaged_map_is_refused_by_name(digits, tmp_path):
    train(small("sssom", digits), tmp_path / "run")
    path = tmp_path / "run" / "map.safetensors"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"map\.safetensors' cannot be used: its tensors do not match its digest"):
        RunDirectory(tmp_path / "run").load_map()
    with pytest.raises(ValueError, match="must hold a trained map"):
        RunDirectory(tmp_path).load_map()


def test_the_saved_map_is_the_one_of_the_last_checkpoint(digits, tmp_path):
    result = train(small("sssom", digits), tmp_path / "run")
    state, config, about = RunDirectory(tmp_path / "run").load_map()
    assert state.digest() == result["map_digest"]
    assert config.variant == about["model"] == "sssom"
    assert about["class_names"] == [str(n) for n in range(10)]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    identity = {name: record[name] for name in ("manifest_hash", "config_hash")}
    newest = CheckpointStore(tmp_path / "run" / "checkpoints", identity, keep=3).load_newest()
    assert isinstance(newest, Snapshot)
    assert newest.state.digest() == result["map_digest"]
    assert torch.equal(newest.state.prototypes, state.prototypes)
    assert os.listdir(tmp_path / "run" / "checkpoints")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_told(digits, tmp_path):
    with pytest.raises(UserError, match=r"cluster\.device must be there for every worker\. Got cuda"):
        train(small("sssom", digits, cluster__device="cuda"), tmp_path / "run")
    assert train(small("sssom", digits), tmp_path / "run")["nodes"] > 0  # the folder is free for the mended command
