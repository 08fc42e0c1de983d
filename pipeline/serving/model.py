"""A trained map as an MLflow model: logged with its run, registered by a name, loaded by `mlflow.pyfunc`.

Code and data are apart: the code is a file that MLflow runs (`pipeline.serving.pyfunc`) with one archive of the
packages it needs beside it, the data is the map file (safetensors and JSON). No pickle.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import MachineError, UserError, must, theirs_to_mend
from pipeline.predictor import Predictor
from pipeline.prepared.samples import InputSpec
from pipeline.prepared.shards import Dataset
from pipeline.tracking.asking import asking, hush, reason_of
from pipeline.tracking.stores import bare
from pipeline.training.rundir import MAP, RunDirectory

ALIAS = "latest-trained"
_IN_STORE = ("models:", "runs:", "mlflow-artifacts:")  # other addresses need no store
CODE = "somgrad.zip"  # where `pipeline.serving.pyfunc` finds it
_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "safetensors", "torch")
_EXAMPLE_ROWS = 3
_NO_RIGHTS = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")


def log_model(directory: str | Path, run_id: str | None, uri: str | None, name: str | None = None) -> dict[str, Any]:
    """Logs the model of a run to that run in MLflow.

    Args:
        directory: of the run.
        run_id: MLflow's id of it; None if the server was never reached.
        uri: MLflow tracking URI; None = MLflow's own.
        name: registered model to add a version to; None = not registered.

    Returns:
        model_uri, and version where it was registered (the alias `latest-trained` points there).

    Raises:
        UserError: this user may not do that there, or a model that cannot be logged.
        MachineError: the server or the store of its files cannot be reached, or refuses.
    """
    import mlflow

    if run_id is None:
        raise MachineError("The model could not be logged: the run is not in MLflow, its server was not reached.")
    try:
        with _quiet(), _store(uri):
            info = _logged(Path(directory), run_id)
            if name is None:
                return {"model_uri": info.model_uri}
            version = mlflow.register_model(info.model_uri, name, await_registration_for=60)
            mlflow.MlflowClient().set_registered_model_alias(name, ALIAS, version.version)
            return {"model_uri": f"models:/{name}/{version.version}", "version": int(version.version)}
    except UserError:
        raise
    except Exception as error:  # MLflow's own, or that of the store of its files, whatever keeps them
        reason = f"The model could not be logged: {reason_of(error, 200)}"
        kept = f"The run is kept in '{directory}'; the same command with --resume logs it again."
        if getattr(error, "error_code", "") in _NO_RIGHTS:
            raise UserError(f"{reason}. Ask for the right, or give another --register. {kept}") from None
        if name is not None and getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
            raise UserError(f"{reason}. {kept.replace('--resume', '--resume and another --register')}") from None
        kind = UserError if theirs_to_mend(error) else MachineError
        raise kind(f"{reason}. {kept}") from None


def _logged(directory: Path, run_id: str) -> Any:
    """MLflow's word on the model that was logged; a training that is finished stays so where that fails."""
    import mlflow

    failed: Exception | None = None
    with mlflow.start_run(run_id=run_id):
        try:
            with _arguments(directory) as arguments:
                info = mlflow.pyfunc.log_model(name="model", **arguments)
        except Exception as error:
            failed = error
    if failed is not None:
        raise failed
    return info


def check_name(name: str) -> None:
    """The name of a registered model, before the work that leads to it: as MLflow itself will look at it.

    Raises:
        UserError: MLflow would refuse it.
    """
    if not name.strip() or {"/", ":"} & set(name) or name == "." or name.startswith(".."):
        raise must("--register", "a name without '/' and ':' that MLflow takes", name, remedy="Give another one.")


def model_directory(place: str | Path, uri: str | None = None, option: str = "--model") -> Path:
    """Where the map file of a model is: a run's directory or id, an MLflow model, `models:/NAME/VERSION`, `runs:/...`.

    Raises:
        UserError: there is no model.
    """
    place = str(place)
    if ":/" not in place:
        for path in (Path(place), Path(place) / "artifacts"):
            if (path / MAP).is_file():
                return path
        if re.fullmatch(r"[0-9a-f]{32}", place):
            from pipeline.tracking.results import run_directory

            return run_directory(place, uri, option)
        wanted = f"a directory with a trained map ({MAP}), its id in MLflow, or models:/NAME/VERSION"
        raise must(option, wanted, place)
    import mlflow

    with _quiet(), _store(uri), asking(uri) if place.startswith(_IN_STORE) else contextlib.nullcontext():
        try:
            local = Path(mlflow.artifacts.download_artifacts(artifact_uri=place))
        except Exception as error:  # MLflow raises its own, and those of stores of files
            raise UserError(f"{option} '{bare(place)}' cannot be fetched: {reason_of(error, 200)}") from None
    return model_directory(str(local), uri, option)


def requirements() -> list[str]:
    """What a model needs, pinned to what is installed here."""
    found = {name: importlib.metadata.version(name).split("+")[0] for name in _PACKAGES}
    return [f"{name}=={version}" for name, version in found.items()]


@contextlib.contextmanager
def _store(uri: str | None) -> Iterator[None]:
    """Lets MLflow's functions speak to a store, and then to the former one again."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri or before)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """MLflow and what it uses without advice."""
    hush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _arguments(directory: Path) -> Iterator[dict[str, Any]]:
    """What MLflow is told of a model; the files that it names are there inside the block."""
    predictor = Predictor.load(directory)
    if predictor.deep is not None and predictor.about["deep"]["encoder"]["name"] == "pretrained":
        raise must("The model", "one that holds its encoder, to be logged", "encoder.name=pretrained, weights apart")
    example = _example(directory, predictor.spec)
    with tempfile.TemporaryDirectory() as folder:
        yield {
            "python_model": str(Path(__file__).with_name("pyfunc.py")),
            "artifacts": {"map": str(directory / MAP)},
            "code_paths": [str(_packed(Path(folder) / CODE))],
            "signature": _signature(predictor, example),
            "input_example": example,
            "pip_requirements": requirements(),
            "metadata": {
                "map_digest": predictor.about["digest"],
                "model": str(predictor.about.get("model")),
                "input": f"{predictor.spec.dtype} (n, {', '.join(map(str, predictor.spec.shape))})",
                "columns": list(predictor.spec.columns or ()),
            },
        }


def _packed(archive: Path) -> Path:
    """The code that answers, as one file that Python imports from: a server takes its time for each file of a model."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as opened:
        for package in ("somcore", "pipeline"):
            for path in sorted((_ROOT / package).rglob("*")):
                if path.is_file() and path.suffix != ".pyc":
                    opened.write(path, path.relative_to(_ROOT))
    return archive


def _example(directory: Path, spec: InputSpec) -> Any:
    """A few samples as a user would give them: of the training data where they are at hand, else blank."""
    import pandas as pd

    data = RunDirectory(directory).record.get("settings", {}).get("data.path")
    if data and (Path(data) / "manifest.json").is_file():
        dataset = Dataset.open(data)
        rows = np.arange(min(_EXAMPLE_ROWS, dataset.num_samples("train")))
        values = dataset.read_raw("train", rows).numpy()
    else:
        values = np.zeros((1, *spec.shape), dtype=spec.dtype)
    if spec.columns is None:
        return values
    return pd.DataFrame(values.astype(np.float64), columns=list(spec.columns))


def _signature(predictor: Predictor, example: Any) -> Any:
    """What MLflow holds answers to.

    Samples it would change or refuse by what it knows of types: whole numbers where `double` is asked for, 0.7 cut to 0
    where `uint8` is. The model itself says what it does not take.
    """
    import mlflow

    answers = predictor(example)
    answers["class"] = answers["class"].fillna("").astype(str)  # a class may be missing
    return mlflow.models.infer_signature(model_output=answers)
