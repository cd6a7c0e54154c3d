"""Whether Kubernetes' own kinds can be run and reached: pods with their volumes and probes, Deployments, Services.

These are the mistakes that an API server refuses, told with the line and before anything is applied.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from meltemi.api import paths
from meltemi.api.core.pods import Container, Pod, PodSpec, Probe
from meltemi.api.core.services import Service
from meltemi.api.core.volumes import EnvVarSource, Volume
from meltemi.api.core.workloads import Deployment, ReplicaSet
from meltemi.api.faults import Fault, Faults
from meltemi.api.validation import terms

_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def service(resource: Service) -> Faults:
    """What is wrong with a Service."""
    spec = resource.spec
    if spec.type == "ExternalName":
        yield from terms.host("spec.externalName", spec.external_name, wildcard=False)
        return
    if spec.type not in ("ClusterIP", "NodePort", "LoadBalancer"):
        yield Fault("spec.type", f"{spec.type!r} is not a type", "write ClusterIP, NodePort or LoadBalancer")
    if not spec.ports and not spec.headless:
        yield Fault("spec.ports", "the Service has no port", "add a port", "RequiredField")
    yield from terms.duplicates("spec.ports", [port.name for port in spec.ports if port.name], "port name")
    numbers: set[tuple[int, str]] = set()
    for index, port in enumerate(spec.ports):
        path = paths.item("spec.ports", index)
        if len(spec.ports) > 1 and not port.name:
            yield Fault(f"{path}.name", "of several ports each needs a name", "add a name", "RequiredField")
        if (port.port, port.protocol) in numbers:
            yield Fault(f"{path}.port", f"the port {port.port} is listed twice", "keep one", "Duplicate")
        numbers.add((port.port, port.protocol))
        if port.protocol not in ("TCP", "UDP", "SCTP"):
            yield Fault(f"{path}.protocol", f"{port.protocol!r} is not a protocol", "write TCP or UDP")
        if isinstance(port.target_port, int):
            yield from terms.port(f"{path}.targetPort", port.target_port)
    yield from terms.labels("spec.selector", spec.selector)


def deployment(resource: Deployment | ReplicaSet) -> Faults:
    """What is wrong with a Deployment or ReplicaSet."""
    spec = resource.spec
    if spec.replicas is not None:
        yield from terms.not_negative("spec.replicas", spec.replicas)
    wanted = spec.selector.match_labels
    if not wanted and not spec.selector.match_expressions:
        yield Fault("spec.selector", "there is no selector", "add selector.matchLabels", "RequiredField")
    labels = spec.template.metadata.labels
    for name, value in wanted.items():
        if labels.get(name) != value:
            yield Fault(
                "spec.template.metadata.labels",
                f"the selector asks for {name}={value}, which the template's pods do not have",
                f"add the label {name}: {value}",
                "Conflict",
            )
    yield from pod_spec("spec.template.spec", spec.template.spec)


def pod(resource: Pod) -> Faults:
    """What is wrong with a Pod."""
    yield from pod_spec("spec", resource.spec)


def pod_spec(path: str, spec: PodSpec) -> Faults:
    """What is wrong with the containers and volumes of a pod."""
    if not spec.containers:
        yield Fault(f"{path}.containers", "there is no container", "add a container", "RequiredField")
    volumes = [volume.name for volume in spec.volumes]
    yield from terms.duplicates(f"{path}.volumes", volumes, "volume")
    for index, volume in enumerate(spec.volumes):
        yield from _volume(paths.item(f"{path}.volumes", index), volume)
    names: set[str] = set()
    for where, container in _containers(path, spec):
        if container.name in names:
            yield Fault(f"{where}.name", f"the container {container.name!r} is listed twice", "rename one", "Duplicate")
        names.add(container.name)
        yield from _container(where, container, frozenset(volumes))
    if spec.restart_policy not in ("Always", "OnFailure", "Never"):
        yield Fault(f"{path}.restartPolicy", f"{spec.restart_policy!r} is not a policy", "write Always or Never")


def _containers(path: str, spec: PodSpec) -> Iterator[tuple[str, Container]]:
    for name, containers in (("initContainers", spec.init_containers), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            yield paths.item(f"{path}.{name}", index), container


def _container(path: str, container: Container, volumes: frozenset[str]) -> Faults:
    yield from terms.dns_label(f"{path}.name", container.name, "the name of a container")
    for index, variable in enumerate(container.env):
        where = paths.item(f"{path}.env", index)
        if not _VARIABLE.fullmatch(variable.name):
            yield Fault(f"{where}.name", f"{variable.name!r} is not the name of a variable", "use letters, digits, '_'")
        if variable.value_from:
            if variable.value:
                yield Fault(f"{where}.valueFrom", "value and valueFrom exclude each other", "keep one", "Conflict")
            if variable.value_from == EnvVarSource():
                yield Fault(
                    f"{where}.valueFrom",
                    "it names no source",
                    "add configMapKeyRef, secretKeyRef or fieldRef",
                    "RequiredField",
                )
    yield from terms.duplicates(f"{path}.ports", [port.name for port in container.ports if port.name], "port name")
    mounted = [mount.mount_path for mount in container.volume_mounts]
    yield from terms.duplicates(f"{path}.volumeMounts", mounted, "path")
    for index, mount in enumerate(container.volume_mounts):
        if mount.name not in volumes:
            yield Fault(
                f"{path}.volumeMounts[{index}].name",
                f"the pod has no volume {mount.name!r}",
                "add it to volumes",
                "VolumeNotFound",
            )
    ports = {port.name for port in container.ports}
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe:
            yield from _probe(f"{path}.{name}", probe, ports)


def _probe(path: str, probe: Probe, ports: set[str]) -> Faults:
    given = {
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "exec": probe.exec,
        "grpc": probe.grpc,
    }
    named = [name for name, action in given.items() if action]
    if not named:
        yield Fault(path, "the probe asks nothing", "add httpGet, tcpSocket, exec or grpc", "RequiredField")
    for name in named[1:]:
        yield Fault(f"{path}.{name}", f"{named[0]} and {name} exclude each other", "keep one", "Conflict")
    for name, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action is None:
            continue
        if isinstance(action.port, int):
            yield from terms.port(f"{path}.{name}.port", action.port)
        elif action.port not in ports:
            yield Fault(
                f"{path}.{name}.port", f"the container has no port {action.port!r}", "add it to ports", "PortNotFound"
            )
    for name, seconds, least in (
        ("periodSeconds", probe.period_seconds, 1),
        ("timeoutSeconds", probe.timeout_seconds, 1),
        ("failureThreshold", probe.failure_threshold, 1),
        ("successThreshold", probe.success_threshold, 1),
        ("initialDelaySeconds", probe.initial_delay_seconds, 0),
    ):
        if seconds < least:
            yield Fault(f"{path}.{name}", f"{seconds} is too small", f"write {least} or more", "OutOfRange")


def _volume(path: str, volume: Volume) -> Faults:
    yield from terms.dns_label(f"{path}.name", volume.name, "the name of a volume")
    sources = {
        "configMap": volume.config_map,
        "secret": volume.secret,
        "emptyDir": volume.empty_dir,
        "hostPath": volume.host_path,
        "downwardAPI": volume.downward_api,
        "projected": volume.projected,
    }
    named = [name for name, source in sources.items() if source]
    for name in named[1:]:
        yield Fault(f"{path}.{name}", f"{named[0]} and {name} exclude each other", "keep one", "Conflict")
    if volume.config_map and not volume.config_map.name:
        yield Fault(f"{path}.configMap.name", "it names no ConfigMap", "add a name", "RequiredField")
    if volume.secret and not volume.secret.secret_name:
        yield Fault(f"{path}.secret.secretName", "it names no Secret", "add secretName", "RequiredField")
