"""Tracking: a real MLflow store, a server that is not there, and one that comes back."""

import errno
import json
import shutil
import socket
import threading
import time
from types import SimpleNamespace

import mlflow
import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

from pipeline.errors import TrackingUnavailable, UserError
from pipeline.tracking.journal import Journal
from pipeline.tracking.results import tracked_runs
from pipeline.tracking.sender import Sender
from pipeline.tracking.stores import absolute, bare
from pipeline.tracking.system_metrics import SystemMetrics
from pipeline.tracking.tracker import Tracker, store_of

PARAMS = {f"map.option{n}": n for n in range(120)} | {"train.labelled_fraction": 0.1, "cluster.workers": 2}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")


def record(tracker: Tracker, tmp_path, status: str = "FINISHED") -> None:
    where = {"tracking.uri": "a place", "tracking.moments": 3}  # where it is recorded is no parameter of a run
    tracker.start("a run", PARAMS | where, {"manifest_hash": "abc"})
    for epoch in range(1, 4):
        metrics = {"accuracy": 0.1 * epoch, "nodes": epoch, "nmi": None, "topographic_error": float("nan")}
        tracker.metrics(metrics, epoch)
    (tmp_path / "map.bin").write_bytes(b"a map")
    tracker.artifact(tmp_path / "map.bin")
    tracker.finish(status, {"map_digest": "123"})


def check(uri: str, run_id: str, status: str = "FINISHED") -> None:
    client = mlflow.MlflowClient(uri)
    run = client.get_run(run_id)
    assert run.info.status == status
    assert run.info.run_name == "a run"
    assert run.data.params == {key: str(value) for key, value in PARAMS.items()}
    machine = {name for name in run.data.metrics if name.startswith("system/")}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= machine
    ours = {name: value for name, value in run.data.metrics.items() if name not in machine}
    assert ours == pytest.approx({"accuracy": 0.3, "nodes": 3.0})
    history = client.get_metric_history(run_id, "nodes")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert run.data.tags["manifest_hash"] == "abc"
    assert run.data.tags["map_digest"] == "123"
    assert [file.path for file in client.list_artifacts(run_id)] == ["map.bin"]


def sent(tmp_path, uri: str) -> str | None:
    """MLflow's id of the run, once it was told what is in the journal."""
    sender = Sender(tmp_path, Journal(tmp_path), uri, "some experiment")
    sender.send()
    return sender.run_id


def wait_for(condition) -> None:
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_run_is_recorded_and_ended(tmp_path, tracking_uri, status):
    lines: list[str] = []
    tracker = Tracker(tmp_path, tracking_uri, "some experiment", lines.append)
    record(tracker, tmp_path, status)
    check(tracking_uri, tracker.run_id, status)
    assert lines == []


def test_megabytes_are_those_of_mlflow(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(used=5e9, total=8e9, percent=62.5))
    theirs = CPUMonitor()
    theirs.collect_metrics()
    ((name, values),) = [item for item in theirs.metrics.items() if item[0].endswith("megabytes")]
    assert SystemMetrics().sample()[f"system/{name}"] == values[0] == 5000.0


def test_a_resumed_run_is_the_same_run_and_runs_again(tmp_path, tracking_uri):
    first = Tracker(tmp_path, tracking_uri, "some experiment")
    record(first, tmp_path, "KILLED")
    second = Tracker(tmp_path, tracking_uri, "some experiment")
    second.start("a run", PARAMS | {"cluster.workers": 3}, {"resumed_with": "3"})
    second.metrics({"accuracy": 0.9}, 4)
    second.finish("FINISHED")
    assert second.run_id == first.run_id
    client = mlflow.MlflowClient(tracking_uri)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed_with"] == "3"
    assert [m.value for m in client.get_metric_history(first.run_id, "accuracy")] == pytest.approx([0.1, 0.2, 0.3, 0.9])


def test_a_run_that_goes_on_elsewhere_stays_in_its_store_and_another_store_hears_everything(
    tmp_path, migrated_store, monkeypatch
):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(migrated_store, tmp_path / name / "mlflow.db")
    stores = {name: f"sqlite:///{tmp_path / name / 'mlflow.db'}" for name in ("a", "b")}
    asked = "sqlite:///mlflow.db"  # of the directory that the command runs in
    monkeypatch.chdir(tmp_path / "a")
    first = Tracker(tmp_path, asked, "some experiment")
    first.start("a run", PARAMS, {})
    first.finish("KILLED")
    monkeypatch.chdir(tmp_path / "b")
    second = Tracker(tmp_path, asked, "some experiment")
    record(second, tmp_path)
    assert second.run_id == first.run_id and store_of(tmp_path) == stores["a"]
    assert mlflow.MlflowClient(stores["a"]).get_run(first.run_id).info.status == "FINISHED"
    third = Tracker(tmp_path, stores["b"], "some experiment")
    third.start("a run", PARAMS, {"manifest_hash": "abc"})
    third.finish("FINISHED")
    assert third.run_id != first.run_id and store_of(tmp_path) == stores["b"]
    check(stores["b"], third.run_id)


@pytest.mark.parametrize("name", ["my runs ä", "100%20?"])
@pytest.mark.parametrize("asked", [None, "sqlite:///mlflow.db"])
def test_the_name_of_a_folder_may_hold_anything(tmp_path, migrated_store, monkeypatch, asked, name):
    """MLflow writes %20 for a space where the store is its own, and reads it so everywhere."""
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(migrated_store, folder / "mlflow.db")
    monkeypatch.chdir(folder)
    # as in a new process: an earlier test's download has set a store for all
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = Tracker(folder / "run", asked, "some experiment")
    (folder / "run").mkdir()
    record(tracker, folder / "run")
    if "%" not in name:  # MLflow itself makes an empty folder beside such a one
        assert [path.name for path in tmp_path.iterdir()] == [name]
    assert {"mlflow.db", "mlruns"} <= {path.name for path in folder.iterdir()}
    here = asked and absolute(asked)  # MLflow keeps a store that it has opened by the name it was given
    assert list(tracked_runs("some experiment", here)["run_id"]) == [tracker.run_id]
    monkeypatch.chdir(tmp_path)
    check(store_of(folder / "run"), tracker.run_id)


def made(migrated_store, folder) -> str:
    """A fresh store in a new folder."""
    folder.mkdir()
    shutil.copy(migrated_store, folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def sat(folder, uri, status="FINISHED", **tags) -> Tracker:
    """A sitting of a run."""
    tracker = Tracker(folder, uri, "some experiment")
    tracker.start("a run", PARAMS, {})
    tracker.finish(status, tags)
    return tracker


def runs_of(uri) -> list:
    client = mlflow.MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return client.search_runs(experiments)


def test_a_store_by_another_name_is_asked_whether_it_knows_the_run(tmp_path, migrated_store):
    real = made(migrated_store, tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    first = sat(tmp_path, real, "KILLED")
    again = Tracker(tmp_path, real.replace("real", "link"), "some experiment")
    assert again.run_id is None, "not before the store was asked"
    again.start("a run", PARAMS, {})
    again.finish("FINISHED")
    assert again.run_id == first.run_id and store_of(tmp_path) == real.replace("real", "link")
    assert [run.info.status for run in runs_of(real)] == ["FINISHED"]


def test_a_run_that_comes_back_to_its_first_store_is_not_doubled_there(tmp_path, migrated_store):
    a, b = made(migrated_store, tmp_path / "a"), made(migrated_store, tmp_path / "b")
    ids = [sat(tmp_path, uri, "KILLED").run_id for uri in (a, b, a, b)]
    assert ids[:2] == ids[2:] and ids[0] != ids[1]
    assert len(runs_of(a)) == len(runs_of(b)) == 1
    ends = [line["time_ms"] for line in Journal(tmp_path).lines() if line["kind"] == "end"]
    assert [runs_of(uri)[0].info.end_time for uri in (a, b)] == ends[2:], "each heard of its last sitting"


def test_what_was_sent_is_sent_again_to_another_store(tmp_path, migrated_store):
    a, b = made(migrated_store, tmp_path / "a"), made(migrated_store, tmp_path / "b")
    first = Tracker(tmp_path, a, "some experiment")
    record(first, tmp_path)
    there = sent(tmp_path, b)
    assert there != first.run_id
    check(b, there)


def test_another_store_that_is_away_does_not_change_where_the_run_is_known(tmp_path, tracking_uri):
    first = sat(tmp_path, tracking_uri, "KILLED")
    away = sat(tmp_path, f"http://127.0.0.1:{closed_port()}")
    assert away.run_id is None and store_of(tmp_path) == tracking_uri
    assert sent(tmp_path, tracking_uri) == first.run_id
    assert [run.info.status for run in runs_of(tracking_uri)] == ["FINISHED"]


def test_why_a_run_failed_is_no_tag_of_the_run_that_went_on(tmp_path, tracking_uri):
    failed = sat(tmp_path, tracking_uri, "FAILED", reason="disk full", error="OSError: disk full", kept="yes")
    client = mlflow.MlflowClient(tracking_uri)
    assert client.get_run(failed.run_id).data.tags["reason"] == "disk full"
    sat(tmp_path, tracking_uri)
    run = client.get_run(failed.run_id)
    assert run.info.status == "FINISHED" and run.data.tags["kept"] == "yes"
    assert not {"reason", "error"} & run.data.tags.keys()


def test_no_password_of_a_store_is_written_or_said(tmp_path, monkeypatch):
    store = f"http://127.0.0.1:{closed_port()}"
    full, lines = store.replace("//", "//mlflow:PASSWORD@"), []
    (tmp_path / "tracking.json").write_text(json.dumps({"run_id": "1", "sent": 0, "uri": full, "store": full}))
    tracker = Tracker(tmp_path, full, "some experiment", lines.append)
    record(tracker, tmp_path)
    assert len(lines) == 1 and store[7:] in lines[0]
    assert not [text for text in (*lines, *(p.read_text() for p in tmp_path.iterdir())) if "PASSWORD" in text]
    assert store_of(tmp_path) == store and store_of(tmp_path, full) == full
    assert Tracker(tmp_path, store, "some experiment").store == store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", full)
    assert Tracker(tmp_path, store, "some experiment").store == store_of(tmp_path) == full, "said by the environment"
    assert Tracker(tmp_path, full.replace("PASSWORD", "changed"), "some experiment").run_id == "1", "the same store"


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("postgresql://mlflow:s3c/r@t@db:5432/mlflow?sslmode=require", "postgresql://db:5432/mlflow?sslmode=require"),
        ("postgresql://db/mlflow?user=mlflow&password=PASSWORD", "postgresql://db/mlflow"),
        ("https://token@host/mlflow", "https://host/mlflow"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////srv/a:1@b/mlflow.db", "sqlite:////srv/a:1@b/mlflow.db"),
        ("API request to http://mlflow:PASSWORD@host/api failed", "API request to http://host/api failed"),
    ],
)
def test_a_login_is_told_from_what_only_looks_like_one(uri, kept):
    assert bare(uri) == kept


@pytest.mark.parametrize("kind", ["file:", "", "sqlite:///"])
def test_stores_have_names_that_hold_in_any_directory(tmp_path, monkeypatch, kind):
    from mlflow.utils.file_utils import local_file_uri_to_path

    monkeypatch.chdir(tmp_path)
    assert absolute(f"{kind}/srv/mlruns") == f"{kind}/srv/mlruns"
    path = absolute(f"{kind}mlruns").removeprefix("sqlite:///")
    assert local_file_uri_to_path(path) == str(tmp_path / "mlruns")
    assert absolute("postgresql+psycopg2://db/mlflow") == "postgresql+psycopg2://db/mlflow"


def test_a_journal_without_its_first_line_holds_up_nothing(tmp_path, tracking_uri):
    journal = Journal(tmp_path)
    journal.path.write_bytes(b'{"kind": "sta\n')
    tracker = Tracker(tmp_path, tracking_uri, "some experiment")
    record(tracker, tmp_path)
    check(tracking_uri, tracker.run_id)


def test_an_experiment_that_was_deleted_is_said_to_be_that(tmp_path, tracking_uri):
    client = mlflow.MlflowClient(tracking_uri)
    number = client.create_experiment("some experiment")
    client.delete_experiment(number)
    lines: list[str] = []
    tracker = Tracker(tmp_path, tracking_uri, "some experiment", lines.append)
    record(tracker, tmp_path)
    how = f"restore it (mlflow experiments restore -x {number}) or give another --experiment"
    assert [line.split(".")[0] for line in lines] == [f"Tracking: the experiment 'some experiment' is deleted: {how}"]
    with pytest.raises(UserError, match=f"--experiment must be .* deleted. .* mlflow experiments restore -x {number}"):
        tracked_runs("some experiment", tracking_uri)
    client.restore_experiment(number)
    check(tracking_uri, sent(tmp_path, tracking_uri))


def test_a_store_that_is_no_database_is_said_to_be_that(tmp_path):
    (tmp_path / "m.db").write_bytes(b"of something else, " * 100)
    lines: list[str] = []
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    record(Tracker(tmp_path, uri, "some experiment", lines.append), tmp_path)
    (line,) = lines
    assert f"{uri} cannot be used (DatabaseError: " in line and "move the file away or give another" in line
    with pytest.raises(UserError, match="--tracking-uri must be an MLflow store .* not a database"):
        tracked_runs("some experiment", uri)


def test_a_store_is_not_blamed_where_the_disk_of_the_run_is_full(tmp_path, tracking_uri, monkeypatch):
    def full(path, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    journal = Journal(tmp_path)
    journal.write("start", name="a run", tags={})
    monkeypatch.setattr("pipeline.tracking.sender.write_atomically", full)
    with pytest.raises(TrackingUnavailable, match=r"^'.*tracking\.json': No space left on device$"):
        Sender(tmp_path, journal, tracking_uri, "some experiment").send()


def test_an_unreachable_server_is_told_once_and_nothing_is_lost(tmp_path, tracking_uri):
    lines: list[str] = []
    tracker = Tracker(tmp_path, f"http://127.0.0.1:{closed_port()}", "some experiment", lines.append)
    began = time.monotonic()
    record(tracker, tmp_path)
    assert time.monotonic() - began < 30
    assert tracker.run_id is None
    assert len(lines) == 1
    assert "cannot be reached" in lines[0]
    assert str(tmp_path / "tracking.jsonl") in lines[0]
    check(tracking_uri, sent(tmp_path, tracking_uri))
    assert sent(tmp_path, tracking_uri) is not None, "sending again sends nothing twice"
    client = mlflow.MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("some experiment")
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_records_wait_for_nobody(tmp_path):
    """A server that accepts connections and never answers must not slow a training down."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = Tracker(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", "some experiment")
        began = time.monotonic()
        tracker.start("a run", PARAMS, {})
        for epoch in range(200):
            tracker.metrics({"accuracy": 0.5}, epoch)
        assert time.monotonic() - began < 2
        tracker.finish("FINISHED", patience_s=0.1)
    assert [line["kind"] for line in Journal(tmp_path).lines()] == ["start", *["metrics"] * 200, "end"]


def test_no_tracking_is_the_journal_only(tmp_path):
    tracker = Tracker(tmp_path, "none", "some experiment")
    record(tracker, tmp_path)
    assert tracker.run_id is None
    kinds = [line["kind"] for line in Journal(tmp_path).lines()]
    assert kinds == ["start", "metrics", "metrics", "metrics", "artifact", "end"]
    assert not (tmp_path / "tracking.json").exists()


def test_the_last_step_is_the_largest_that_a_metric_was_recorded_at(tmp_path):
    tracker = Tracker(tmp_path, "none", "some experiment")
    tracker.start("a run", PARAMS, {})
    for step in (1, 2, 5):
        tracker.metrics({"nodes": 3}, step)
    tracker.metrics({"accuracy": 0.5}, 7)
    assert [tracker.last_step(name) for name in ("nodes", "accuracy", "never")] == [5, 7, 0]


def test_a_journal_that_ends_in_half_a_line_is_read_up_to_there(tmp_path):
    journal = Journal(tmp_path)
    journal.write("start", name="a run")
    with open(journal.path, "a") as file:
        file.write('{"kind": "metr')
    assert [line["name"] for line in journal.lines()] == ["a run"]
    journal.write("end", status="FINISHED")
    assert [line["kind"] for line in journal.lines()] == ["start", "torn", "end"]


def test_lines_that_are_no_records_count_as_nothing(tmp_path, tracking_uri):
    """As a disk leaves them that lost its power."""
    junk = [b"\x9c\xff\x10", b"\0" * 300, b"[1, 2]", b'[["kind", "end"]]', b"7", b"{}", b""]
    journal = Journal(tmp_path)
    journal.path.write_bytes(b"\n".join(junk) + b"\n")
    tracker = Tracker(tmp_path, tracking_uri, "some experiment")
    assert tracker.last_step("nodes") == 0
    record(tracker, tmp_path)
    assert [line["kind"] for line in journal.lines()][:8] == ["torn"] * 7 + ["start"]
    check(tracking_uri, tracker.run_id)


def test_a_journal_that_cannot_be_read_for_a_moment_does_not_end_the_sending(tmp_path, tracking_uri):
    lines: list[str] = []
    tracker = Tracker(tmp_path, tracking_uri, "some experiment", lines.append)
    journal, aside = tmp_path / "tracking.jsonl", tmp_path / "aside"
    tracker.start("a run", PARAMS, {})
    wait_for(lambda: '"sent": 1' in (tmp_path / "tracking.json").read_text())
    journal.rename(aside)
    journal.mkdir()
    tracker.metrics({"nodes": 1}, 1)
    wait_for(lambda: len(lines) == 2)
    journal.rmdir()
    aside.rename(journal)
    assert f"Tracking: '{journal}': Is a directory. Training goes on; the records are kept in" in "".join(lines)
    tracker.finish("FINISHED")
    run = mlflow.MlflowClient(tracking_uri).get_run(tracker.run_id)
    assert (run.info.status, run.data.metrics["nodes"]) == ("FINISHED", 1)


def test_two_processes_worth_of_trackers_share_one_new_store(tmp_path):
    """Creating one SQLite store from several sides at once breaks it; they take turns."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    trackers = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        trackers.append(Tracker(tmp_path / str(number), uri, "some experiment"))
        trackers[-1].start(f"run {number}", {"n": number}, {})
    threads = [threading.Thread(target=t.finish, args=("FINISHED",)) for t in trackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    client = mlflow.MlflowClient(uri)
    assert {client.get_run(t.run_id).info.status for t in trackers} == {"FINISHED"}
    position = json.loads((tmp_path / "0" / "tracking.json").read_text())
    assert (position["sent"], position["experiment"]) == (2, "some experiment")
    place = client.get_experiment_by_name("some experiment").artifact_location
    assert place == (tmp_path / "mlruns" / "some experiment").as_uri()


def test_a_thousand_metrics_and_an_end_are_few_messages(tmp_path, tracking_uri, monkeypatch):
    from mlflow.tracking import MlflowClient

    from pipeline.tracking.sender import Sender

    sent: list[str] = []
    for name in ("create_run", "log_batch", "set_terminated"):
        method = getattr(MlflowClient, name)

        def counted(self, *arguments, _name=name, _method=method, **options):
            sent.append(_name)
            return _method(self, *arguments, **options)

        monkeypatch.setattr(MlflowClient, name, counted)
    journal = Journal(tmp_path)
    journal.write("start", name="a run", params={"a": 1}, tags={})
    for step in range(100):
        journal.write("metrics", values={f"m{n}": 0.1 * step for n in range(10)}, step=step)
    journal.write("end", status="FINISHED", tags={"b": 2})
    sender = Sender(tmp_path, journal, tracking_uri, "some experiment")
    sender.send()
    assert sent == ["create_run", "log_batch", "log_batch", "set_terminated"]
    assert len(mlflow.MlflowClient(tracking_uri).get_metric_history(sender.run_id, "m9")) == 100


@pytest.mark.parametrize("names", [("bob's", "bob_s"), ("""a"b'c""", "a"), ("50%'\\", "50%'"), ("A's", "a's")])
def test_a_run_is_found_again_by_a_name_with_quotes(tmp_path, migrated_store, names):
    """As the trials of a sweep whose id could not be noted any more."""
    uri = made(migrated_store, tmp_path / "store")

    def sent(folder, name):
        (tmp_path / folder).mkdir()
        journal = Journal(tmp_path / folder)
        journal.write("start", name="trial", params={}, tags={})
        sender = Sender(tmp_path / folder, journal, uri, "x", unique={"sweep": "s", "trial": name})
        sender.send()
        return sender.run_id

    other, first = sent("other", names[1]), sent("first", names[0])
    assert sent("again", names[0]) == first != other
