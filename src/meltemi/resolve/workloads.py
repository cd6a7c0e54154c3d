"""Running instances: pods and WorkloadEntries, with who they are and whether a proxy of the mesh stands before them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from meltemi.api.core import Pod
from meltemi.api.networking import WorkloadEntry
from meltemi.base.labels import LabelSet
from meltemi.base.spiffe import SpiffeId
from meltemi.base.workloads import canonical_revision, canonical_service, deployment_of
from meltemi.flow import View
from meltemi.model.clients import Locality
from meltemi.model.mesh import Mesh
from meltemi.model.services import Workload, WorkloadName

TLS_MODE = "security.istio.io/tlsMode"
NETWORK = "topology.istio.io/network"
LOCALITY = "istio-locality"
TEMPLATES = "inject.istio.io/templates"
PROXY_CONTAINER = "istio-proxy"

_CRON_JOB_RUN = re.compile(r"-\d{8,10}$")


def workload(pod: Pod, *, mesh: View[tuple[()], Mesh]) -> Workload | None:
    """A pod that has an address and has not ended."""
    addresses = tuple(each.ip for each in pod.status.pod_ips if each.ip) or tuple(filter(None, [pod.status.pod_ip]))
    if not addresses or pod.status.phase in ("Succeeded", "Failed"):
        return None
    settings = mesh.only()
    account = pod.spec.service_account_name or pod.spec.service_account or "default"
    terminating = bool(pod.metadata.deletion_timestamp)
    return Workload(
        namespace=pod.namespace,
        name=pod.name,
        addresses=addresses,
        labels=LabelSet.of(pod.labels),
        identity=SpiffeId(settings.trust_domain, pod.namespace, account),
        meshed=_is_meshed(pod),
        ports=_named_ports(pod),
        names=names_of(pod.labels, owner_name(pod), pod.namespace, settings.cluster),
        locality=_locality(pod.labels),
        network=pod.labels.get(NETWORK, settings.network),
        ready=pod.status.ready and not terminating,
        terminating=terminating,
        ref=pod.ref,
    )


def entry(workload_entry: WorkloadEntry, *, mesh: View[tuple[()], Mesh]) -> Workload | None:
    """A workload that runs elsewhere, such as on a virtual machine."""
    settings = mesh.only()
    spec = workload_entry.spec
    if not spec.address:
        return None
    labels = {**workload_entry.labels, **spec.labels}
    namespace = workload_entry.namespace
    account = spec.service_account
    return Workload(
        namespace=namespace,
        name=workload_entry.name,
        addresses=(spec.address,),
        labels=LabelSet.of(labels),
        identity=SpiffeId(settings.trust_domain, namespace, account) if account else None,
        meshed=entry_is_meshed(labels, account),
        ports=tuple(sorted(spec.ports.items())),
        names=names_of(labels, workload_entry.name, namespace, settings.cluster),
        locality=locality_of(spec.locality),
        network=spec.network or settings.network,
        weight=spec.weight,
        ref=workload_entry.ref,
    )


def entry_is_meshed(labels: Mapping[str, str], service_account: str) -> bool:
    """Whether mTLS can be spoken to an entry: as its label says, or else if it has an identity."""
    mode = labels.get(TLS_MODE)
    return bool(service_account) if mode is None else mode == "istio"


def names_of(labels: Mapping[str, str], workload_name: str, namespace: str, cluster: str) -> WorkloadName:
    """Who a workload is in metrics, by Istio's rules for canonical names."""
    return WorkloadName(
        workload=workload_name,
        namespace=namespace,
        app=labels.get("app", ""),
        version=labels.get("version", ""),
        canonical_service=canonical_service(labels, workload_name),
        canonical_revision=canonical_revision(labels),
        cluster=cluster,
    )


def owner_name(pod: Pod) -> str:
    """The name of the workload that a pod is a replica of: its Deployment, StatefulSet, CronJob, ... or the pod itself."""
    owner = pod.metadata.controller
    if owner is None:
        return pod.name
    if owner.kind == "ReplicaSet":
        return deployment_of(owner.name, pod.labels)
    if owner.kind == "Job":
        return _CRON_JOB_RUN.sub("", owner.name)
    return owner.name


def locality_of(text: str) -> Locality:
    """A locality written as `region/zone/subzone`."""
    region, _, rest = text.partition("/")
    zone, _, subzone = rest.partition("/")
    return Locality(region, zone, subzone)


def _is_meshed(pod: Pod) -> bool:
    """As injection has written down; else a sidecar in the pod tells it. A gateway has a proxy, but is none's sidecar."""
    mode = pod.labels.get(TLS_MODE) or pod.annotations.get(TLS_MODE)
    if mode is not None:
        return mode == "istio"
    if "gateway" in pod.annotations.get(TEMPLATES, "").split(","):
        return False
    return any(each.name == PROXY_CONTAINER for each in (*pod.spec.containers, *pod.spec.init_containers))


def _named_ports(pod: Pod) -> tuple[tuple[str, int], ...]:
    native = (each for each in pod.spec.init_containers if each.restart_policy == "Always")
    named = {
        port.name: port.container_port for each in (*pod.spec.containers, *native) for port in each.ports if port.name
    }
    return tuple(sorted(named.items()))


def _locality(labels: Mapping[str, str]) -> Locality:
    written = labels.get(LOCALITY)
    if written is not None:
        return locality_of(written.replace(".", "/"))
    return Locality(
        labels.get("topology.kubernetes.io/region", ""),
        labels.get("topology.kubernetes.io/zone", ""),
        labels.get("topology.istio.io/subzone", ""),
    )
