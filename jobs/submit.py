"""Any of the jobs on a running Ray cluster."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs._run import job, run
from jobs._shown import say
from pipeline.errors import must


def submit(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND", help="A job and its options, such as: train --data ...")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="The cluster's dashboard, http://HEAD:8265. [default: $RAY_API_SERVER_ADDRESS]")
    ] = None,
    workdir: Annotated[
        str | None, typer.Option(help="Folder all nodes see; relative paths of the command mean it.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the job. [default: one is made]")] = None,
    environment: Annotated[
        str, typer.Option(help="code: send it; none: the nodes have it; lock (or a file): send it, install that.")
    ] = "code",
    tree: Annotated[Path | None, typer.Option(help="Code to send. [default: the repository around you]")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="A variable of the job.")] = None,
    driver_cpus: Annotated[float, typer.Option(min=0, help="Reserved for the command itself, beside workers.")] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the same command, submitted before.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Submit and leave.")] = False,
    logs: Annotated[str | None, typer.Option(metavar="JOB", help="Follow a job that was submitted.")] = None,
    status: Annotated[str | None, typer.Option(metavar="JOB", help="How a job is doing.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="JOB", help="Stop a job; it saves its state first.")] = None,
    list: Annotated[bool, typer.Option("--list", help="All jobs of the cluster.")] = False,
) -> dict[str, Any]:
    """Run any of the jobs on a Ray cluster: send the code, follow the log, end as the job ends.

    Ctrl-C asks whether to stop the job; without a terminal it goes on, and so does --logs JOB later. A cluster with
    token authentication wants RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.
    """
    from jobs._submitted import end, follow, show, table
    from pipeline.cluster.task import Task, job_name, variables

    asked = [bool(command), *(part is not None for part in (logs, status, stop)), list]
    if sum(asked) != 1:
        raise must("submit", "given one of -- COMMAND, --logs, --status, --stop, --list", f"{sum(asked)} of them")
    for option, text in (("--name", name), ("--logs", logs), ("--status", status), ("--stop", stop)):
        if text is not None:
            job_name(option, text)
    place = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not place:
        raise must("--address", "the URL of the cluster's dashboard, http://HEAD:8265", address)
    if command:
        words = _words(command, workdir, resume)
        task = Task(words.words, words.given, workdir, _tree(tree), environment, variables(env or []), driver_cpus)
        return _send(place, task, name, resume, no_wait, words.tracked)
    from pipeline.cluster.submission import Cluster

    cluster = Cluster(place)
    if list:
        return table(cluster.jobs())
    if logs:
        return follow(cluster, logs)
    return end(cluster, stop) if stop else show(cluster.job(status or ""))


def _words(command: list[str], workdir: str | None, resume: bool) -> Any:
    from dataclasses import replace

    from jobs._words import understand

    if workdir is not None and not workdir.startswith("/"):
        raise must("--workdir", "an absolute path that all nodes of the cluster see", workdir)
    words = understand(command, workdir)
    if resume and words.resumable and "--resume" not in words.words:
        words = replace(words, words=(*words.words, "--resume"))
    return words


def _tree(tree: Path | None) -> Path | None:
    from pipeline.cluster.package import find_tree

    return find_tree(Path.cwd()) if tree is None else tree


def _send(place: str, task: Any, name: str | None, resume: bool, no_wait: bool, tracked: bool) -> dict[str, Any]:
    from jobs._submitted import follow, show
    from pipeline.cluster.submission import Cluster

    cluster = Cluster(place)
    known = cluster.running(task)
    if known and not resume:
        raise must("The command", "submitted once at a time", f"it runs as {known}", remedy=f"See --logs {known}.")
    if known:
        say(f"It is still running as {known}.")
        return show(cluster.job(known)) if no_wait else follow(cluster, known)
    sent = cluster.submit(task, name)
    say(f"Submitted as {sent['job']}: {sent['files']} files, {sent['bytes'] / 1000:,.0f} kB of code.")
    if tracked and not task.workdir and "MLFLOW_TRACKING_URI" not in task.variables:
        say("No --tracking-uri: runs are recorded where the nodes' MLFLOW_TRACKING_URI says.")
    return show(cluster.job(sent["job"])) if no_wait else follow(cluster, sent["job"])


EXAMPLE = "python -m jobs.submit --address http://head:8265 --workdir /mnt -- train --data DIR --model sssom --out DIR"
app = job(example=EXAMPLE)(submit)

if __name__ == "__main__":
    run(app)
