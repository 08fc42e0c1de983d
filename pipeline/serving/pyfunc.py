"""The MLflow model as code: MLflow runs this file when a model is loaded. Nothing is unpickled.

Its packages come from an archive in the saved model. The artifact is the map file of the run; see `pipeline.predictor`
for what goes in and what comes out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

_ARCHIVE = Path(__file__).parent / "code" / "somgrad.zip"
if _ARCHIVE.exists():  # this is the copy of this file in a saved model
    sys.path.insert(0, str(_ARCHIVE))

from pipeline.errors import UserError  # noqa: E402
from pipeline.predictor import Predictor  # noqa: E402

MAP_ARTIFACT = "map"


class SomModel(PythonModel):  # type: ignore[misc]
    """A self-organizing map that answers raw samples."""

    def load_context(self, context: PythonModelContext) -> None:
        """Opens the map; who loads a model of MLflow runs its code anyway."""
        self._predictor = Predictor.load(Path(context.artifacts[MAP_ARTIFACT]).parent, trusted=True)

    def predict(self, context, model_input: pd.DataFrame, params=None):  # type: ignore[no-untyped-def]
        """Class, confidence, node, activation and novelty of each sample.

        MLflow asks for the hint and does nothing with this one: images and recordings come as arrays all the same.
        """
        if self._predictor.spec.columns and isinstance(model_input, list | dict):
            model_input = pd.DataFrame(model_input)
        try:
            answers = self._predictor(model_input)
        except UserError as error:  # a server shows the text of this kind of error only
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        if answers["confidence"].isna().any():  # JSON has no NaN
            answers["confidence"] = answers["confidence"].astype(object).where(answers["confidence"].notna(), None)
        return answers


mlflow.models.set_model(SomModel())
