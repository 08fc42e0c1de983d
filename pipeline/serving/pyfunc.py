"""The MLflow model as code: MLflow runs this file when a model is loaded. Nothing is unpickled.

Its packages come from an archive in the saved model. The artifact is the map file of the run; see `pipeline.predictor`
for what goes in and what comes out.
"""

from __future__ import annotations

import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pandas.api.types import is_scalar

_ARCHIVE = Path(__file__).parent / "code" / "somgrad.zip"
_PACKAGES = ("somcore", "pipeline")
if _ARCHIVE.exists():  # this is the copy of this file in a saved model
    sys.path.insert(0, str(_ARCHIVE))

import pipeline  # noqa: E402
from pipeline.errors import UserError, line_of  # noqa: E402
from pipeline.predictor import Predictor  # noqa: E402

MAP_ARTIFACT = "map"


class SomModel(PythonModel):  # type: ignore[misc]
    """A self-organizing map that answers raw samples."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the map; who loads a model of MLflow runs its code anyway."""
        _warn_of_other_code(Path(pipeline.__file__).parents[1])
        self._predictor = Predictor.load(Path(context.artifacts[MAP_ARTIFACT]).parent, trusted=True)

    def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
        """Class, confidence, node, activation and novelty of each sample.

        MLflow asks for the hint and does nothing with this one: images and recordings come as arrays all the same.
        """
        try:
            answers = self._predictor(_samples(model_input))
        except UserError as error:  # a server shows the text of this kind of error only
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        if answers["confidence"].isna().any():  # JSON has no NaN
            answers["confidence"] = answers["confidence"].astype(object).where(answers["confidence"].notna(), None)
        return answers


def _warn_of_other_code(root: Path) -> None:
    """Python imports a package once: with the code of the first model, or of a directory, all others answer too.

    Args:
        root: what this process has the package from; one that is gone cannot be compared.
    """
    if _ARCHIVE.exists() and root.exists() and root != _ARCHIVE and _sources(root) != _sources(_ARCHIVE):
        warnings.warn(
            f"The model in '{_ARCHIVE.parents[1]}' has code of its own, but this process has loaded other code before, "
            f"from '{root}', which answers in its place. Load each version in a process of its own.",
            stacklevel=2,
        )


def _sources(root: Path) -> dict[str, int]:
    """Checksum of each module in a directory or an archive."""
    if root.is_dir():
        found = [path for package in _PACKAGES for path in (root / package).rglob("*.py")]
        return {path.relative_to(root).as_posix(): zlib.crc32(path.read_bytes()) for path in found}
    with zipfile.ZipFile(root) as archive:
        return {file.filename: file.CRC for file in archive.infolist() if file.filename.endswith(".py")}


def _samples(given: Any) -> Any:
    """Records and columns as a table; what has no names, and nothing at all, as it is.

    Args:
        given: as a program has it, or as MLflow's server makes it of JSON: an array of every value, also of one number.

    Raises:
        UserError: columns of several lengths and the like.
    """
    if isinstance(given, dict):
        given = {name: _unwrapped(values) for name, values in given.items()}
        if given and all(map(is_scalar, given.values())):
            given = [given]
        else:
            given = {name: _column(name, values) for name, values in given.items()}
    elif isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
        given = [{name: _unwrapped(value) for name, value in row.items()} for row in given]
    elif not isinstance(given, pd.DataFrame):
        return given
    try:
        table = pd.DataFrame(given)
    except ValueError as error:
        wanted = "a record, a list of records, or columns of one length"
        raise UserError(f"Samples must be {wanted}. {line_of(error)}") from None
    return [] if table.shape == (0, 0) else table


def _column(name: str, values: Any) -> Any:
    """Cells of a column: whole samples, which are arrays, or numbers, perhaps each in a row of its own, (n, 1)."""
    if np.ndim(values) < 2:
        return values
    return np.ravel(values) if np.shape(values)[1:] == (1,) and name != "features" else list(values)


def _unwrapped(value: Any) -> Any:
    """A number for an array of one, also among the values of a column."""
    if not isinstance(value, np.ndarray):
        return value
    if not value.ndim:
        return value.item()
    return [_unwrapped(one) for one in value] if value.ndim == 1 and value.dtype == object else value


mlflow.models.set_model(SomModel())
