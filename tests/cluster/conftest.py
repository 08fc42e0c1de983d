"""One group of four workers for all cluster tests: making actors takes longer than most trainings here."""

import pytest


@pytest.fixture(scope="session")
def said() -> list[str]:
    """What the shared group told about its workers, line by line."""
    return []


@pytest.fixture(scope="session")
def group(ray_cluster, said):
    """Four workers on the session's Ray cluster; `resize` says how many take part."""
    from pipeline.cluster.session import Session
    from pipeline.config import ClusterConfig
    from pipeline.training.group import WorkerGroup

    config = ClusterConfig(workers=4, cpus_per_worker=0.5, start_s=240.0)
    group = WorkerGroup(config, Session(config), said.append)
    yield group
    group.close()
