"""Options that scripts rely on: frozen. More may come, none of these may go; each help shows an example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = {
    "prepare": "--root --out --label-column --unlabelled-value --split-column --test-fraction --json --debug",
    "train": "--data --model --out --labelled-fraction --seed --workers --epochs --config --set --address "
    "--resume --reduction --tracking-uri --experiment --json --debug",
    "sweep": "--data --model --out --fractions --seeds --samples --search --scheduler --space --concurrent "
    "--resume --json --debug",
    "evaluate": "--run --data --json --debug",
    "predict": "--model --input --output --json --debug",
    "features": "--run --weights --data --out --overwrite --json --debug",
    "compare": "--data --out --models --fractions --seeds --config --set --own --reference --json --debug",
    "results": "--experiment --format --metric --group-by --best --json --debug",
    "report": "--run --out --json --debug",
    "submit": "--address --json --debug",
    "benchmark": "--json --debug",
}
PRESENT = [job for job in OPTIONS if (REPOSITORY / "jobs" / f"{job}.py").exists()]


def _help(*command: str) -> str:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(
        [sys.executable, "-m", *command, "--help"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_jobs_of_the_first_release_are_there():
    assert {"prepare", "train", "benchmark"} <= set(PRESENT)


@pytest.mark.parametrize("job", PRESENT)
def test_a_job_keeps_its_options_and_shows_an_example(job):
    text = _help(f"jobs.{job}")
    known = set(re.findall(r"--[a-z][a-z-]*", text))
    assert set(OPTIONS[job].split()) <= known
    assert re.search(rf"(python -m jobs\.|somgrad ){job} \S", text), "the help shows no example"


def test_one_command_leads_to_all_jobs():
    text = _help("jobs.cli")
    assert [job for job in PRESENT if not re.search(rf"\b{job}\b", text)] == []
