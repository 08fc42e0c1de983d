"""infra/ray-cluster: Ray's own schema and preparation accept the launcher files; planted errors are found."""

import copy

import jsonschema
import pytest

from tests.infra.files import INFRA, documents

CLOUDS = ("aws", "gcp")
FILES = {cloud: documents(INFRA / f"ray-cluster/{cloud}.yaml")[0] for cloud in CLOUDS}


def prepared(config: dict) -> dict:
    """As `ray up` sees it: defaults of the provider added, the schema of Ray checked."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    validate_config(config)
    return config


@pytest.mark.parametrize("cloud", CLOUDS)
def test_ray_accepts_the_file(cloud):
    config = prepared(FILES[cloud])
    assert config["provider"]["type"] == cloud
    head = config["head_node_type"]
    assert config["available_node_types"][head]["resources"]["CPU"] == 0, "trainings would run on the head"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_workers_are_on_spot_and_the_head_is_not(cloud):
    kinds = FILES[cloud]["available_node_types"]
    spot = {}
    for name, kind in kinds.items():
        node = kind["node_config"]
        market = node.get("InstanceMarketOptions", {}).get("MarketType")
        spot[name] = "spot" in (market, node.get("scheduling", {}).get("provisioningModel", "").lower())
    head = FILES[cloud]["head_node_type"]
    assert spot.pop(head) is False
    assert spot
    assert all(spot.values())
    assert all(kind["min_workers"] == 0 for name, kind in kinds.items() if name != head)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_node_shows_a_token_and_the_dashboard_stays_inside(cloud):
    options = FILES[cloud]["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(options)
    (token,) = [word.split("=")[1] for word in options if "RAY_AUTH_TOKEN_PATH" in word]
    assert token in FILES[cloud]["file_mounts"]
    assert all("0.0.0.0" not in line for line in FILES[cloud]["head_start_ray_commands"])


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ((), "max_worker", 3),
        ((), "max_workers", "3"),
        ((), "head_node_type", "hed"),
        (("docker",), "run_option", []),
        (("auth",), "ssh_usr", "ubuntu"),
        (("available_node_types", "head"), "max_workres", 1),
    ],
)
def test_a_planted_error_is_found(cloud, path, key, value):
    config = copy.deepcopy(FILES[cloud])
    place = config
    for name in path:
        place = place[name]
    place[key] = value
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        prepared(config)
