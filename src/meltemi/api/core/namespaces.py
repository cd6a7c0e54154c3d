"""Namespace and ServiceAccount. Source: Kubernetes core/v1."""

from __future__ import annotations

from meltemi.api.meta import CorePart, Resource


class NamespaceStatus(CorePart, frozen=True, kw_only=True):
    """`Active` or `Terminating`."""

    phase: str = ""


class Namespace(Resource, frozen=True, kw_only=True):
    """A space of names; its labels say whether the pods in it get a sidecar."""

    status: NamespaceStatus | None = None


class LocalReference(CorePart, frozen=True, kw_only=True):
    """An object of the same namespace, by name."""

    name: str = ""


class ServiceAccount(Resource, frozen=True, kw_only=True):
    """The identity that pods run under."""

    secrets: tuple[LocalReference, ...] = ()
    image_pull_secrets: tuple[LocalReference, ...] = ()
    automount_service_account_token: bool | None = None
