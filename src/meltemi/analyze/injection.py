"""Which namespaces and pods get a proxy, and whether that is what was meant."""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.analyze import messages
from meltemi.analyze.snapshot import SYSTEM_NAMESPACES, Snapshot
from meltemi.api import core, paths
from meltemi.api.meta import Resource
from meltemi.base.problems import Problem
from meltemi.inject import policy

_PROXY_USER = 1337
_AUTO = "auto"


def namespaces(snapshot: Snapshot) -> Iterator[Problem]:
    """Namespaces that do not say whether their pods get a proxy, or say it twice."""
    for namespace in snapshot.of(core.Namespace):
        if namespace.name in SYSTEM_NAMESPACES or namespace.name == snapshot.mesh.root_namespace:
            continue
        labels = [label for label in (policy.NAMESPACE_INJECTION, policy.REVISION) if label in namespace.labels]
        if len(labels) > 1:
            yield messages.SEVERAL_INJECTION_LABELS.of(
                namespace,
                paths.key("metadata.labels", labels[1]),
                f"the labels {labels[0]} and {labels[1]} both say which pods get a proxy",
                "keep one of the two",
            )
        elif not labels and not _chooses_for_itself(snapshot, namespace.name):
            yield messages.NAMESPACE_NOT_INJECTED.of(
                namespace,
                "metadata.labels",
                "the namespace does not say whether its pods get a proxy, and so they get none",
                "label it istio-injection=enabled, or istio-injection=disabled if that is meant",
            )


def _chooses_for_itself(snapshot: Snapshot, namespace: str) -> bool:
    """Whether every workload of a namespace says for itself whether it gets a proxy, as gateways do."""
    found = snapshot.selected(namespace, {})
    return bool(found) and all(policy.INJECT in workload.metadata.labels for workload in found)


def pods(snapshot: Snapshot) -> Iterator[Problem]:
    """Pods that run without the proxy that they would be given today."""
    for pod in snapshot.of(core.Pod):
        runs = bool(pod.status.pod_ip) and not pod.metadata.deletion_timestamp
        namespace = snapshot.get(core.Namespace, "", pod.namespace)
        wanted = policy.wanted(
            pod.labels,
            pod.annotations,
            namespace.labels if namespace else {},
            host_network=pod.spec.host_network,
        )
        has_proxy = policy.injected(pod.annotations) is not None or any(
            container.name == policy.PROXY for container in (*pod.spec.containers, *pod.spec.init_containers)
        )
        if runs and wanted is not None and not has_proxy and pod.status.phase not in ("Succeeded", "Failed"):
            yield messages.POD_MISSING_PROXY.of(
                pod, "metadata", "the pod was made before its namespace asked for proxies, and has none", "restart it"
            )


def proxies(snapshot: Snapshot) -> Iterator[Problem]:
    """Templates of gateways that nothing injects, and applications that run as the proxy's user."""
    for workload in snapshot.workloads:
        root = f"{workload.template_path}spec"
        for index, container in enumerate(workload.spec.containers):
            where = paths.item(f"{root}.containers", index)
            if container.image == _AUTO and not snapshot.in_mesh(workload):
                message = messages.IMAGE_AUTO_ERROR if workload.is_pod else messages.IMAGE_AUTO_WARNING
                yield message.of(
                    workload.owner,
                    f"{where}.image",
                    "the image `auto` stands for a proxy, but the pod is not given one",
                    'add the label sidecar.istio.io/inject: "true" to the pod',
                )
            context = container.security_context
            if container.name != policy.PROXY and context and context.run_as_user == _PROXY_USER:
                yield _reserved(workload.owner, f"{where}.securityContext.runAsUser")
        shared = workload.spec.security_context
        if shared and shared.run_as_user == _PROXY_USER:
            yield _reserved(workload.owner, f"{root}.securityContext.runAsUser")


def _reserved(owner: Resource, path: str) -> Problem:
    return messages.APPLICATION_UID.of(
        owner, path, "the user 1337 is the proxy's: its connections are not captured", "run as another user"
    )
