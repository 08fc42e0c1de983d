"""Deep runs: encoder and map are the same to the bit for any number of workers, and after a resume."""

import pytest

from pipeline.training.checkpoint import read
from pipeline.training.trainer import train
from tests.training import small


def deep(data, **changes):
    """A deep training of a few seconds, every part of it at work: views, pseudo-labels, decoder, refresh."""
    settings = {
        "map__epochs": 2,
        "map__batch_size": 300,
        "map__tile_size": 64,
        "map__pruning_epochs": 1,
        "encoder__width": 4,
        "encoder__dim": 8,
        "loss__consistency_start": 2,
        "loss__confidence": 0.2,
        "loss__relevance_warmup_rounds": 2,
        "loss__classifier_weight": 0.5,
        "deep__refresh_rounds": 3,
        "deep__refresh_rows": 200,
        "deep__final_passes": 1,
        "deep__refresh_tune_steps": 2,
        "deep__growth_rounds": 4,
        "deep__tune_steps": 4,
        "deep__crossings": True,
        "train__evaluate_epochs": 0,
    }
    return small("deep", data, **(settings | changes))


@pytest.fixture(scope="module")
def local(digits, tmp_path_factory):
    """The run without Ray."""
    return train(deep(digits), tmp_path_factory.mktemp("deep") / "run")


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_any_number_of_workers_gives_the_encoder_and_the_map_of_none(group, digits, local, tmp_path, workers):
    group.resize(workers)
    result = train(deep(digits), tmp_path / "run", group=group)
    assert result["map_digest"] == local["map_digest"]
    assert result["accuracy"] == local["accuracy"] and result["nodes"] == local["nodes"]


def test_rounds_with_fewer_tiles_than_workers_leave_some_idle(group, digits, tmp_path):
    settings = {"map__epochs": 1, "map__batch_size": 64, "map__tile_size": 64, "deep__refresh_rows": 60}
    one = train(deep(digits, **settings), tmp_path / "one")
    group.resize(2)
    assert train(deep(digits, **settings), tmp_path / "two", group=group)["map_digest"] == one["map_digest"]


def test_narrow_numbers_are_the_same_on_any_number_of_workers(group, digits, tmp_path):
    settings = {"map__epochs": 1, "deep__precision": "bfloat16", "encoder__name": "standardised"}
    settings |= {"deep__labelled_only": True}  # a third of the rows: processors that imitate bfloat16 take their time
    one = train(deep(digits, **settings), tmp_path / "one")
    group.resize(2)
    two = train(deep(digits, **settings), tmp_path / "two", group=group)
    assert two["map_digest"] == one["map_digest"] and two["accuracy"] == one["accuracy"]


def test_every_part_was_at_work(local, digits, tmp_path):
    store = tmp_path / "run"
    train(deep(digits, train__checkpoint_rounds=5, train__keep_checkpoints=9), store)
    snapshot, _ = read(sorted((store / "checkpoints").glob("round*"))[0])
    anchors = ("reconstruction", "variance", "classifier", "strong_classifier", "classifier_consistency")
    for term in ("pull", "labelled_pull", "push", "cross_entropy", "consistency", *anchors):
        assert snapshot.tallies[f"count.{term}"] > 0, term
    assert snapshot.network.steps > 0 and 0 < snapshot.network.threshold < 1


@pytest.mark.parametrize(("before", "after"), [(0, 2), (3, 0), (1, 3)])
def test_an_interrupted_deep_run_goes_on_to_the_same_encoder_and_map(group, digits, local, tmp_path, before, after):
    def stop(epoch, expected, metrics):
        raise KeyboardInterrupt

    def workers(number):
        if number:
            group.resize(number)
        return group if number else None

    with pytest.raises(KeyboardInterrupt, match="State saved after round"):
        train(deep(digits), tmp_path / "run", group=workers(before), on_epoch=stop)
    result = train(deep(digits), tmp_path / "run", resume=True, group=workers(after))
    assert result["map_digest"] == local["map_digest"]


def test_the_fast_reduction_trains_too(group, digits, local, tmp_path):
    group.resize(2)
    result = train(deep(digits, train__reduction="fast"), tmp_path / "run", group=group)
    assert result["rounds"] == local["rounds"] and result["nodes"] > 1


def test_another_seed_is_another_encoder(digits, local, tmp_path):
    assert train(deep(digits, train__seed=1), tmp_path / "run")["map_digest"] != local["map_digest"]
