"""Spaces of a sweep: what a file may say, what a set means, draws that can be extended."""

import re
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.errors import UserError
from pipeline.plain_yaml import read_yaml
from pipeline.sweeps import spaces
from pipeline.sweeps.published_spaces import map_config
from pipeline.sweeps.spaces import PUBLISHED, open_space

FILE = """
map:
  bmu_rate: {low: 0.001, high: 0.1, log: true}
  capacity: {low: 20, high: 60, integer: true, steps: 3}
map.fallback: [nearest, threshold]
map.batch_size: 128
"""


def opened(tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return open_space(str(path))


def build(space, values, model="sssom"):
    return RunConfig.build({"data.path": "x", "train.model": model, **space.settings(values, 150, 9)})


@pytest.mark.parametrize("search", ["lhs", "random"])
def test_sets_lie_in_their_ranges_and_do_not_depend_on_how_many_there_are(tmp_path, search):
    space = opened(tmp_path, FILE)
    sets = [space.drawn(index, search) for index in range(20)]
    assert sets[:5] == [opened(tmp_path, FILE).drawn(index, search) for index in range(5)]
    assert all(0.001 <= s["map.bmu_rate"] <= 0.1 and 20 <= s["map.capacity"] <= 60 for s in sets)
    assert {s["map.fallback"] for s in sets} == {"nearest", "threshold"}
    assert all(isinstance(s["map.capacity"], int) for s in sets)
    assert space.settings(sets[0], 100, 4) == {"map.batch_size": 128, **sets[0]}
    for drawn in sets:
        config = build(space, drawn).map_config()
        assert (config.fallback, config.capacity) == (drawn["map.fallback"], drawn["map.capacity"])


def test_ten_sets_of_a_hypercube_fill_ten_strata(tmp_path):
    space = opened(tmp_path, "map.relevance_slope: {low: 0.0, high: 1.0}")
    values = sorted(space.drawn(index, "lhs")["map.relevance_slope"] for index in range(10))
    assert [int(10 * value) for value in values] == list(range(10))


@pytest.mark.parametrize("search", ["lhs", "random"])
def test_whole_numbers_are_equally_likely(tmp_path, search):
    space = opened(tmp_path, "map.candidates_per_group: {low: 1, high: 3, integer: true}")
    drawn = Counter(space.drawn(index, search)["map.candidates_per_group"] for index in range(3000))
    assert set(drawn) == {1, 2, 3} and max(drawn.values()) - min(drawn.values()) < 200


def test_numbers_may_have_an_exponent_without_a_point(tmp_path):
    space = opened(
        tmp_path, "map.bmu_rate: {low: 1e-3, high: 1E-1, log: true}\nmap.relevance_rate: [1e-3, .5e-1, 2e-2]"
    )
    assert [column.low for column in space.columns] == [-3.0, 0.0]
    assert space.columns[1].choices == (1e-3, 5e-2, 2e-2)
    assert read_yaml("{a: 1e3, b: 1.e+3, c: e3, d: 1e, e: 12}") == {
        "a": 1000.0,
        "b": 1000.0,
        "c": "e3",
        "d": "1e",
        "e": 12,
    }


def test_a_grid_takes_a_value_once(tmp_path):
    assert len(opened(tmp_path, "map.capacity: [20, 20, 30]").grid()) == 2
    assert opened(tmp_path, "map.capacity: [1, 1.0, true, 1]").points["map.capacity"] == [1, 1.0, True]
    with pytest.raises(UserError, match="map.capacity must be a list of at least one plain value"):
        opened(tmp_path, "map.capacity: [!!set {a: }, 1]")


def test_a_grid_has_all_combinations(tmp_path):
    text = "map.capacity: {low: 20, high: 60, integer: true, steps: 3}\nmap.fallback: [nearest, threshold]"
    sets = opened(tmp_path, text).grid()
    assert len(sets) == 6 and {s["map.capacity"] for s in sets} == {20, 40, 60}
    ends = opened(tmp_path, "map.bmu_rate: {low: 0.01, high: 0.1, log: true, steps: 2}").grid()
    assert [s["map.bmu_rate"] for s in ends] == pytest.approx([0.01, 0.1])
    with pytest.raises(UserError, match=r"map.bmu_rate must be a list of values, or a range with steps"):
        opened(tmp_path, FILE).grid()


def test_the_example_of_the_docs_is_a_space_of_valid_runs_and_no_grid(tmp_path):
    docs = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    module = re.search(r"\n\n((?:    .+\n)+)", spaces.__doc__).group(1)
    for text in (re.search(r"```yaml\n(space: .+?)```", docs, re.DOTALL).group(1), textwrap.dedent(module)):
        space = opened(tmp_path, text)
        sets = [space.drawn(index, "lhs") for index in range(10)]
        assert {build(space, drawn).map_config().fallback for drawn in sets} == {"nearest", "threshold"}
        with pytest.raises(UserError, match=r"activation_threshold must be a list of values, or a range with steps"):
            space.grid()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_set_means_what_the_benchmark_of_the_tables_trains(name):
    space = open_space(name)
    values = space.drawn(3, "lhs")
    settings = {"data.path": "x", "train.model": name, **space.settings(values, 150, 9)}
    assert RunConfig.build(settings).map_config() == map_config(name, values, 150, 9, seed=0)


def test_a_published_space_can_be_narrowed(tmp_path):
    space = opened(tmp_path, "space: sssom\nmap.epochs: 3\nmap.bmu_rate: [0.1]")
    settings = space.settings(space.drawn(0, "lhs"), 150, 9)
    assert settings["map.epochs"] == 3 and settings["map.bmu_rate"] == 0.1
    assert "map.relevance_slope" in settings and settings["map.capacity"] == 150


def test_ends_of_ranges_that_are_open_may_be_their_bounds(tmp_path):
    space = opened(
        tmp_path, "map.activation_threshold: {low: 0.0, high: 1.0}\nmap.capacity: {low: 2, high: 9, integer: true}"
    )
    extremes = space.extremes()
    assert {values["map.capacity"] for values in extremes} >= {2, 9}
    assert all(build(space, values) for values in extremes)


def test_what_is_given_for_all_sets_is_not_searched_and_the_rest_is_drawn_as_before(tmp_path):
    space = opened(tmp_path, "map.epochs: [1, 2]\nmap.capacity: [20, 40]")
    left = space.without({"map.epochs": 3})
    assert space.given({"map.epochs": 3}) == ("map.epochs",)
    assert left.grid() == [{"map.capacity": 20}, {"map.capacity": 40}]
    assert left.drawn(4, "lhs") == {"map.capacity": space.drawn(4, "lhs")["map.capacity"]}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_range_is_given_by_the_name_that_settings_have(name):
    given = {"map.epochs": 3, "map.bmu_rate": 0.1, "map.neighbour_rate": 0.02, "map.connection_threshold": 0.2}
    space, left = open_space(name), open_space(name).without(given)
    gone = {"epochs", "bmu_rate", "neighbour_ratio", "minwd"}
    assert {column.name for column in space.columns} - {column.name for column in left.columns} == gone
    values = left.drawn(3, "lhs")
    assert values == {key: value for key, value in space.drawn(3, "lhs").items() if key not in gone}
    config = build(left, values, name).map_config()
    assert {key: getattr(config, key.removeprefix("map.")) for key in given} == given
    assert config.min_win_share == values["min_win_share"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("map.bmu_rat: [0.1]", "Unknown key 'map.bmu_rat'. Did you mean 'map.bmu_rate'?"),
        ("map.bmu_rate: {low: 0.2, high: 0.1}", "map.bmu_rate must be a range with low < high. Got"),
        ("map.bmu_rate: {low: a, high: 0.1}", "map.bmu_rate must be a range with numbers low and high. Got"),
        ("map.bmu_rate: {low: 0.1}", "map.bmu_rate must be a range with numbers low and high. Got"),
        (
            "map.capacity: {low: 20.5, high: 50, integer: true}",
            "map.capacity must be a range with whole numbers low and high where integer is true. Got",
        ),
        ("map.bmu_rate: {low: 0, high: 1, log: true}", "map.bmu_rate must be a range with low > 0 where log is true"),
        ("map.bmu_rate: {low: 0, hihg: 1}", "map.bmu_rate: a range must be made of low, high, log, integer, steps."),
        ("map.bmu_rate: {low: 0, high: 1, steps: 1}", "map.bmu_rate: steps must be an integer >= 2. Got 1."),
        ("map.fallback: []", "map.fallback must be a list of at least one plain value. Got []."),
        ("train.seed: [1, 2]", "train.seed must be left out of a space."),
        ("space: nothing", "space must be one of sssom, altsssom, larfdssom. Got 'nothing'."),
        ("- 1", "space.yaml must be a mapping of settings to ranges, lists or values. Got 'list'."),
        ("a: [", "space.yaml is not valid yaml: "),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, text, sentence):
    with pytest.raises(UserError) as caught:
        opened(tmp_path, text)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_a_space_that_is_not_there():
    with pytest.raises(UserError, match="--space must be a yaml file or one of sssom, altsssom, larfdssom. Got 'no'."):
        open_space("no")
