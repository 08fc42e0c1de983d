"""What an MLflow store is called: from any directory, and without the login that a URI may hold.

A login is for whoever connects. What is kept on disk, recorded or said names the store without it; the option or the
environment says it again.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

URI = "MLFLOW_TRACKING_URI"
_KIND = re.compile(r"([A-Za-z][\w+.-]*):")
# user:password@ behind ://, where a password may hold a slash, but host:port/ is none, nor the container@ of Azure
_LOGIN = re.compile(r"(?<=://)(?:[^:/?\s]*:(?!\d+/)[^?\s]*|(?<!(?:abfs|wasb)://)(?<!(?:abfs|wasb)s://)[^/?\s]*)@")
_WORD = re.compile(r"(?<=[?&])[^=&\s]*(?:user|pass|pwd|token|secret)[^=&\s]*=[^&\s]*&?", re.IGNORECASE)


def bare(text: str) -> str:
    """A URI, or a text with URIs, without users and passwords.

    Example:
        >>> bare("postgresql://mlflow:PASSWORD@db/mlflow?sslmode=require&password=PASSWORD")
        'postgresql://db/mlflow?sslmode=require'
        >>> bare("http://mlflow:5000/"), bare("sqlite:////srv/a@b/mlflow.db")
        ('http://mlflow:5000/', 'sqlite:////srv/a@b/mlflow.db')
        >>> bare("abfs://container@account/x"), bare("abfss://account:PASSWORD@host/x")
        ('abfs://container@account/x', 'abfss://host/x')
    """
    kept = _WORD.sub("", _LOGIN.sub("", text))
    return kept if kept == text else kept.rstrip("?&")


def with_login(uri: str, *others: str | None) -> str:
    """The URI as one of the others says it, or MLFLOW_TRACKING_URI: the same one, but with a login.

    Args:
        uri: of a store, perhaps without the login that it needs.
        others: looked at first.
    """
    said = (*others, os.environ.get(URI))
    return next((other for other in said if other and other != uri and bare(other) == uri), uri)


def is_local(uri: str) -> bool:
    """Whether the store is a file or a folder here, whose name may depend on the directory one is in."""
    return _kind(uri) in ("", "file", "sqlite")


def is_relative(uri: str) -> bool:
    """Whether another store is meant in another directory.

    Example:
        >>> is_relative("sqlite:///runs.db"), is_relative("mlruns"), is_relative("file:mlruns")
        (True, True, True)
        >>> is_relative("sqlite:////srv/runs.db"), is_relative("/srv"), is_relative("http://mlflow:5000")
        (False, False, False)
    """
    place = {"sqlite": "sqlite:///", "file": "file:", "": ""}.get(_kind(uri))
    return place is not None and not uri.removeprefix(place).startswith("/")


def database(uri: str) -> Path | None:
    """The file of a store that is an SQLite database; None = another store.

    As SQLAlchemy reads it: %20 is a space, which MLflow writes so where it names its own store.

    Example:
        >>> str(database("sqlite:////srv/my%20runs/mlflow.db?timeout=5")), database("http://mlflow:5000")
        ('/srv/my runs/mlflow.db', None)
    """
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///").partition("?")[0])).absolute()


def sqlite(file: Path) -> str:
    """The URI of such a file, absolute."""
    return f"sqlite:///{str(file.absolute()).replace('%', '%25').replace('?', '%3F')}"


def absolute(uri: str) -> str:
    """The same store named from any directory.

    Example:
        >>> absolute("file:/srv/mlruns"), absolute("http://mlflow:5000"), absolute("databricks")
        ('file:/srv/mlruns', 'http://mlflow:5000', 'databricks')
        >>> absolute("sqlite:////srv/my%20runs/100%25.db")
        'sqlite:////srv/my runs/100%25.db'
    """
    if file := database(uri):
        _, mark, options = uri.partition("?")
        return f"{sqlite(file)}{mark}{options}"
    if _kind(uri) == "file" and uri[5:6] not in ("", "/"):
        return f"{Path.cwd().as_uri()}/{uri.removeprefix('file:')}"
    return uri if _kind(uri) else str(Path(uri).absolute())


def page_of(store: str, experiment_id: str, run_id: str) -> str | None:
    """Address of a run's page, without a login; None where the store is no server.

    Example:
        >>> page_of("http://mlflow:PASSWORD@host:5000/", "1", "a5"), page_of("sqlite:///mlflow.db", "1", "a5")
        ('http://host:5000/#/experiments/1/runs/a5', None)
    """
    if not store.startswith(("http://", "https://")):
        return None
    return f"{bare(store).rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def _kind(uri: str) -> str:
    """What stands before the colon; empty for a path."""
    found = _KIND.match(uri)
    return found[1] if found else "databricks" if uri.startswith("databricks") else ""
