"""infra/kuberay, offline: overlays resolve, schemas hold, what is named exists. Planted errors are found."""

import copy
import shutil
import subprocess

import pytest
import yaml

from tests.infra import kustomize
from tests.infra.files import INFRA, ROOT
from tests.infra.kubernetes import SECRETS, containers, problems, templates

OVERLAYS = ("cpu", "gpu")
KUBERAY = INFRA / "kuberay"
MADE = {name: kustomize.build(KUBERAY / "overlays" / name) for name in OVERLAYS}


def the(objects, kind, name):
    return next(item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_wrong_with_the_objects(overlay):
    assert problems(MADE[overlay]) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlay_has_what_the_readme_promises(overlay):
    kinds = {(item["kind"], item["metadata"]["name"]) for item in MADE[overlay]}
    assert {("RayCluster", "somgrad"), ("RayJob", "somgrad-train"), ("RayJob", "somgrad-sweep")} <= kinds
    assert {item["metadata"].get("namespace", "somgrad") for item in MADE[overlay]} == {"somgrad"}
    standing = the(MADE[overlay], "RayCluster", "somgrad")["spec"]
    for job in ("somgrad-train", "somgrad-sweep"):
        spec = the(MADE[overlay], "RayJob", job)["spec"]
        assert spec["rayClusterSpec"] == standing
        assert spec["suspend"] is True
    gpus = [
        container["resources"]["limits"].get("nvidia.com/gpu")
        for whose, template in templates(MADE[overlay])
        for container in containers(template)
        if container["name"] == "ray-worker"
    ]
    assert gpus == [None if overlay == "cpu" else "1"] * 3
    readme = (KUBERAY / "README.md").read_text()
    assert all(f"create secret generic {name} " in readme for name in SECRETS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlay_is_what_kustomize_makes_of_it(overlay):
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is absent: overlays are resolved by the tests' own reading only")
    command = ["kubectl", "kustomize", f"infra/kuberay/overlays/{overlay}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    key = lambda item: (item["kind"], item["metadata"]["name"])  # noqa: E731
    assert sorted(made, key=key) == sorted(MADE[overlay], key=key)


def at(value, path):
    for key in path:
        value = value[key]
    return value


HEAD = ("spec", "headGroupSpec", "template", "spec")
CLUSTER, JOB = ("RayCluster", "somgrad"), ("RayJob", "somgrad-train")
GPU, WORKERS = "overlays/gpu/kustomization.yaml", "overlays/gpu/workers.yaml"
TRAIN = "somgrad train --data d --model sssom --out o --resume"


@pytest.mark.parametrize(
    ("whose", "path", "key", "value", "said"),
    [
        (CLUSTER, ("spec",), "enableInTreeAutoscalling", True, "Extra inputs are not permitted"),
        (CLUSTER, ("spec", "workerGroupSpecs", 0), "maxReplicas", "8", "valid integer"),
        (CLUSTER, ("spec", "workerGroupSpecs", 0), "minReplicas", 5, "between minReplicas and maxReplicas"),
        (CLUSTER, ("spec", "headGroupSpec", "rayStartParams"), "num-cpus", 0, "valid string"),
        (CLUSTER, ("spec", "authOptions"), "mode", "disabled", "'token'"),
        (CLUSTER, ("spec",), "rayVersion", "2.9.0", "rayVersion 2.9.0"),
        (CLUSTER, ("spec", "gcsFaultToleranceOptions"), "redisAddress", "elsewhere:6379", "Service elsewhere"),
        (CLUSTER, ("spec", "gcsFaultToleranceOptions"), "redisPassword", {"value": "x"}, "valueFrom"),
        (CLUSTER, (*HEAD,), "restartPolicy", "Always", "restartPolicy must be Never"),
        (CLUSTER, (*HEAD, "containers", 0), "imagePullPolice", "Always", "imagePullPolice"),
        (CLUSTER, (*HEAD, "containers", 0), "image", "somgrad:latest", "no exact tag"),
        (CLUSTER, (*HEAD, "containers", 0), "image", "somgrad:0.0.9-cpu", "is not of version"),
        (CLUSTER, (*HEAD, "containers", 0), "securityContext", {}, "keeps privileges"),
        (CLUSTER, (*HEAD, "containers", 0, "securityContext"), "readOnlyRootFilesystem", False, "can be written"),
        (CLUSTER, (*HEAD, "containers", 0, "resources"), "limits", {"cpu": "2"}, "no limits of cpu and memory"),
        (CLUSTER, (*HEAD, "containers", 0), "livenessProbe", None, "no livenessProbe"),
        (CLUSTER, (*HEAD, "containers", 0, "readinessProbe", "httpGet"), "prot", 1, "prot"),
        (CLUSTER, (*HEAD, "securityContext"), "runAsUser", 0, "runs as root"),
        (CLUSTER, (*HEAD, "volumes", 2, "persistentVolumeClaim"), "claimName", "gone", "'gone') is defined nowhere"),
        (CLUSTER, (*HEAD, "volumes", 0), "name", "temp", "mounts tmp, which is no volume"),
        (CLUSTER, (*HEAD, "initContainers", 0, "envFrom", 0, "secretRef"), "name", "gone", "Secret gone is defined"),
        (JOB, ("spec",), "shutdownAfterJobFinishes", False, "suspend needs"),
        (JOB, ("spec",), "submissionMode", "K8SJobMode", "submissionMode"),
        (JOB, ("spec",), "entrypoint", TRAIN.replace("train", "trian"), "is no command of the package"),
        (JOB, ("spec",), "entrypoint", TRAIN.replace("--data", "--dat"), "No such option"),
        (JOB, ("spec",), "entrypoint", f"{TRAIN} --set map.epoch=1", "epoch"),
        (JOB, ("spec",), "entrypoint", TRAIN, "does not grow"),
        (JOB, ("spec",), "entrypoint", f"{TRAIN} --set cluster.cpus_per_worker=64", "a worker wants 64"),
        (JOB, ("spec",), "entrypoint", TRAIN.removesuffix(" --resume"), "must --resume"),
        (("Service", "somgrad-redis"), ("spec", "ports", 0), "port", "redis", "is not of type 'integer'"),
        (("NetworkPolicy", "somgrad-inside"), ("spec",), "ingres", [], "ingres"),
        (("StatefulSet", "somgrad-redis"), ("spec", "template", "spec"), "securityContext", {}, "runs as root"),
    ],
)
def test_a_planted_error_is_found(whose, path, key, value, said):
    objects = copy.deepcopy(MADE["cpu"])
    place = at(the(objects, *whose), path)
    if value is None:
        del place[key]
    else:
        place[key] = value
    assert any(said in line for line in problems(objects)), problems(objects)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("base/kustomization.yaml", "  - redis.yaml", "  - radis.yaml", "radis.yaml does not exist"),
        ("base/train.yaml", "  suspend: true", "  suspend: true\n  suspend: false", "twice"),
        (GPU, "name: somgrad-sweep", "name: somgrad-swep", "no object is"),
        (GPU, "  - name: somgrad\n    newName", "  - name: somgard\n    newName", "used nowhere"),
        (GPU, "patches:", "patchesJson6902:", "is not known"),
        (WORKERS, "path: /spec/workerGroupSpecs/0/groupName", "path: /spec/workerGroupSpecs/0/group", "nothing there"),
        (WORKERS, "workerGroupSpecs/0/template/spec/tol", "workerGroupSpecs/1/template/spec/tol", "workerGroupSpecs/1"),
    ],
)
def test_a_planted_error_of_an_overlay_is_found(tmp_path, file, old, new, said):
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    path = tmp_path / "kuberay" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(AssertionError, match=said):
        kustomize.build(tmp_path / "kuberay/overlays/gpu")
