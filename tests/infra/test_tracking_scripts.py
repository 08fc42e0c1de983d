"""The scripts beside the tracking server: what they hand to other programs, and whom they stop."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

SCRIPTS = Path(__file__).parents[2] / "infra" / "mlflow"
SECRET = "pa%ss/w:ord@1"


def shell(text, **variables):
    """Standard output of a few lines of sh."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-euc", text], capture_output=True, text=True, env={"PATH": path, **variables})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_password_goes_by_the_environment_and_never_by_an_argument():
    uri = f"postgresql+psycopg2://mlflow:{quote(SECRET, safe='')}@db.example:5432/mlflow?sslmode=require"
    text = f'. {SCRIPTS}/database.sh; on_database "$GIVEN" sh -c \'echo "$PGPASSWORD"; echo "$@"\' name --format custom'
    password, arguments = shell(text, GIVEN=uri).splitlines()
    assert password == SECRET
    assert arguments == "--format custom --dbname postgresql://mlflow@db.example:5432/mlflow?sslmode=require"


def test_an_address_without_a_password_leaves_that_of_the_user():
    text = f'. {SCRIPTS}/database.sh; on_database "$GIVEN" sh -c \'echo "$PGPASSWORD"; echo "$@"\' name'
    said = shell(text, GIVEN="postgresql://mlflow@db/mlflow", PGPASSWORD=SECRET).splitlines()
    assert said == [SECRET, "--dbname postgresql://mlflow@db/mlflow"]


def test_stop_leaves_a_process_alone_that_has_the_number_of_a_server_long_gone(tmp_path):
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        (tmp_path / "server.pid").write_text(f"{bystander.pid}\nMon Jan  1 00:00:00 2001\n")
        (tmp_path / "bin").mkdir()
        for name in ("initdb", "psql", "pg_ctl"):
            program = tmp_path / "bin" / name
            program.write_text("#!/bin/sh\nexit 3\n")  # pg_ctl status: no server is running
            program.chmod(0o755)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [SCRIPTS / "local.sh", "stop", tmp_path], capture_output=True, text=True, env={**os.environ, "PATH": path}
        )
        assert done.returncode == 0, done.stderr
        assert bystander.poll() is None and not (tmp_path / "server.pid").exists()
    finally:
        bystander.kill()
        bystander.wait()
