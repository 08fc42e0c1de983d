"""Parameter sets: Latin hypercubes, nested, seeded; and what a drawn set means for a map."""

import pytest

from pipeline.sweeps.published_spaces import BLOCK, SPACES, map_config, pick, shortened
from somcore.config import MAX_CAPACITY


def first(number, space, method, **seed):
    """The first sets of a sequence."""
    return [pick(space, method, index, **seed) for index in range(number)]


@pytest.mark.parametrize("name", SPACES)
def test_every_block_has_one_value_in_each_stratum(name):
    real = [c for c in SPACES[name] if c.kind == "real"]
    for block in range(3):
        sets = first(3 * BLOCK, SPACES[name], name)[BLOCK * block : BLOCK * (block + 1)]
        for column in real:
            width = (column.high - column.low) / BLOCK
            assert sorted(int((s[column.name] - column.low) / width) for s in sets) == list(range(BLOCK))


@pytest.mark.parametrize("name", SPACES)
def test_sets_are_nested_and_seeded(name):
    many = first(37, SPACES[name], name)
    assert first(12, SPACES[name], name) == many[:12]
    assert first(12, SPACES[name], name, seed=1) != many[:12]
    assert len({tuple(s.items()) for s in many}) == 37


def test_a_new_column_does_not_move_the_others():
    space = SPACES["sssom"]
    assert [s["bmu_rate"] for s in first(20, space[:5], "sssom")] == [s["bmu_rate"] for s in first(20, space, "sssom")]


def test_time_cuts_the_published_ranges_of_epochs_only():
    cut = {c.name: c for c in shortened(SPACES["altsssom"], 30)}
    assert cut["epochs"].high == cut["pruning_epochs"].high == 30
    assert [c for c in shortened(SPACES["altsssom"], 30) if c.name not in ("epochs", "pruning_epochs")] == [
        c for c in SPACES["altsssom"] if c.name not in ("epochs", "pruning_epochs")
    ]
    assert shortened(SPACES["altsssom"], 10_000) == SPACES["altsssom"]


@pytest.mark.parametrize("variant", ["sssom", "altsssom", "larfdssom"])
def test_every_drawn_set_is_a_valid_configuration(variant):
    for number, values in enumerate(first(60, SPACES[variant], variant)):
        config = map_config(variant, values, 100, 4, number).resolve(num_samples=100, num_features=4, num_classes=3)
        assert config.seed == number
        assert config.sampling == "replacement"
        assert config.neighbour_rate <= config.bmu_rate
        assert config.neighbour_rate == pytest.approx(values["neighbour_ratio"] * values["bmu_rate"])
        assert config.connection_threshold == pytest.approx(values["minwd"] / 2)  # sqrt(D) = 2
        assert config.pruning_period == max(1, round(100 * values["pruning_epochs"]))
        assert config.capacity == {"sssom": 100, "altsssom": 250, "larfdssom": 70}[variant]


def test_the_capacity_of_a_large_table_is_what_a_map_can_have():
    values = pick(SPACES["sssom"], "lhs", 0)
    assert map_config("sssom", values, 60_000, 4, 0).capacity == MAX_CAPACITY


def test_the_empty_set_is_the_documented_defaults():
    config = map_config("sssom", {}, 100, 4, 0)
    assert config.to_dict() == type(config)(variant="sssom", seed=0).to_dict()
