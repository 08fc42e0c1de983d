"""The number of workers cannot be seen in a result: equal digests here and on Ray, for any number of actors."""

import threading

import pytest

from pipeline.errors import GroupTimeout, UserError
from pipeline.training.trainer import train
from tests.training import MODELS, last_json, run_job, small, table


@pytest.fixture(scope="module")
def local(digits, tmp_path_factory):
    """The trainings of this module without Ray, by model."""
    folder = tmp_path_factory.mktemp("local")
    return {model: train(small(model, digits), folder / model) for model in MODELS}


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("model", MODELS)
def test_any_number_of_workers_gives_the_map_of_none(group, digits, local, tmp_path, model, workers):
    group.resize(workers)
    result = train(small(model, digits), tmp_path / "run", group=group)
    expected = local[model]
    assert result["map_digest"] == expected["map_digest"]
    for key in ("rounds", "nodes", "accuracy", "nmi", "quantization_error"):
        assert result[key] == expected[key]


def test_the_five_models_are_not_one(local):
    assert len({result["map_digest"] for result in local.values()}) == len(MODELS)


@pytest.mark.parametrize("model", ["sssom", "kohonen"])
def test_the_fast_reduction_is_close_but_promises_nothing(group, digits, local, tmp_path, model):
    group.resize(3)
    result = train(small(model, digits, train__reduction="fast"), tmp_path / "run", group=group)
    expected = local[model]
    assert result["quantization_error"] == pytest.approx(expected["quantization_error"], rel=0.05)
    assert result["nodes"] == pytest.approx(expected["nodes"], rel=0.2)


def test_uneven_shards_and_more_workers_than_shards_cannot_be_seen(group, tmp_path, rng):
    """The same rows in one shard and in shards of 7 rows, the last one of 5, on four workers."""
    features, labels = rng.random((180, 5)), rng.integers(0, 3, 180)
    digests = set()
    for rows in (None, 7, 100):
        data = table(tmp_path / f"{rows}", features, labels, rows_per_shard=rows)
        settings = small("sssom", data, map__batch_size=60, map__tile_size=8, map__epochs=3, map__pruning_epochs=1)
        group.resize(4)
        result = train(settings, tmp_path / f"run-{rows}", group=group)
        digests.add(result["map_digest"])
    assert len(list((tmp_path / "7" / "data" / "train").iterdir())) == 26
    assert len(list((tmp_path / "100" / "data" / "train").iterdir())) == 2
    assert digests == {train(settings, tmp_path / "alone")["map_digest"]}


def test_more_workers_than_tiles_have_nothing_to_do_and_do_no_harm(group, digits, tmp_path):
    settings = small("sssom", digits, map__batch_size=100, map__epochs=1, map__pruning_epochs=1)
    alone = train(settings, tmp_path / "alone")
    group.resize(4)
    assert train(settings, tmp_path / "four", group=group)["map_digest"] == alone["map_digest"]


@pytest.mark.parametrize(
    ("model", "before", "after"), [*((model, 1, 3) for model in MODELS), ("altsssom", 4, 2), ("kohonen", 2, 0)]
)
def test_an_interrupted_run_goes_on_with_other_workers_to_the_same_map(
    group, digits, local, tmp_path, model, before, after
):
    def stop(epoch, expected, metrics):
        if epoch == 2:
            raise KeyboardInterrupt

    out = tmp_path / "run"
    group.resize(before)
    with pytest.raises(KeyboardInterrupt, match="State saved after round .*--resume goes on"):
        train(small(model, digits), out, group=group, on_epoch=stop)
    rounds_done = local[model]["rounds"]
    if after:
        group.resize(after)
    lines: list[str] = []
    result = train(small(model, digits), out, resume=True, say=lines.append, group=group if after else None)
    assert result["map_digest"] == local[model]["map_digest"]
    assert result["rounds"] == rounds_done
    assert any(line.startswith("Going on after round ") for line in lines)


def test_a_checkpoint_in_the_middle_of_an_epoch_is_as_good(group, digits, local, tmp_path):
    settings = small("sssom", digits, train__checkpoint_rounds=3, train__keep_checkpoints=50)
    out = tmp_path / "run"
    group.resize(2)
    assert train(settings, out, group=group)["map_digest"] == local["sssom"]["map_digest"]
    kept = sorted((out / "checkpoints").iterdir())
    assert len(kept) > 3
    for late in kept[2:]:
        late.unlink()
    result = train(settings, out, resume=True)
    assert result["map_digest"] == local["sssom"]["map_digest"]


def test_the_command_gives_the_same_map_over_a_running_cluster(ray_cluster, digits, local, tmp_path):
    settings = small("sssom", digits, cluster__cpus_per_worker=0.5)
    direct = {"data.path", "train.model", "cluster.workers"}
    options = [word for k, v in settings.items() if k not in direct for word in ("--set", f"{k}={v}")]
    done = run_job(
        "--data", digits, "--model", "sssom", "--workers", 2, "--address", ray_cluster, "--json",
        "--out", tmp_path / "run", *options,
    )  # fmt: skip
    assert last_json(done)["map_digest"] == local["sssom"]["map_digest"]
    assert last_json(done)["workers"] == 2


def test_too_few_cpus_are_told_in_one_line(ray_cluster, digits, tmp_path):
    settings = small("sssom", digits, cluster__workers=64, cluster__cpus_per_worker=1, cluster__placement_s=1)
    with pytest.raises(UserError, match=r"must have room for 64 workers of 1 CPUs.*It has 4 CPUs.*fewer workers"):
        train(settings, tmp_path / "run")


def test_a_busy_cluster_is_told_in_one_line(ray_cluster, group, digits, tmp_path):
    settings = small("sssom", digits, cluster__workers=2, cluster__cpus_per_worker=2, cluster__placement_s=1)
    with pytest.raises(GroupTimeout, match="had no room for 2 workers of 2 CPUs .* within 1 s"):
        train(settings, tmp_path / "run")


def test_training_works_from_a_thread_that_is_not_the_main_one(digits, local, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(small("sssom", digits), tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0]["map_digest"] == local["sssom"]["map_digest"]
