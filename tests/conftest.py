"""What all layers of tests share: real data, seeds, one thread, one Ray cluster, one migrated tracking store.

Environment variables are set before anything heavy is imported, so that child processes inherit them too.
"""

import os

os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    RAY_worker_niceness="0",  # of 15, workers beside any busy process get so little that tests run into their limit
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",  # five processes of a server that nothing here needs
    GIT_PYTHON_REFRESH="quiet",
    SOMGRAD_REPORT="0",  # seconds for each training; the tests of the report ask for it
    OMP_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    AWS_ACCESS_KEY_ID="test",  # of the S3 server in tests/s3.py: no test ever opens a bucket of the person who runs it
    AWS_SECRET_ACCESS_KEY="test",
    AWS_EC2_METADATA_DISABLED="true",
)
for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
    os.environ.pop(name, None)  # a test never writes to a server or joins a cluster of the person who runs it

import shutil
import signal
import tempfile
import zlib
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background: commands would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # begun by nohup: the same; the tests themselves still ignore it
    signal.signal(signal.SIGHUP, lambda number, frame: None)

REPOSITORY = Path(__file__).resolve().parents[1]
LAYERS = ("architecture", "unit", "laws", "golden", "equivalence", "robustness", "cluster", "system", "infra")

_RELAXED = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, max_examples=25, suppress_health_check=_RELAXED
)
settings.register_profile("thorough", deadline=None, max_examples=500, suppress_health_check=_RELAXED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def real_data(path: str) -> Path:
    """Path of a real file or folder, such as "uci/glass.parquet"; skips the test by name when it is absent.

    Looked up in $SOMGRAD_DATA, or in ../shared/data beside the repository.
    """
    root = Path(os.environ.get("SOMGRAD_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (root / path).exists():
        pytest.skip(f"real data '{path}' is absent (set SOMGRAD_DATA to the folder that holds it)")
    return root / path


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The bits of a matrix product may depend on the number of threads: tests use one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def seed(request) -> int:
    """A seed of the test's own: the same in every run, another one for every test and parameter."""
    return zlib.crc32(request.node.nodeid.encode())


@pytest.fixture
def rng(seed):
    """A NumPy generator with the test's own seed."""
    import numpy as np

    return np.random.default_rng(seed)


@pytest.fixture
def generator(seed):
    """A torch generator with the test's own seed."""
    import torch

    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The digits of scikit-learn as a prepared data set."""
    from pipeline.prepare import prepare
    from pipeline.sources import open_source

    folder = tmp_path_factory.mktemp("digits") / "data"
    prepare(open_source("digits"), folder)
    return folder


@pytest.fixture(scope="session")
def ray_cluster():
    """A Ray cluster of four logical CPUs for the whole session; yields its address (for --address)."""
    import ray

    folder = tempfile.mkdtemp(prefix="sg", dir="/tmp")  # paths of sockets over 107 bytes fail: keep it short
    context = ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        object_store_memory=300 * 1024**2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory) -> Path:
    """An MLflow SQLite file with its schema made once: making it takes seconds, copying it does not."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def tracking_uri(migrated_store, tmp_path) -> str:
    """The URI of a fresh MLflow store of the test's own."""
    return f"sqlite:///{shutil.copy(migrated_store, tmp_path / 'mlflow.db')}"


# ---------------------------------------------------------------- the tally by layer

_tally: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))


def _layer(nodeid: str) -> str | None:
    return next((layer for layer in LAYERS if nodeid.startswith(f"tests/{layer}/")), None)


def pytest_runtest_logreport(report):
    layer = _layer(report.nodeid)
    if layer is None:
        return
    _tally[layer]["seconds"] += report.duration
    if report.when == "call" or report.outcome != "passed":
        _tally[layer][report.outcome] += 1


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("by layer")
    for layer in LAYERS:
        if layer in _tally:
            tally = _tally[layer]
            terminalreporter.write_line(
                f"{layer:<13} {tally['passed']:4.0f} passed {tally['failed']:4.0f} failed "
                f"{tally['skipped']:4.0f} skipped {tally['seconds']:7.1f} s"
            )
