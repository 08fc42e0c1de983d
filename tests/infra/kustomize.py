"""As much of kustomize as the overlays use; whatever else they say is refused, not overlooked.

A binary of kustomize is in no package that the tests could install. Where kubectl is there, one test compares the two.
"""

import copy
from pathlib import Path

import yaml

from tests.infra.files import documents

KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "images", "patches", "replacements", "configMapGenerator",
    "generatorOptions",
}  # fmt: skip
CLUSTER_WIDE = {"Namespace"}


def build(folder: Path) -> list[dict]:
    """The objects of a folder with a kustomization.yaml, in no particular order.

    Raises:
        AssertionError: something that is named does not exist, or is not known here.
    """
    (content,) = documents(folder / "kustomization.yaml")
    assert set(content) <= KNOWN, f"{folder.name}: {sorted(set(content) - KNOWN)} is not known to this check"
    objects = []
    for name in content["resources"]:
        path = folder / name
        assert path.exists(), f"{folder.name}: resource {name} does not exist"
        objects += build(path) if path.is_dir() else documents(path)
    objects += [_config_map(folder, given) for given in content.get("configMapGenerator", [])]
    assert content.get("generatorOptions", {}) in ({}, {"disableNameSuffixHash": True})
    for patch in content.get("patches", []):
        _patch(objects, patch["target"], yaml.safe_load((folder / patch["path"]).read_text()))
    for item in objects:
        if "namespace" in content and item["kind"] not in CLUSTER_WIDE:
            item["metadata"]["namespace"] = content["namespace"]
    for image in content.get("images", []):
        assert sum(_retag(item, image) for item in objects), f"image {image['name']} is used nowhere"
    for replacement in content.get("replacements", []):
        _replace(objects, replacement)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(names) == len(set(names)), f"{folder.name}: an object is defined twice"
    return objects


def _config_map(folder: Path, given: dict) -> dict:
    data = dict(literal.split("=", 1) for literal in given.get("literals", []))
    data |= {Path(name).name: (folder / name).read_text() for name in given.get("files", [])}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": given["name"]}, "data": data}


def _selected(objects: list[dict], wanted: dict) -> list[dict]:
    found = [
        item
        for item in objects
        if item["kind"] == wanted["kind"] and wanted.get("name") in (None, item["metadata"]["name"])
    ]
    assert found, f"no object is {wanted}"
    return found


def _patch(objects: list[dict], target: dict, operations: list[dict]) -> None:
    for item in _selected(objects, target):
        for operation in operations:
            *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:])
            place = item
            for key in parents:
                assert (key in place) if isinstance(place, dict) else int(key) < len(place), operation["path"]
                place = place[int(key)] if isinstance(place, list) else place[key]
            assert operation["op"] in ("add", "replace")
            assert operation["op"] == "add" or last in place, f"{operation['path']}: nothing there to replace"
            place[last] = copy.deepcopy(operation["value"])


def _retag(value: object, image: dict) -> int:
    """Gives every container of that image its name and tag; the number of containers."""
    if isinstance(value, list):
        return sum(_retag(item, image) for item in value)
    if not isinstance(value, dict):
        return 0
    count = 0
    for key, inner in value.items():
        if key in ("containers", "initContainers"):
            for container in inner:
                if container["image"] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
                    count += 1
        else:
            count += _retag(inner, image)
    return count


def _replace(objects: list[dict], replacement: dict) -> None:
    source = replacement["source"]
    (item,) = _selected(objects, {"kind": source["kind"], "name": source["name"]})
    value = item[source["fieldPath"]]
    for target in replacement["targets"]:
        assert target["options"] == {"create": True}
        for place in _selected(objects, target["select"]):
            for path in target["fieldPaths"]:
                first, second = path.split(".")
                place[first][second] = copy.deepcopy(value)
