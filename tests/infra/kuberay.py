"""The fields of KubeRay's objects that are used here, strictly; KubeRay's own schemas are in no package.

Names, kinds and rules after KubeRay 1.5 (its types and its validation); pods are checked with Kubernetes' own schemas.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count = Field(ge=0)


class Strict(BaseModel):
    """Unknown fields and values of another kind are errors, as for the API server."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Strict):
    name: str = Field(pattern=r"^[a-z]([-a-z0-9]{0,45}[a-z0-9])?$")  # 47 at most: KubeRay adds to it
    namespace: str


class SecretKey(Strict):
    name: str
    key: str


class ValueFrom(Strict):
    secretKeyRef: SecretKey


class Credential(Strict):
    valueFrom: ValueFrom  # never a value in the file


class FaultTolerance(Strict):
    redisAddress: str = Field(pattern=r"^[a-z0-9.-]+:\d+$")
    redisPassword: Credential


class Auth(Strict):
    mode: Literal["token"]


class Autoscaler(Strict):
    version: Literal["v1", "v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: int = Count
    imagePullPolicy: Literal["IfNotPresent", "Always", "Never"]
    resources: dict[str, Any]
    securityContext: dict[str, Any]
    volumeMounts: list[dict[str, Any]]


class Head(Strict):
    serviceType: Literal["ClusterIP"]
    rayStartParams: dict[str, str]
    template: dict[str, Any]


class Workers(Strict):
    groupName: str = Field(pattern=r"^[a-z0-9-]+$")
    replicas: int = Count
    minReplicas: int = Count
    maxReplicas: int = Field(ge=1)
    rayStartParams: dict[str, str]
    template: dict[str, Any]

    @model_validator(mode="after")
    def _between(self) -> "Workers":
        fits = self.minReplicas <= self.replicas <= self.maxReplicas
        assert fits, "replicas must be between minReplicas and maxReplicas"
        return self


class ClusterSpec(Strict):
    rayVersion: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    enableInTreeAutoscaling: Literal[True]
    autoscalerOptions: Autoscaler
    gcsFaultToleranceOptions: FaultTolerance
    authOptions: Auth
    headGroupSpec: Head
    workerGroupSpecs: list[Workers] = Field(min_length=1)

    @model_validator(mode="after")
    def _as_the_operator_checks(self) -> "ClusterSpec":
        container = self.headGroupSpec.template["spec"]["containers"][0]
        names = {variable["name"] for variable in container.get("env", [])}
        assert not names & {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"}, "set by gcsFaultToleranceOptions only"
        if self.autoscalerOptions.version == "v2":
            templates = [self.headGroupSpec.template, *(group.template for group in self.workerGroupSpecs)]
            policies = {template["spec"].get("restartPolicy", "Never") for template in templates}
            assert policies == {"Never"}, "restartPolicy must be Never or unset with autoscaler v2"
        return self


class RayCluster(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class JobSpec(Strict):
    suspend: bool
    submissionMode: Literal["K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"]
    backoffLimit: int = Count
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int = Count
    activeDeadlineSeconds: int = Field(ge=1)
    entrypoint: str = Field(min_length=1)
    submitterPodTemplate: dict[str, Any]
    rayClusterSpec: ClusterSpec

    @model_validator(mode="after")
    def _as_the_operator_checks(self) -> "JobSpec":
        assert self.shutdownAfterJobFinishes or not self.suspend, "suspend needs shutdownAfterJobFinishes"
        assert self.shutdownAfterJobFinishes or not self.ttlSecondsAfterFinished, "ttl needs shutdownAfterJobFinishes"
        assert self.submissionMode == "K8sJobMode", "submitterPodTemplate is for K8sJobMode"
        return self


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


KINDS = {"RayCluster": RayCluster, "RayJob": RayJob}
