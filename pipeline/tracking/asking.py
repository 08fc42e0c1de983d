"""MLflow, quiet, and a store of it that is asked: in one line why it does not answer, without the login of its URI."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError, line_of, must, theirs_to_mend
from pipeline.places import locked
from pipeline.tracking.stores import bare, database

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def hush() -> None:
    """Imports MLflow without advice, progress bars, telemetry, and addresses of runs that name the store's login."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 (it sets how loud its loggers are)

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextlib.contextmanager
def asking(uri: str | None) -> Iterator[Any]:
    """MLflow's client, and what goes wrong inside the block as an error of ours.

    Args:
        uri: of the store; None = MLflow's own choice.

    Raises:
        UserError: the store cannot be reached, lets nobody in, or is a file that is no database of MLflow's.
    """
    hush()
    import mlflow

    where = uri or mlflow.get_tracking_uri()
    given = {name: value for name, value in _IMPATIENT.items() if name not in os.environ}
    os.environ.update(given)
    try:
        yield mlflow.MlflowClient(where)
    except Exception as error:  # MLflow raises its own, and those of SQLAlchemy, of drivers, of stores of files
        if theirs_to_mend(error):
            raise
        raise _told(error, bare(where)) from None
    finally:
        for name in given:  # a training that follows has a patience of its own
            os.environ.pop(name, None)


@contextlib.contextmanager
def one_at_a_time(uri: str) -> Iterator[None]:
    """Two processes that create one new SQLite store at once break it, so they take turns."""
    file = database(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with locked(file.with_name(file.name + ".lock")):
        yield


def reason_of(error: Exception, most: int = 160) -> str:
    """What MLflow says, in one line: without logins, and without the statements that SQLAlchemy shows.

    Example:
        >>> reason_of(RuntimeError("API request to http://mlflow:PASSWORD@host:5000/api failed"))
        'API request to http://host:5000/api failed'
    """
    return bare(line_of(error)).partition("[SQL")[0].strip()[:most]


def _told(error: Exception, where: str) -> UserError:
    """A store that does not answer, told so that the asker can do something."""
    if "error code 401" in str(error) or "error code 403" in str(error):
        return UserError(
            f"The tracking server at {where} does not let you in. Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to those of a user who may."
        )
    return must("--tracking-uri", "an MLflow store that can be reached", where, remedy=reason_of(error))
