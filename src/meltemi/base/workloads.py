"""Names that follow from a workload's labels and owner, by Istio's rules; metrics, topologies and policies rest on them.

Source: Istio's canonical service (`service.istio.io/canonical-name` and `-revision`, with their fall-backs).
"""

from __future__ import annotations

from meltemi.base.labels import Labels

CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"
TEMPLATE_HASH = "pod-template-hash"


def canonical_service(labels: Labels, workload: str) -> str:
    """The service that a workload is part of: a label that says it, or the workload's own name."""
    return labels.get(CANONICAL_NAME) or labels.get("app.kubernetes.io/name") or labels.get("app") or workload


def canonical_revision(labels: Labels) -> str:
    """The revision of a workload: a label that says it, or `latest`."""
    return (
        labels.get(CANONICAL_REVISION) or labels.get("app.kubernetes.io/version") or labels.get("version") or "latest"
    )


def deployment_of(replica_set: str, labels: Labels) -> str:
    """The Deployment that a ReplicaSet belongs to, by the hash in its name and its pods' labels; else its own name."""
    template_hash = labels.get(TEMPLATE_HASH, "")
    return replica_set.removesuffix(f"-{template_hash}") if template_hash else replica_set
