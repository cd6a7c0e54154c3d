"""The decision whether a pod gets a proxy, by Istio's labels, and the marks that go with it.

    pod `sidecar.istio.io/inject: "false"`          none, whatever else is said
    pod `sidecar.istio.io/inject: "true"`           a proxy
    namespace `istio-injection: disabled`           none
    namespace `istio-injection: enabled`, or the revision's label `istio.io/rev` on pod or namespace   a proxy
    annotation `inject.istio.io/templates: gateway`                   the proxy is a gateway, not a sidecar

Source: Istio's injection webhook (`pkg/kube/inject`), its object and namespace selectors.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any

from meltemi.base.workloads import (
    CANONICAL_NAME,
    CANONICAL_REVISION,
    canonical_revision,
    canonical_service,
    deployment_of,
)

Obj = dict[str, Any]

INJECT = "sidecar.istio.io/inject"
NAMESPACE_INJECTION = "istio-injection"
REVISION = "istio.io/rev"
TEMPLATES = "inject.istio.io/templates"
TLS_MODE = "security.istio.io/tlsMode"
STATUS = "sidecar.istio.io/status"


# The name of the proxy's container.
PROXY = "istio-proxy"


class Template(enum.StrEnum):
    """What kind of proxy a pod gets."""

    SIDECAR = "sidecar"
    GATEWAY = "gateway"


def wanted(
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    namespace_labels: Mapping[str, str],
    *,
    host_network: bool = False,
    revision: str = "default",
) -> Template | None:
    """The proxy that a pod gets, or None."""
    asked = labels.get(INJECT) or annotations.get(INJECT)
    if host_network or asked == "false":
        return None
    if asked != "true":
        by_namespace = namespace_labels.get(NAMESPACE_INJECTION)
        by_revision = revision in (labels.get(REVISION), namespace_labels.get(REVISION))
        if by_namespace == "disabled" or not (by_namespace == "enabled" or by_revision):
            return None
    return Template.GATEWAY if "gateway" in annotations.get(TEMPLATES, "").split(",") else Template.SIDECAR


def mark(pod: Obj, namespace: Obj | None) -> Template | None:
    """Write on a new pod what injection writes: that mTLS can be spoken to it, and its canonical names.

    Amends `pod`; tells what kind of proxy it gets.
    """
    metadata = pod["metadata"]
    labels = metadata.setdefault("labels", None) or {}
    annotations = metadata.get("annotations") or {}
    namespace_labels = ((namespace or {}).get("metadata") or {}).get("labels") or {}
    host_network = bool((pod.get("spec") or {}).get("hostNetwork"))
    template = wanted(labels, annotations, namespace_labels, host_network=host_network)
    if template is not None:
        labels = {**labels}
        labels.setdefault(CANONICAL_NAME, canonical_service(labels, _owner(metadata)))
        labels.setdefault(CANONICAL_REVISION, canonical_revision(labels))
        if template is Template.SIDECAR:
            labels.setdefault(TLS_MODE, "istio")
        status = {"containers": [PROXY], "templates": [template], "revision": "default"}
        metadata["annotations"] = {**annotations, STATUS: json.dumps(status)}
    metadata["labels"] = labels
    return template


def injected(annotations: Mapping[str, str]) -> Template | None:
    """The proxy that injection gave a pod when it was made, as the pod's annotations tell."""
    try:
        templates = json.loads(annotations.get(STATUS, "{}")).get("templates") or ()
    except (ValueError, AttributeError):
        return None
    return next((template for template in Template if template in templates), None)


def _owner(metadata: Obj) -> str:
    """The name of the workload: the Deployment's, where the owner is one of its ReplicaSets."""
    owner = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), None)
    if owner is None:
        return str(metadata.get("name", ""))
    name = str(owner.get("name", ""))
    return deployment_of(name, metadata.get("labels") or {}) if owner.get("kind") == "ReplicaSet" else name
