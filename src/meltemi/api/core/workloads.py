"""Deployment and ReplicaSet: how many pods of which template. Source: Kubernetes apps/v1."""

from __future__ import annotations

from meltemi.api.core.pods import PodTemplate
from meltemi.api.meta import Condition, CorePart, LabelSelector, Resource
from meltemi.api.scalars import IntOrString


class RollingUpdate(CorePart, frozen=True, kw_only=True):
    """How far the number of pods may differ from the one asked for during an update: a number or a percentage."""

    max_unavailable: IntOrString | None = None
    max_surge: IntOrString | None = None


class DeploymentStrategy(CorePart, frozen=True, kw_only=True):
    """`RollingUpdate` or `Recreate`."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate | None = None


class DeploymentSpec(CorePart, frozen=True, kw_only=True):
    """The template, the number of pods, and how they are replaced."""

    replicas: int | None = None
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    strategy: DeploymentStrategy = DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    progress_deadline_seconds: int | None = None
    paused: bool = False


class DeploymentStatus(CorePart, frozen=True, kw_only=True):
    """How far a Deployment has come."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    unavailable_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class Deployment(Resource, frozen=True, kw_only=True):
    """Pods of one template, replaced step by step when it changes."""

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class ReplicaSetSpec(CorePart, frozen=True, kw_only=True):
    """The template and the number of pods."""

    replicas: int | None = None
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    min_ready_seconds: int = 0


class ReplicaSetStatus(CorePart, frozen=True, kw_only=True):
    """How many pods there are."""

    observed_generation: int = 0
    replicas: int = 0
    fully_labeled_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class ReplicaSet(Resource, frozen=True, kw_only=True):
    """Pods of exactly one template."""

    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()
