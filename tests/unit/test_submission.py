"""What travels to a cluster and what does not; what a submitted command line means."""

import base64
import hashlib
import http.server
import json
import os
import shlex
import subprocess
import threading
import time

import pytest
import typer

from jobs._submitted import end, follow, show
from jobs._words import understand
from jobs.submit import submit
from pipeline.cluster.package import GIVEN, check, files_of, lock_of, stage
from pipeline.cluster.submission import Cluster
from pipeline.cluster.task import CODE, Task, module_of, variables
from pipeline.errors import MachineError, UserError
from tests.training import REPOSITORY


def named(folder, content):
    for name, text in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return folder


def test_ignore_rules_are_those_of_git(tmp_path):
    content = {
        ".gitignore": b"*.log\n!keep.log\n/runs/\nbuild/\n",
        "sub/.gitignore": b"local.py\n!deep.log\n",
        "main.py": b"", "a.log": b"", "keep.log": b"", "runs/x.py": b"", "sub/runs/y.py": b"", "sub/local.py": b"",
        "sub/deep.log": b"", "other/local.py": b"", "sub/build/z.py": b"",
    }  # fmt: skip
    named(tmp_path, content)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    expected = subprocess.run(listed, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert files_of(tmp_path) == sorted(name for name in expected if not name.endswith(".gitignore"))
    (tmp_path / ".rayignore").write_text("/other/\n")
    assert "other/local.py" not in files_of(tmp_path)


def test_environments_and_caches_stay_here(tmp_path):
    named(tmp_path, {"env3/pyvenv.cfg": b"", "env3/lib/x.py": b"", "__pycache__/a.pyc": b"", "a.py": b""})
    assert files_of(tmp_path) == ["a.py"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("data/train.parquet", b"PAR1", "looks like data"),
        ("notes.csv", b"1,2\n" * 2**19, "is larger than 1.0 MB"),
        ("deploy/.env", b"A=1", "has the name of a secret"),
        ("tls/server.key", b"", "has the name of a secret"),
        ("home/.ssh/config", b"", "has the name of a secret"),
        ("auth_token", b"", "has the name of a secret"),
        ("deploy/credentials.json", b"{}", "has the name of a secret"),
        ("infra/terraform.tfstate", b"{}", "has the name of a secret"),
        ("api_key.txt", b"x", "has the name of a secret"),
        ("notes.txt", b"-----BEGIN RSA " + b"PRIVATE KEY-----\n", "a private key"),
        ("job.py", b"key = 'AKIA" + b"ABCDEFGHIJKLMNOP'", "a key of a cloud"),
        ("conf.yaml", b"token: ghp_" + b"a" * 36, "an access token"),
    ],
)
def test_data_and_secrets_are_refused_by_name(tmp_path, name, content, reason):
    named(tmp_path, {name: content, "fine.py": b"x = 1\n"})
    with pytest.raises(UserError) as error:
        check(tmp_path, files_of(tmp_path))
    assert name in str(error.value) and reason in str(error.value) and ".rayignore" in str(error.value)
    (tmp_path / ".rayignore").write_text(f"/{name}\n")
    assert check(tmp_path, files_of(tmp_path)) == 6


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_by_name(tmp_path):
    (tmp_path / "shared").symlink_to(tmp_path.parent)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"shared is a link to a folder\. Name it in \.rayignore"):
        stage(tmp_path / "out", named(tmp_path, {".gitignore": b"/out/\n"}), {})
    (tmp_path / "shared").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no file"):
        check(tmp_path, files_of(tmp_path))


def test_code_that_only_sounds_secret_travels(tmp_path):
    names = ["tokenizer.py", "secrets.py", "keys.py", ".env.example", "monkey.py", "credentials.md"]
    named(tmp_path, dict.fromkeys(names, b""))
    assert check(tmp_path, files_of(tmp_path)) == 0


def test_this_repository_travels_without_tests_and_runs_there(tmp_path):
    stage(tmp_path, REPOSITORY, {})
    assert not (tmp_path / "tests").exists() and (tmp_path / "pipeline" / "recipes" / "mnist.yaml").exists()


def test_a_project_of_the_user_gets_the_packages(tmp_path):
    target = tmp_path / "out"
    tree = named(tmp_path / "mine", {"my_net.py": b"x = 1\n", "conf.yaml": b"map.epochs: 2\n"})
    stage(target, tree, {"0-conf.yaml": tree / "conf.yaml"})
    present = ["my_net.py", "jobs/train.py", "somcore/state.py", f"{GIVEN}/0-conf.yaml"]
    assert all((target / name).exists() for name in present)
    assert stage(tmp_path / "given", tree, {"0-conf.yaml": tree / "conf.yaml"}, code=False) == (1, 14)


def test_the_lock_file_is_found_or_asked_for(tmp_path):
    with pytest.raises(UserError, match="needs a lock file"):
        lock_of(tmp_path, "lock")
    named(tmp_path, {"infra/requirements.lock": b"", "requirements.txt": b""})
    assert lock_of(tmp_path, "lock") == tmp_path / "infra" / "requirements.lock"
    with pytest.raises(UserError, match="--environment must be"):
        lock_of(tmp_path, "conda")


def test_the_entrypoint_survives_the_shell(tmp_path, monkeypatch):
    """Spaces, quotes and dollars arrive as typed; a file that travels is found where it travels to."""
    given = tmp_path / "my conf.yaml"
    given.write_text("")
    words = ("jobs.train", "--config", str(given), "--set", "a=$HOME 'x'", "--out", "run 1")
    line = Task(words, {str(given): given}, workdir=str(tmp_path / "my dir")).entrypoint()
    (tmp_path / "my dir").mkdir()
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": "/elsewhere"}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = done.stdout.splitlines()[3:]  # the first call asks whether python has the packages
    where = f"{tmp_path}/{GIVEN}/0-my conf.yaml"
    assert said == [f"{tmp_path}/my dir", "-P", "-m", "jobs.train", "--config", where, *words[3:]]


@pytest.mark.parametrize("typed", ["train", "somgrad train", "python -m jobs.train", "bin/python3.11 -m jobs.train"])
def test_every_spelling_of_a_command_is_understood(typed):
    assert module_of([*shlex.split(typed), "--seed", "1"], ["train"]) == ("jobs.train", "--seed", "1")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("rm -rf x", "must be one of"),
        ("submit --list", "must be one of"),
        ("train --data d --model sssom --out /mnt/r", "--data must be an absolute path"),
        ("train --data /mnt/d --model sssom --out /mnt/r --address 1.2.3.4:6379", "left out"),
        ("train --data /mnt/d --model sssom --out /mnt/r --tracking-uri http://me:pw@host", "free of passwords"),
        ("evaluate --run runs/first", "--run must be an absolute path"),
        (
            "train --data /d --model sssom --out /o --tracking-uri sqlite:///x.db",
            "--tracking-uri must be an absolute path .* Got 'sqlite:///x.db'",
        ),
        ("train --data /d --model sssom --out /o --set train.checkpoints=ck", "train.checkpoints must be an absolute"),
        (
            "train --data /d --model deep --out /o --set encoder.weights=resnet18:w.pth",
            "encoder.weights must be an abs",
        ),
        ("train --data /d --model sssom --out /o --set tracking.uri=mlruns", "tracking.uri must be an absolute path"),
        ("train --data /mnt/d --model sssom", "^Missing option '--out'. Try python -m jobs.train --help.$"),
        ("train --data /d --model sssom --out /o --lerning-rate 1", "(?i)no such option: --lerning-rate"),
        (
            "train --data /d --model sssom --out /o --workers two",
            "Invalid value for '--workers': .* integer. Try python -m",
        ),
        ("train --data /d --out /o --model", "(?i)option '--model' requires an argument"),
        ("benchmark soaked", "(?i)no such command 'soaked'"),
    ],
)
def test_a_command_that_cannot_run_there_is_refused(typed, said):
    with pytest.raises(UserError, match=said):
        understand(typed.split(), None)


def test_files_of_settings_travel_and_recipes_do_not(tmp_path, monkeypatch):
    monkeypatch.chdir(named(tmp_path, {"conf.yaml": b"train: {seed: 1}"}))
    words = understand(["train", "--data", "d", "--model", "sssom", "--out", "o", "--config=conf.yaml"], "/mnt")
    assert list(words.given) == ["conf.yaml"] and words.resumable and words.tracked
    assert not understand(["train", "--data", "d", "--model", "deep", "--out", "o", "--config", "mnist"], "/mnt").given


def test_a_file_of_settings_travels_however_it_is_typed_and_says_no_relative_place(tmp_path, monkeypatch):
    monkeypatch.chdir(named(tmp_path, {"conf.yaml": b"train: {checkpoints: kept, seed: 1}"}))
    words = ["train", "--data", "/d", "--model", "sssom", "--out", "/o", "--tracking-uri", "sqlite:////mnt/x.db"]
    for typed in ("conf.yaml", "./conf.yaml", ".//conf.yaml"):
        found = understand([*words, "--config", typed], "/mnt")
        spoken = Task(found.words, found.given).entrypoint()
        assert f'"${CODE}"/{GIVEN}/0-conf.yaml' in spoken and "./" not in spoken
    assert not understand([*words, "--config", "/mnt/only/there.yaml"], None).given
    understand([*words, "--config", "conf.yaml", "--set", "train.checkpoints=/mnt/kept"], None)
    (tmp_path / "own.yaml").write_text("{data: {path: d}, tracking: {uri: mlruns}}")
    understand([*words, "--config", "own.yaml"], None)  # the options count more
    with pytest.raises(UserError, match="^train.checkpoints must be an absolute path .* Got 'kept'.$"):
        understand([*words, "--config", "conf.yaml"], None)


@pytest.mark.parametrize("workdir", ["/mnt", None])
def test_a_recipe_needs_no_path_and_every_file_of_settings_travels(tmp_path, monkeypatch, workdir):
    monkeypatch.chdir(named(tmp_path, {"conf.yaml": b"train: {seed: 1}"}))
    assert not understand(
        ["train", "--data", "/d", "--model", "deep", "--out", "/o", "--config", "mnist"], workdir
    ).given
    words = ["compare", "--data", "/d", "--out", "/o", "--unlabelled-config"]
    assert not understand([*words, "mnist-unlabelled"], workdir).given
    assert list(understand([*words, "conf.yaml"], workdir).given) == ["conf.yaml"]
    if workdir is None:
        with pytest.raises(UserError, match="--unlabelled-config must be an absolute path .* Got 'other.yaml'"):
            understand([*words, "other.yaml"], workdir)


@pytest.mark.parametrize(
    "text", ["AWS_SECRET_ACCESS_KEY=x", "MLFLOW_TRACKING_PASSWORD", "DB=http://u:p@h/d", "HERE", "1A=2"]
)
def test_variables_carry_no_secrets(text, monkeypatch):
    monkeypatch.setenv("HERE", "postgresql://u:p@h/d")
    with pytest.raises(UserError, match="--env must be"):
        variables([text])


def test_variables_are_those_asked_for_and_the_tracking_server(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth1")
    found = variables(["GLOO_SOCKET_IFNAME", "A=b=c"])
    assert found == {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "GLOO_SOCKET_IFNAME": "eth1", "A": "b=c"}


WAITS = "Job has not started yet. It may be waiting for resources (CPUs, ...) to become available."


class Dashboard(http.server.BaseHTTPRequestHandler):
    """As much of Ray's dashboard as a client that follows a job asks for; a log that is never to be had, and one whose
    first connection breaks before the job ends."""

    def _log(self, *pieces, whole):
        """A websocket with some text, closed as it should be or cut off."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(bytes([0x81, len(piece)]) + piece.encode())
        self.wfile.write(b"\x88\x02\x03\xe8" if whole else b"")
        self.close_connection = True

    def do_GET(self):
        if self.path == "/api/version":
            return self._say(200, {"version": "4", "ray_version": "2.0", "ray_commit": "x", "session_name": "s"})
        if self.path in ("/api/jobs/done", "/api/jobs/cut"):
            return self._job("done", "SUCCEEDED")
        if self.path == "/api/jobs/full":  # has no room
            return self._job("full", "PENDING")
        if self.path == "/api/jobs/late":  # has none at first
            self.server.looked = getattr(self.server, "looked", 0) + 1
            return self._job("late", "PENDING" if self.server.looked < 4 else "SUCCEEDED")
        if self.path == "/api/jobs/late/logs/tail":
            return self._log("begun\n", whole=True)
        if self.path == "/api/jobs/slow":  # does not answer once, after its log has broken off
            self.server.looked = getattr(self.server, "looked", 0) + 1
            if self.server.looked == 2:
                return self._say(500, {"msg": "The head is busy."})
            return self._job("slow", "RUNNING" if self.server.looked < 2 else "SUCCEEDED")
        if self.path == "/api/jobs/slow/logs/tail":
            time.sleep(1.5)
            return self._log(whole=False)
        if self.path == "/api/jobs/cut/logs/tail":
            self.server.asked = getattr(self.server, "asked", 0) + 1
            if self.server.asked == 1:
                return self._log("one\n", whole=False)
            return self._log("one\ntwo\n", '{"accuracy": 1}\n', whole=True)
        if self.path == "/api/jobs/done/logs/tail":
            return self.connection.close()  # as a head node that dies
        return self._say(404, {"msg": "Job nobody does not exist"})

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/jobs/full/stop":
            return self._say(200, {"stopped": True})
        if b'"taken"' in sent:
            text = "Traceback (most recent call last):\nValueError: Job with submission_id taken already exists."
            return self._say(400, {"msg": text})
        self.server.asked = getattr(self.server, "asked", 0) + 1
        if self.server.asked < 3:  # as long as the agent of the head is starting
            return self._say(500, {"msg": "No available agent to submit job, please try again later."})
        return self._say(200, {"submission_id": "new", "job_id": "new"})

    def _job(self, name, status):
        about = {"type": "SUBMISSION", "status": status, "entrypoint": "x", "submission_id": name}
        return self._say(200, about | {"message": WAITS if status == "PENDING" else "Over.", "start_time": 1})

    def _say(self, code, content):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def dashboard(monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_ctrl_c_twice_leaves_the_job_alone_and_says_so(monkeypatch):
    class Following:
        def follow(self, job, write, say):
            raise KeyboardInterrupt

    def again(*_, **__):
        raise typer.Abort

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", again)
    with pytest.raises(KeyboardInterrupt, match="^Job j goes on. See --logs j, --stop j.$"):
        follow(Following(), "j")


def test_a_log_that_is_not_to_be_had_is_no_fault(dashboard):
    cluster = Cluster(f"http://127.0.0.1:{dashboard.server_port}")
    with pytest.raises(UserError, match="There is no job 'nobody'"):
        cluster.follow("nobody", print, print)
    assert cluster.follow("done", print, print)["status"] == "SUCCEEDED"


def test_a_log_that_broke_off_is_written_to_its_end_also_when_the_job_has_ended(dashboard):
    written = []
    Cluster(f"http://127.0.0.1:{dashboard.server_port}").follow("cut", written.append, print)
    assert "".join(written) == 'one\ntwo\n{"accuracy": 1}\n' and dashboard.asked == 2


def test_a_cluster_that_is_still_starting_is_asked_again(dashboard, monkeypatch):
    cluster = Cluster(f"http://127.0.0.1:{dashboard.server_port}")
    assert cluster.submit(Task(("jobs.train",), environment="none"))["files"] == 0
    assert dashboard.asked == 3
    dashboard.asked = 0
    monkeypatch.setattr("pipeline.cluster.submission._AWAY_S", -1.0)
    with pytest.raises(MachineError, match="No node of the cluster .* takes jobs"):
        cluster.submit(Task(("jobs.train",), environment="none"))


def test_a_name_that_is_taken_is_told_as_it_was_typed(dashboard):
    cluster = Cluster(f"http://127.0.0.1:{dashboard.server_port}")
    with pytest.raises(UserError) as error:
        cluster.submit(Task(("jobs.train",), environment="none"), "taken")
    assert str(error.value) == "--name must be a name that no job of the cluster has had. Got 'taken'."


@pytest.mark.parametrize("option", ["name", "logs", "status", "stop"])
@pytest.mark.parametrize("name", ["", "x/y", "..", "a b", "#", "x" * 201, "x\n"])
def test_what_can_be_no_name_of_a_job_is_refused_before_anything_is_sent(option, name):
    command = ["train"] if option == "name" else None
    with pytest.raises(UserError, match=f"^--{option} must be a name of letters, digits"):
        submit(command, address="http://127.0.0.1:9", **{option: name})


def test_a_job_that_has_no_room_is_not_waited_for_in_silence(dashboard, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.cluster.submission._BEGINS_S", 0.0)
    cluster = Cluster(f"http://127.0.0.1:{dashboard.server_port}")
    show(cluster.job("full"))
    begun = time.monotonic()
    assert end(cluster, "full")["status"] == "PENDING" and time.monotonic() - begun < 10
    _, shown, _, again, ended = capsys.readouterr().err.splitlines()
    assert shown == again == WAITS
    assert ended == ("It has not begun: Ray stops it when it begins, or gives it up 15 minutes after it was sent.")
    assert follow(cluster, "late")["status"] == "SUCCEEDED"
    told = capsys.readouterr()
    assert told.out == "begun\n" and told.err.count(WAITS) == 1


def test_a_cluster_that_answered_a_moment_ago_is_asked_again(dashboard, monkeypatch):
    """However long the log was open before."""
    monkeypatch.setattr("pipeline.cluster.submission._AWAY_S", 1.2)
    cluster = Cluster(f"http://127.0.0.1:{dashboard.server_port}")
    assert cluster.follow("slow", print, print)["status"] == "SUCCEEDED"
