"""What a run resolves to: the same for any number of workers, and what its labels are."""

import dataclasses
import gc
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.config import SEMI_SUPERVISED, RunConfig
from pipeline.errors import DataError, RoundFailed
from pipeline.prepared.shards import Dataset
from pipeline.training import rounds
from pipeline.training.first import first_snapshot
from pipeline.training.plan import make_plan, round_samples, training_labels
from pipeline.training.reduction import LocalReduction
from pipeline.training.rounds import RoundPlan, round_statistics, rounds_of
from pipeline.training.rundir import RunDirectory
from pipeline.training.tallies import map_tallies
from pipeline.training.trainer import train
from somcore import MapConfig, initial_state
from somcore.state import blank_state
from tests.training import MODELS, small, table


def plan_of(settings):
    run = RunConfig.build(settings)
    return make_plan(run, Dataset.open(run.data.path))


def test_workers_places_and_checkpoints_are_not_part_of_a_run_s_identity(digits):
    plan = plan_of(small("sssom", digits))
    free = {"cluster.workers": 7, "cluster.threads": 2, "train.checkpoint_rounds": 5, "tracking.experiment": "other"}
    assert plan_of(small("sssom", digits) | free).identity == plan.identity
    for key, value in {"train.seed": 1, "train.reduction": "fast", "map.bmu_rate": 0.06}.items():
        assert plan_of(small("sssom", digits) | {key: value}).identity != plan.identity
    assert isinstance(plan.config.activation_threshold, float), "what is automatic is resolved in the plan"


def test_threads_and_device_are_part_of_the_identity_of_networks_which_they_round_otherwise(digits):
    plan = plan_of(small("deep", digits))
    assert plan_of(small("deep", digits) | {"cluster.workers": 7}).identity == plan.identity
    for key, value in {"cluster.threads": 2, "cluster.device": "cuda"}.items():
        assert plan_of(small("deep", digits) | {key: value}).identity != plan.identity
        assert plan_of(small("sssom", digits) | {key: value}).identity == plan_of(small("sssom", digits)).identity


def test_rows_withheld_from_a_deep_run_are_no_part_of_its_epochs(digits):
    whole, part = (plan_of(small("deep", digits, train__validation_fraction=f)) for f in (0.0, 0.5))
    assert (whole.num_samples, part.num_samples) == (1438, 1438 - 219)  # half of the 30 % with labels
    assert (whole.deep.rounds, part.deep.rounds) == (2 * 4, 2 * 4) and part.rounds_per_epoch == 4
    fewer = plan_of(small("deep", digits, train__labelled_fraction=1.0, train__validation_fraction=0.5))
    assert (fewer.rounds_per_epoch, fewer.deep.rounds) == (2, 4)


@pytest.mark.parametrize("model", MODELS)
def test_the_expected_end_is_the_end(digits, tmp_path, model):
    settings = small(model, digits)
    assert train(settings, tmp_path / "run")["epochs"] == plan_of(settings).expected_epochs


def test_a_single_row_is_trained_on(tmp_path):
    settings = small("larfdssom", table(tmp_path / "t", np.array([[1.0, 2.0]])))
    assert (plan_of(settings).num_samples, train(settings, tmp_path / "run")["nodes"]) == (1, 1)


@pytest.mark.parametrize("model", MODELS)
def test_a_map_has_classes_if_it_reads_labels(digits, model):
    assert plan_of(small(model, digits)).num_classes == (10 if model in SEMI_SUPERVISED else 0)


def test_the_tiles_of_a_round_are_dealt_whole_and_once(digits):
    config = plan_of(small("sssom", digits)).config
    for index in (0, 3):
        cut = RoundPlan.of(index, config, 1438)
        whole = torch.cat(list(cut.tiles()))
        assert whole.tolist() == list(range(cut.start, cut.stop))
        for workers in (1, 2, 3, 4, 9):
            dealt = [tile for rank in range(workers) for tile in cut.tiles(rank, workers)]
            assert [t.tolist() for t in dealt] == [t.tolist() for t in cut.tiles()]
    assert RoundPlan.of(3, config, 1438).num_samples == 1438 - 3 * 400
    assert RoundPlan.of(4, config, 1438) == RoundPlan(1, 0, 400, 64)


@pytest.mark.parametrize("sampling", ["permutation", "replacement"])
def test_an_order_too_long_to_be_kept_is_the_same_order(sampling, monkeypatch):
    config = MapConfig(sampling=sampling, seed=5).resolve(num_samples=50, num_features=2)
    positions = torch.tensor([3, 0, 49, 17])
    kept = [rounds.rows_at(config, epoch, positions, 50) for epoch in range(4)]
    monkeypatch.setattr(rounds, "_KEPT_ORDER", 49)
    assert [rounds.rows_at(config, epoch, positions, 50).tolist() for epoch in range(4)] == [r.tolist() for r in kept]
    assert len({tuple(rows.tolist()) for rows in kept}) == 4, "another order in each epoch"


def test_a_round_tells_what_it_did_to_the_nodes():
    def state(alive, new=(), **changes):
        prototypes, deviations = torch.ones(4, 2, dtype=torch.float64), torch.ones(4, 2, dtype=torch.float64)
        for place in new:
            prototypes[place], deviations[place] = 0.5, 0.0
        values = {"prototypes": prototypes, "deviations": deviations, "growing": True, **changes}
        return dataclasses.replace(blank_state(4, 2, 0), alive=torch.tensor(alive, dtype=torch.bool), **values)

    counts = {"samples": 50, "labelled": 5, "unmatched": 7}
    statistics = SimpleNamespace(tally=counts.__getitem__, quantization_error_sum=2.5)
    told = map_tallies(state([1, 1, 1, 0]), state([1, 0, 1, 1], new=(2, 3), clock=0), statistics)
    assert told == {**counts, "rounds": 1, "error_sum": 2.5, "inserted": 2, "pruned": 2, "full": 0}, "one place twice"
    told = map_tallies(state([1, 1, 1, 0]), state([1, 0, 1, 1], new=(2, 3), clock=50), statistics)
    assert (told["inserted"], told["pruned"]) == (1, 1), "without a pruning no place is used again"
    whole, part = [1, 1, 1, 1], [1, 1, 1, 0]
    for before, after, growing, full in (
        (whole, whole, True, 1), (whole, part, True, 0), (part, whole, True, 0), (whole, whole, False, 0)
    ):  # fmt: skip
        assert map_tallies(state(before, growing=growing), state(after, clock=50), statistics)["full"] == full
    counts["unmatched"] = 0
    assert map_tallies(state(whole), state(whole, clock=50), statistics)["full"] == 0, "nobody asked for a node"


def test_validation_rows_lose_their_label_and_stay_in_training(digits, tmp_path):
    settings = small("sssom", digits, train__validation_fraction=0.25)
    plan = plan_of(settings)
    truth = Dataset.open(digits).labels("train")
    kept, withheld = training_labels(plan, truth)
    everyone, nobody = training_labels(plan_of(small("sssom", digits)), truth)
    assert len(nobody) == 0
    assert bool((kept[withheld] == -1).all())
    assert bool((everyone[withheld] == truth[withheld]).all())
    assert int((kept >= 0).sum()) + len(withheld) == int((everyone >= 0).sum())
    assert len(withheld) == pytest.approx(0.25 * int((everyone >= 0).sum()), rel=0.1)
    assert set(truth[kept >= 0].tolist()) == set(range(10))
    result = train(settings, tmp_path / "run")
    assert 0.5 < result["validation_accuracy"] <= 1
    assert result["map_digest"] != train(small("sssom", digits), tmp_path / "all")["map_digest"]


def test_what_is_not_repeated_comes_from_the_run_that_goes_on(digits, tmp_path):
    first = train(small("sssom", digits, train__seed=3), tmp_path / "run")
    again = train({"data.path": str(digits), "train.model": "sssom"}, tmp_path / "run", resume=True)
    assert (again["seed"], again["map_digest"]) == (3, first["map_digest"])
    assert RunDirectory(tmp_path / "run").record["settings"]["train.seed"] == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1.5, -1.5])
def test_a_value_that_cannot_be_summed_is_named_with_its_row(bad):
    run = RunConfig.build({"data.path": "x", "train.model": "larfdssom", "map.activation_threshold": 0.9})
    config = run.map_config().resolve(num_samples=20, num_features=3)
    samples = torch.rand(20, 3)
    samples[7, 1] = bad
    state = initial_state(config, 3)
    cut = RoundPlan.of(0, config, 20)
    with pytest.raises(ValueError, match=r"Training row 7, feature 1 must be a number in \[-1, 1\]"):
        round_statistics(state, lambda rows: (samples[rows], None), config, cut, 20, scale=40, max_abs=1.0)


@pytest.mark.parametrize(
    ("model", "samples", "counted"), [("sssom", 400, 3 * 64), ("kohonen", 1438, 11 * 64), ("deep", 400, 3 * 64)]
)
def test_a_round_whose_reduction_loses_tiles_fails(digits, model, samples, counted):
    """Three of seven, or eleven of 23, are computed: those of the other worker never come."""
    plan = plan_of(small(model, digits, map__batch_size=400, train__labelled_fraction=1.0))
    reduction = LocalReduction()
    reduction.world_size = 2
    first = first_snapshot(plan, Dataset.open(digits))
    with pytest.raises(RoundFailed, match=f"Round 0 must count each of its {samples} samples once. Got {counted}."):
        rounds_of(plan).play(first, reduction, lambda: None)


def test_rounds_grow_with_the_data_unless_a_size_is_given():
    config = MapConfig(variant="sssom")
    assert [round_samples(n, config) for n in (1, 1438, 16_384, 60_000, 10**7)] == [512, 512, 512, 2048, 32_768]


@pytest.mark.parametrize("model", ["sssom", "deep", "supervised"])
def test_a_worker_with_another_data_set_in_its_place_is_refused(digits, model):
    settings = {"data.path": str(digits), "train.model": model, "cluster.workers": 0}
    plan = dataclasses.replace(plan_of(settings), manifest_hash="0" * 64)
    with pytest.raises(DataError, match="must be the same for all workers. Got manifest"):
        rounds_of(plan)


def test_rivals_are_computed_on_the_cpu(digits):
    settings = {"data.path": str(digits), "train.model": "fixmatch", "cluster.workers": 0, "cluster.device": "cuda"}
    with pytest.raises(ValueError, match="cluster.device must be cpu for fixmatch. Got cuda"):
        RunConfig.build(settings)


@pytest.mark.parametrize("model", ["sssom", "deep"])
def test_a_training_that_has_ended_holds_no_file_of_its_data(digits, tmp_path, model):
    def held() -> list[str]:
        links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
        return sorted(os.readlink(link) for link in links if os.path.exists(link) and ".rows" in os.readlink(link))

    gc.collect()
    before = held()
    gc.disable()
    try:
        train(small(model, digits), tmp_path / "run")
        assert held() == before
    finally:
        gc.enable()
