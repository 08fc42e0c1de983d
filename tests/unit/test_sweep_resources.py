"""What a trial of a sweep asks of the cluster: its share of the CPUs that are there, or what the user names."""

from types import SimpleNamespace

import pytest

from pipeline.errors import UserError
from pipeline.sweep import _Sweep


def asked(cpus, workers=0, concurrent=None, **cluster):
    settings = {f"cluster.{name}": value for name, value in cluster.items()}
    sweep = SimpleNamespace(plan=SimpleNamespace(definition={"settings": settings}), workers=workers, concurrent=concurrent)
    return _Sweep._resources(sweep, cpus)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (dict(cpus=4.0), ([{"CPU": 1.0}], 4, 1.0)),
        (dict(cpus=2.0, concurrent=8), ([{"CPU": 0.25}], 8, 1.0)),
        (dict(cpus=4.0, workers=2), ([{"CPU": 0.01}, {"CPU": 0.99}, {"CPU": 0.99}], 2, 0.99)),
        # a cluster that grows on demand has no CPU at first; what is asked for makes it grow
        (dict(cpus=0.0, concurrent=16, cpus_per_worker=1.0), ([{"CPU": 1.0}], 16, 1.0)),
        (dict(cpus=8.0, workers=2, cpus_per_worker=2), ([{"CPU": 0.01}, {"CPU": 2.0}, {"CPU": 2.0}], 2, 2.0)),
        (dict(cpus=8.0, gpus_per_worker=0.5, concurrent=2), ([{"CPU": 1.0, "GPU": 0.5}], 2, 1.0)),
        (dict(cpus=8.0, workers=1, cpus_per_worker=4, gpus_per_worker=1), ([{"CPU": 0.01}, {"CPU": 4.0, "GPU": 1}], 2, 4.0)),
    ],
)
def test_a_trial_asks_for_its_share_or_for_what_the_user_names(given, expected):
    assert asked(**given) == expected


def test_too_many_trials_for_the_cluster_are_refused():
    with pytest.raises(UserError, match="ask for fewer"):
        asked(cpus=0.05, workers=2, concurrent=5)
