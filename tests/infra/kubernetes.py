"""Problems of a set of Kubernetes objects: schemas, references, security, resources, versions."""

import functools
import json
import shlex
from collections.abc import Iterator

import kubernetes_validate
from pydantic import ValidationError

from tests.infra import kuberay
from tests.infra.files import pinned, version

# What README says to create by hand.
SECRETS = {"somgrad-redis", "somgrad-store", "somgrad-mlflow"}
KUBERNETES = "1.37.0"


def problems(objects: list[dict]) -> list[str]:
    """One line for each thing that is wrong."""
    checks = (_schemas, _references, _security, _pods, _versions, _entrypoints)
    return [line for check in checks for line in check(objects)]


def templates(objects: list[dict]) -> Iterator[tuple[str, dict]]:
    """(whose, template) of every pod template in the objects."""
    for item in objects:
        name, spec = f"{item['kind']} {item['metadata']['name']}", item.get("spec", {})
        if "template" in spec:
            yield name, spec["template"]
        if "submitterPodTemplate" in spec:
            yield f"{name} submitter", spec["submitterPodTemplate"]
        cluster = spec if item["kind"] == "RayCluster" else spec.get("rayClusterSpec")
        if cluster:
            yield f"{name} head", cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                yield f"{name} {group['groupName']}", group["template"]


def containers(template: dict) -> list[dict]:
    """All containers of a pod, those that run first too."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def _schemas(objects: list[dict]) -> Iterator[str]:
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"} | t.get("metadata", {}), "spec": t["spec"]}
        for _, t in templates(objects)
    ]
    for item in [*objects, *pods]:
        fault = _schema(json.dumps(item, sort_keys=True))
        if fault:
            yield f"{item['kind']} {item['metadata']['name']}: {fault}"


@functools.cache  # by content: a planted error changes one object
def _schema(text: str) -> str | None:
    item = json.loads(text)
    try:
        if item["kind"] in kuberay.KINDS:
            kuberay.KINDS[item["kind"]].model_validate(item)
        else:
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
    except (ValidationError, kubernetes_validate.ValidationError) as error:
        return str(error)[:500]
    return None


def _references(objects: list[dict]) -> Iterator[str]:
    there = {(item["kind"], item["metadata"]["name"]) for item in objects} | {("Secret", name) for name in SECRETS}
    for whose, template in templates(objects):
        named = {"redis"} if whose.startswith("StatefulSet") else set()
        for volume in template["spec"].get("volumes", []):
            named.add(volume["name"])
            if "persistentVolumeClaim" in volume:
                wanted = ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                if wanted not in there:
                    yield f"{whose}: {wanted} is defined nowhere"
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in there:
                yield f"{whose}: ConfigMap {volume['configMap']['name']} is defined nowhere"
        for container in containers(template):
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in named:
                    yield f"{whose}: {container['name']} mounts {mount['name']}, which is no volume"
            sources = [
                *container.get("envFrom", []),
                *(variable["valueFrom"] for variable in container.get("env", []) if "valueFrom" in variable),
            ]
            for source in sources:
                for kind, key in (("Secret", "secretRef"), ("Secret", "secretKeyRef"), ("ConfigMap", "configMapRef")):
                    if key in source and (kind, source[key]["name"]) not in there:
                        yield f"{whose}: {kind} {source[key]['name']} is defined nowhere"
    for item in objects:
        spec = item.get("spec", {})
        cluster = spec if item["kind"] == "RayCluster" else spec.get("rayClusterSpec", {})
        if "gcsFaultToleranceOptions" in cluster:
            service = cluster["gcsFaultToleranceOptions"]["redisAddress"].split(":")[0]
            if ("Service", service) not in there:
                yield f"{item['metadata']['name']}: Service {service} is defined nowhere"


def _security(objects: list[dict]) -> Iterator[str]:
    for item in objects:
        if item["kind"] == "Secret":
            yield f"Secret {item['metadata']['name']}: secrets are made by hand, not kept in files"
    for whose, template in templates(objects):
        pod = template["spec"].get("securityContext", {})
        if pod.get("runAsNonRoot") is not True or not pod.get("runAsUser"):
            yield f"{whose}: runs as root"
        if pod.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{whose}: no seccomp profile"
        for container in containers(template):
            context = container.get("securityContext", {})
            if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{whose}: {container['name']} keeps privileges"
            if context.get("readOnlyRootFilesystem") is not True:
                yield f"{whose}: the root file system of {container['name']} can be written"


def _pods(objects: list[dict]) -> Iterator[str]:
    for whose, template in templates(objects):
        for container in containers(template):
            resources = container.get("resources", {})
            for kind in ("requests", "limits"):
                if not {"cpu", "memory"} <= set(resources.get(kind, {})):
                    yield f"{whose}: {container['name']} has no {kind} of cpu and memory"
            if container["name"] in ("ray-head", "ray-worker", "redis"):
                missing = {"readinessProbe", "livenessProbe"} - set(container)
                if missing:
                    yield f"{whose}: {container['name']} has no {', '.join(sorted(missing))}"
            if ":" not in container["image"] or container["image"].endswith(":latest"):
                yield f"{whose}: image {container['image']} has no exact tag"


def _versions(objects: list[dict]) -> Iterator[str]:
    for whose, template in templates(objects):
        for container in containers(template):
            name, _, tag = container["image"].rpartition(":")
            if name.endswith("somgrad") and tag.rpartition("-")[0] != version():
                yield f"{whose}: image {container['image']} is not of version {version()}"
    for item in objects:
        spec = item.get("spec", {})
        cluster = spec if item["kind"] == "RayCluster" else spec.get("rayClusterSpec", {})
        if cluster and cluster.get("rayVersion") != pinned()["ray"]:
            yield f"{item['metadata']['name']}: rayVersion {cluster.get('rayVersion')}, pinned is {pinned()['ray']}"


def _entrypoints(objects: list[dict]) -> Iterator[str]:
    """The commands of jobs: known options, known settings, and room for a worker on a node of the cluster."""
    import importlib

    import typer

    from pipeline.config import RunConfig, parse_setting, read_file

    for item in objects:
        if item["kind"] != "RayJob":
            continue
        whose = item["metadata"]["name"]
        program, job, *arguments = shlex.split(item["spec"]["entrypoint"])
        if program != "somgrad" or job not in ("train", "sweep"):
            yield f"{whose}: '{program} {job}' is no command of the package"
            continue
        command = typer.main.get_command(importlib.import_module(f"jobs.{job}").app)
        try:
            given = command.make_context(job, arguments).params
            flat = read_file(given["config"]) if given["config"] else {}
            flat |= dict(parse_setting(text) for text in given["settings"] or [])
            run = RunConfig.build({"data.path": "data", "train.model": given["model"]} | flat)
        except Exception as error:  # the command line's own errors have format_message
            if not isinstance(error, ValueError) and not hasattr(error, "format_message"):
                raise
            yield f"{whose}: {error.format_message() if hasattr(error, 'format_message') else error}"
            continue
        if not given["resume"]:
            yield f"{whose}: must --resume, or a second try begins anew"
        template = item["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
        room = template["spec"]["containers"][0]["resources"]["limits"]
        if (run.cluster.cpus_per_worker or 0) > float(room["cpu"]):
            yield f"{whose}: a worker wants {run.cluster.cpus_per_worker} CPUs, a node has {room['cpu']}"
        if run.cluster.gpus_per_worker > float(room.get("nvidia.com/gpu", 0)):
            yield f"{whose}: a worker wants {run.cluster.gpus_per_worker} GPUs, a node has fewer"
        if run.cluster.cpus_per_worker is None:
            yield f"{whose}: without cluster.cpus_per_worker the cluster does not grow"
