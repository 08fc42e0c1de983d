"""What is tallied of a round adds up over the rounds of an epoch, and no sample is missed or counted twice."""

import pytest
import torch

from pipeline.errors import RoundFailed
from pipeline.training.checkpoint import Snapshot
from pipeline.training.tallies import added, check_counted, deep_metrics, deep_tallies, map_metrics, running
from somcore import MapConfig, initial_state
from somcore.update import accumulate


@pytest.fixture(scope="module")
def config():
    given = MapConfig(variant="larfdssom", activation_threshold=0.9)
    return given.resolve(num_samples=20, num_features=3)


def test_a_round_that_misses_samples_or_counts_some_twice_fails_by_its_number(config):
    merged = accumulate(initial_state(config, 3), torch.rand(5, 3), None, config, positions=torch.arange(5))
    check_counted(7, merged, 5)
    for expected in (4, 10):
        with pytest.raises(RoundFailed, match=f"Round 7 must count each of its {expected} samples once. Got 5."):
            check_counted(7, merged, expected)


def test_tallies_begin_anew_with_an_epoch_and_keep_what_a_round_says_nothing_of(config):
    snapshot = Snapshot(initial_state(config, 3), {"rounds": 3.0, "rare": 1.0})
    assert running(snapshot, 4) == {}, "round 0 is the first of an epoch"
    assert added(snapshot.tallies, {"rounds": 1.0, "new": 2.0}) == {"rounds": 4.0, "rare": 1.0, "new": 2.0}
    assert snapshot.tallies == {"rounds": 3.0, "rare": 1.0}, "a snapshot is a value"


def test_terms_are_told_per_sample_that_contributed_and_measures_per_round():
    tallies: dict[str, float] = {}
    for pull, contributed, rank in ((6.0, 3, 1.0), (2.0, 1, 4.0)):
        terms = {"pull": (pull, contributed), "push": (0.0, 0)}
        tallies = added(tallies, {"rounds": 1.0} | deep_tallies(terms, {"embedding_rank": rank}))
    assert deep_metrics(tallies) == {"embedding_rank": 2.5, "loss_pull": 2.0, "count_pull": 2.0}
    assert map_metrics(tallies) == {}, "nothing is said of a map where there is none"
