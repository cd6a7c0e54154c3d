"""Manifests of echo applications: the Deployment, its account, and the Service in front of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

Manifest = dict[str, Any]

CONTROL = 19000
"""The control port of every echo application; no sidecar captures it."""

GATE = 18000

_FLAGS = {"http": "--http", "tls": "--tls", "tcp": "--tcp", "greet": "--greet"}


class EchoPort(msgspec.Struct, frozen=True, kw_only=True):
    """A port of an echo application. `serves`: http, tls, tcp or greet (see `meltemi.testing.echo`).

    `name` and `app_protocol` are what the Service says of it, and need not be true; `target` is the container's port,
    if it is another.
    """

    name: str
    number: int
    serves: str = "http"
    app_protocol: str = ""
    target: int = 0

    @property
    def container_port(self) -> int:
        """Where the application listens."""
        return self.target or self.number


PORTS = (
    EchoPort(name="http", number=8080),
    EchoPort(name="http2", number=8081),
    EchoPort(name="grpc", number=7070),
    EchoPort(name="tcp", number=9000, serves="tcp"),
    EchoPort(name="tcp-greet", number=9001, serves="greet"),
)
"""What an echo application serves unless a test says otherwise: one port for each way to name a protocol."""


def service(
    name: str,
    namespace: str,
    ports: Iterable[EchoPort] = PORTS,
    *,
    selector: Mapping[str, str] | None = None,
    **spec: Any,
) -> Manifest:
    """A Service in front of the pods labelled `app: <name>`, or those of another selector. `spec` is added as it is."""
    listed: list[Manifest] = []
    for port in ports:
        entry: Manifest = {"name": port.name, "port": port.number, "targetPort": port.container_port}
        if port.app_protocol:
            entry["appProtocol"] = port.app_protocol
        listed.append(entry)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"selector": dict(selector or {"app": name}), "ports": listed, **spec},
    }


def account(name: str, namespace: str) -> Manifest:
    """A ServiceAccount."""
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}


def deployment(
    name: str,
    namespace: str,
    ports: Sequence[EchoPort] = PORTS,
    *,
    version: str = "v1",
    replicas: int = 1,
    annotations: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    certificates: str = "",
    **pod: Any,
) -> Manifest:
    """A Deployment `<name>-<version>`, run by the account `<name>`. `certificates` is the Secret for its TLS ports."""
    command = ["python3", "-m", "meltemi.testing.echo", "--control", str(CONTROL)]
    for number, serves in sorted({(port.container_port, port.serves) for port in ports}):
        command += [_FLAGS[serves], str(number)]
    container: Manifest = {
        "name": "echo",
        "command": command,
        "env": [{"name": "VERSION", "value": version}],
        "ports": [{"containerPort": number} for number in sorted({port.container_port for port in ports})],
        "readinessProbe": {"tcpSocket": {"port": CONTROL}, "periodSeconds": 5},
    }
    spec: Manifest = {
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        **pod,
    }
    if certificates:
        spec["volumes"] = [{"name": "certificates", "secret": {"secretName": certificates}}]
        container["volumeMounts"] = [{"name": "certificates", "mountPath": "/etc/echo/certificates"}]
    own = {"app": name, "version": version}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{name}-{version}", "namespace": namespace, "labels": own},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "template": {
                "metadata": {
                    "labels": {**own, **(labels or {})},
                    "annotations": {
                        "traffic.sidecar.istio.io/excludeInboundPorts": str(CONTROL),
                        **(annotations or {}),
                    },
                },
                "spec": spec,
            },
        },
    }


def gateway(name: str, namespace: str, ports: Mapping[str, int]) -> list[Manifest]:
    """An ingress gateway, selected by `istio: <name>`, with a LoadBalancer service of these ports."""
    labels = {"istio": name, "sidecar.istio.io/inject": "true"}
    return [
        account(name, namespace),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"istio": name},
                "ports": [{"name": port, "port": number} for port, number in ports.items()],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"matchLabels": {"istio": name}},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"inject.istio.io/templates": "gateway"}},
                    "spec": {
                        "serviceAccountName": name,
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{"name": "istio-proxy", "image": "auto"}],
                    },
                },
            },
        },
    ]


def gate(namespace: str) -> list[Manifest]:
    """The way into the mesh's network from outside, in a namespace of its own without sidecars."""
    template = deployment("gate", namespace, (), annotations={"sidecar.istio.io/inject": "false"})
    container = template["spec"]["template"]["spec"]["containers"][0]
    container["command"] += ["--gate", str(GATE)]
    port = EchoPort(name="tcp", number=GATE, serves="tcp")
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        account("gate", namespace),
        service("gate", namespace, [port], type="LoadBalancer"),
        template,
    ]
