"""What a user asks a cluster to run: a command line of this program, and what goes with it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cluster.package import GIVEN
from pipeline.errors import must

CODE = "SOMGRAD_CODE"  # in the job: the folder with the code that travelled
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}", re.IGNORECASE | re.ASCII)
_PYTHON = (  # of the head node is what PATH says there
    "python -c 'import typer' 2>/dev/null || { echo 'On the head node, python lacks what the code imports: activate "
    "its environment before ray start, or submit with --environment lock.' >&2; exit 2; }; "
)


@dataclass(frozen=True)
class Task:
    """What is to run.

    Attributes:
        words: module and options, such as ["jobs.train", "--data", "data/digits"].
        given: local files that travel with it: option as typed -> file.
        workdir: folder on the cluster in which it runs; None = that of its code.
        tree: working tree that travels; None = the packages of this program only.
        environment: "code": the nodes bring what the code imports; "none": they bring the code too; "lock" or a file
            of requirements: installed on each node.
        variables: environment variables of the job.
        driver_cpus: reserved for the command itself, beside its workers.
    """

    words: tuple[str, ...]
    given: Mapping[str, Path] = field(default_factory=dict)
    workdir: str | None = None
    tree: Path | None = None
    environment: str = "code"
    variables: Mapping[str, str] = field(default_factory=dict)
    driver_cpus: float = 0.0

    @property
    def identity(self) -> str:
        """What makes two submissions the same job: command and folder, resumed or not."""
        return shlex.join([self.workdir or "", *(w for w in self.words if w != "--resume")])

    def entrypoint(self) -> str:
        """The command line of the shell on the head node.

        Example:
            >>> Task(("jobs.train", "--out", "runs/1"), workdir="/mnt").entrypoint().partition("cd ")[2]
            '/mnt || exit 2; exec python -P -m jobs.train --out runs/1'
        """
        names = {path: name for name, path in named(self.given).items()}
        spoken = [self.words[0]]
        for word in self.words[1:]:
            given = f"/{GIVEN}/{names[self.given[word]]}" if word in self.given else ""
            spoken.append(f'"${CODE}"{shlex.quote(given)}' if given else shlex.quote(word))
        place = f"cd {shlex.quote(self.workdir)} || exit 2; " if self.workdir else ""
        safe = "-P " if self.workdir else ""  # the code that travelled, not what lies in the folder
        return f'export {CODE}="$PWD"; {_PYTHON}{place}exec python {safe}-m {" ".join(spoken)}'


def named(given: Mapping[str, Path]) -> dict[str, Path]:
    """The files that the command line names, by the names they travel under."""
    return {f"{number}-{path.name}": path for number, path in enumerate(dict.fromkeys(given.values()))}


def job_name(option: str, name: str) -> str:
    """The name of a job, as typed: it becomes part of URLs and, on the head, of the names of files.

    Ray looks at neither before it has noted the job: one of any other name never begins, and cannot be stopped.

    Raises:
        UserError: it is no such name.

    Example:
        >>> job_name("--name", "digits-0.1_a")
        'digits-0.1_a'
    """
    if not _NAME.fullmatch(name):
        raise must(
            option, "a name of letters, digits, '.', '_' and '-', the first a letter or digit, at most 200", name
        )
    return name


def module_of(words: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """The job of a command line in any of its spellings, and its options.

    Example:
        >>> module_of(["python", "-m", "jobs.train", "--seed", "1"], ["train"])
        ('jobs.train', '--seed', '1')
        >>> module_of(["somgrad", "train"], ["train"]), module_of(["train"], ["train"])
        (('jobs.train',), ('jobs.train',))
    """
    rest = list(words)
    if len(rest) > 2 and Path(rest[0]).name.startswith("python") and rest[1] == "-m":
        rest = rest[2:]
    elif rest and Path(rest[0]).name == "somgrad":
        rest = rest[1:]
    if any(_PASSWORD.search(word) for word in rest):
        remedy = "Everybody who may look at the cluster reads it: set secrets on its nodes."
        raise must("The command after --", "free of passwords", "a URL that holds one", remedy=remedy)
    name = rest[0].removeprefix("jobs.") if rest else ""
    if name not in known:
        listed = ", ".join(known)
        raise must("The command after --", f"one of {listed} with its options", shlex.join(words))
    return (f"jobs.{name}", *rest[1:])


_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|PRIVATE|(^|_)KEY($|_)|(^|_)KEY_ID$", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^/\s]*:[^/\s]*@")  # in a URL
_CARRIED = "MLFLOW_TRACKING_URI"  # travels without being asked for


def variables(asked: Sequence[str]) -> dict[str, str]:
    """Environment variables of a job: NAME=VALUE as typed, or NAME as it is here.

    Args:
        asked: the texts. The address of a tracking server is carried as well.

    Raises:
        UserError: a name is not one, not set here, or that of a secret.

    Example:
        >>> variables(["A=1"])["A"]
        '1'
    """
    here = os.environ.get(_CARRIED, "")
    found = {_CARRIED: here} if here.startswith(("http://", "https://")) and "@" not in here else {}
    for text in asked:
        name, given, value = text.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise must("--env", "NAME or NAME=VALUE", text)
        value = value if given else os.environ.get(name, "")
        if _SECRET.search(name) or _PASSWORD.search(value):
            remedy = "Everybody who may look at the cluster reads the variables of a job: set secrets on its nodes."
            raise must("--env", "free of secrets", name, remedy=remedy)
        if not given and name not in os.environ:
            raise must("--env", "NAME=VALUE, or the name of a variable that is set here", name)
        found[name] = value
    return found
