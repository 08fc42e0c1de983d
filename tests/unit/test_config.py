"""RunConfig: flat keys in, one strict configuration out, one helpful line for what is wrong."""

import dataclasses
import json

import pytest

from pipeline.config import RunConfig, flatten, keys, parse_setting, parse_value, read_file
from somcore import LossConfig, MapConfig

BASE = {"data.path": "data/digits", "train.model": "sssom"}


def test_given_keys_come_back_flat_beside_the_defaults():
    flat = RunConfig.build({**BASE, "map.capacity": 50, "cluster.workers": 3}).flat()
    assert flat["map.capacity"] == 50
    assert flat["cluster.workers"] == 3
    assert flat["train.reduction"] == "exact"
    assert RunConfig.build(flat) == RunConfig.build({**BASE, "map.capacity": 50, "cluster.workers": 3})


def test_the_map_section_is_the_core_s_own_configuration():
    config = RunConfig.build({**BASE, "train.seed": 7, "map.bmu_rate": 0.2}).map_config()
    assert (config.variant, config.seed, config.bmu_rate, config.neighbour_rate) == ("sssom", 7, 0.2, None)


@pytest.mark.parametrize(
    ("flat", "sentence"),
    [
        ({"map.bmu_rat": 0.1}, "Unknown key 'map.bmu_rat'. Did you mean 'map.bmu_rate'?"),
        ({"bmu_rate": 0.1}, "Unknown key 'bmu_rate'. Did you mean 'map.bmu_rate'?"),
        ({"workers": 2}, "Unknown key 'workers'. Did you mean 'cluster.workers'?"),
        ({"map.seed": 1}, "Unknown key 'map.seed'. It is set by train.seed."),
        ({"qqq": 1}, "Unknown key 'qqq'."),
        ({"map.bmu_rate": 2}, "map.bmu_rate must be a number in [0, 1). Got 2."),
        ({"map.bmu_rate": "fast"}, "map.bmu_rate must be a number in [0, 1). Got 'fast'."),
        ({"map.capacity": 0}, "map.capacity must be a whole number in [1, 16384]. Got 0."),
        ({"map.batch_size": None}, "map.batch_size must be a whole number >= 1. Got None."),
        ({"map.activation_threshold": None}, "map.activation_threshold must be a number in (0, 1) | auto. Got None."),
        ({"map.fallback": None}, "map.fallback must be one of nearest | threshold. Got None."),
        ({"map.noise_filter": None}, "map.noise_filter must be bool. Got None."),
        (
            {"train.model": "deep", "loss.pull_weight": None},
            "loss.pull_weight must be a number in [0, inf). Got None.",
        ),
        ({"map.rows": 5}, "map.rows is a parameter of kohonen, dssom. Got it for sssom; remove it."),
        ({"train.labelled_fraction": 1.5}, "train.labelled_fraction must be a share in [0, 1]. Got 1.5."),
        ({"train.labelled_fraction": "few"}, "train.labelled_fraction must be a share in [0, 1]. Got 'few'."),
        ({"cluster.workers": 1.5}, "cluster.workers must be an integer >= 0 (0: in this process). Got 1.5."),
        (
            {"cluster.cpus_per_worker": 1e-5},  # Ray counts no finer
            "cluster.cpus_per_worker must be a number of CPUs >= 0.0001, or none. Got 1e-05.",
        ),
        ({"cluster.workers": True}, "cluster.workers must be an integer >= 0 (0: in this process). Got True."),
        ({"train.reduction": "sloppy"}, "train.reduction must be exact or fast. Got 'sloppy'."),
        (
            {"train.model": "som"},
            "train.model must be one of kohonen, dssom, larfdssom, sssom, altsssom, deep, kmeans, "
            "autoencoder-kmeans, dec, deepcluster, vqvae, supervised, fixmatch. Got 'som'.",
        ),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_key(flat, sentence):
    with pytest.raises(ValueError) as caught:
        RunConfig.build({**BASE, **flat})
    assert str(caught.value) == sentence


@pytest.mark.parametrize("kind", [MapConfig, LossConfig])
def test_only_what_is_none_by_default_may_be_none(kind):
    for field in dataclasses.fields(kind):
        if field.default is None:
            user = {"variant": field.metadata["used_by"][0]} if kind is MapConfig else {}
            assert getattr(kind(**user, **{field.name: None}), field.name) is None
        else:
            with pytest.raises(ValueError, match=rf"^{field.name} must be .+\. Got None\.$"):
                kind(**{field.name: None})


def test_what_must_be_given_is_named():
    with pytest.raises(ValueError, match=r"^data\.path must be given\.$"):
        RunConfig.build({"train.model": "sssom"})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("None", None), ("auto", "auto"), ("[1, 2]", [1, 2])],
)
def test_words_of_the_command_line_become_values(text, value):
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_a_setting_without_a_sign_is_refused():
    assert parse_setting("map.capacity=5") == ("map.capacity", 5)
    with pytest.raises(ValueError, match="--set must be key=value. Got 'map.capacity'."):
        parse_setting("map.capacity")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.yaml", "map:\n  capacity: 5\ntrain.seed: 3\n"),
        ("run.toml", '"train.seed" = 3\n[map]\ncapacity = 5\n'),
        ("run.json", json.dumps({"map": {"capacity": 5}, "train.seed": 3})),
    ],
)
def test_files_hold_sections_or_dotted_keys(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_file(tmp_path / name) == {"map.capacity": 5, "train.seed": 3}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("broken.yaml", "map: [", "is not valid yaml"),
        ("broken.toml", "map = ", "is not valid toml"),
        ("broken.json", "{", "is not valid json"),
        ("list.yaml", "- 1\n", "must hold sections of keys"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        read_file(tmp_path / name)
    assert name in str(caught.value)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"--config must be a file. Got '.*nothing.yaml', which does not exist."):
        read_file(tmp_path / "nothing.yaml")


def test_every_key_has_a_section_and_no_key_twice():
    assert len(keys()) == len(set(keys()))
    assert {key.split(".")[0] for key in keys()} == {
        "data",
        "encoder",
        "deep",
        "rival",
        "loss",
        "map",
        "train",
        "cluster",
        "tracking",
    }
    assert flatten({"map": {"a": 1}, "train.b": 2}) == {"map.a": 1, "train.b": 2}
