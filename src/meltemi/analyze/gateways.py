"""Gateways: who runs them, which Services lead to their ports, which certificates they use, and who serves the same."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meltemi.analyze import messages
from meltemi.analyze.snapshot import Snapshot, Workload
from meltemi.api import core
from meltemi.api.networking import Gateway
from meltemi.api.networking.gateway import Server, ServerTlsSettings
from meltemi.base.hosts import overlaps, qualify
from meltemi.base.labels import LabelSet
from meltemi.base.ordering import seniority
from meltemi.base.problems import Problem
from meltemi.resolve.credentials import own_name


def workloads(snapshot: Snapshot) -> Iterator[Problem]:
    """Gateways that nobody runs, and ports that no Service leads to."""
    if not snapshot.knows_workloads:
        return
    for gateway in snapshot.of(Gateway):
        found = snapshot.selected(None, gateway.spec.selector)
        if not found:
            labels = ",".join(f"{name}={value}" for name, value in sorted(gateway.spec.selector.items()))
            yield messages.NOT_FOUND.of(
                gateway, "spec.selector", f"no workload has the labels {labels}", "correct the labels"
            )
            continue
        exposed = _exposed(snapshot, found)
        for index, server in enumerate(gateway.spec.servers):
            if exposed and server.port.number not in exposed:
                yield messages.GATEWAY_PORT.of(
                    gateway,
                    f"spec.servers[{index}].port",
                    f"no Service of the gateway's pods leads to the port {server.port.number}",
                    "add the port to the Service, or use one that it has",
                )


def _exposed(snapshot: Snapshot, found: list[Workload]) -> set[int]:
    """The ports of Services in front of workloads, and those of the workloads that they lead to."""
    ports: set[int] = set()
    for service in snapshot.of(core.Service):
        selector = LabelSet.of(service.spec.selector)
        if selector and any(each.namespace == service.namespace and each.labels.contains(selector) for each in found):
            for port in service.spec.ports:
                ports.add(port.port)
                ports |= {port.target_port} if isinstance(port.target_port, int) else set()
    return ports


def conflicts(snapshot: Snapshot) -> Iterator[Problem]:
    """Servers of two Gateways for one host on one port of the same pods."""
    ranked = sorted(snapshot.of(Gateway), key=seniority)
    for position, younger in enumerate(ranked):
        for senior in ranked[:position]:
            if senior.spec.selector != younger.spec.selector:
                continue
            for index, server in enumerate(younger.spec.servers):
                shared = _shared(server, younger, senior)
                if shared:
                    yield messages.CONFLICTING_GATEWAYS.of(
                        younger,
                        f"spec.servers[{index}].hosts",
                        f"{senior.ref}, which is older, serves {shared} on port {server.port.number} of the same pods",
                        "let one of the two serve the host",
                    )


def _shared(server: Server, gateway: Gateway, other: Gateway) -> str:
    """A host that another Gateway serves on the same port for the same namespaces."""
    for theirs in other.spec.servers:
        if theirs.port.number != server.port.number or theirs.bind != server.bind:
            continue
        for host in server.hosts:
            for their_host in theirs.hosts:
                mine, yours = _scoped(host, gateway), _scoped(their_host, other)
                if (mine[0] == yours[0] or "*" in (mine[0], yours[0])) and overlaps(mine[1], yours[1]):
                    return host
    return ""


def _scoped(host: str, gateway: Gateway) -> tuple[str, str]:
    """The namespace whose VirtualServices may use a host (`*`: any), and the host."""
    namespace, slash, name = host.rpartition("/")
    place = gateway.namespace if namespace == "." else namespace
    return (place if slash else "*", qualify(name, gateway.namespace))


def certificates(snapshot: Snapshot) -> Iterator[Problem]:
    """Certificates that are missing, cannot be used, or stand in several Gateways."""
    users: dict[tuple[str, str], list[Gateway]] = {}
    for gateway in sorted(snapshot.of(Gateway), key=seniority):
        for index, server in enumerate(gateway.spec.servers):
            for path, name in _credentials(server.tls, f"spec.servers[{index}].tls"):
                for namespace in _namespaces(snapshot, gateway):
                    yield from _credential(snapshot, gateway, path, namespace, name)
                    others = users.setdefault((namespace, name), [])
                    if others and others[0] is not gateway and others[0].spec.selector == gateway.spec.selector:
                        yield messages.DUPLICATE_CERTIFICATE.of(
                            gateway,
                            path,
                            f"{others[0].ref} uses the certificate {name} as well: a client that keeps its connection "
                            "for both hosts is answered 404",
                            "put both hosts into one Gateway, or give each its own certificate",
                        )
                    others.append(gateway)


def _credentials(tls: ServerTlsSettings | None, path: str) -> Iterator[tuple[str, str]]:
    if tls is None:
        return
    if tls.credential_name:
        yield f"{path}.credentialName", tls.credential_name
    for index, name in enumerate(tls.credential_names):
        yield f"{path}.credentialNames[{index}]", name


def _namespaces(snapshot: Snapshot, gateway: Gateway) -> list[str]:
    """The namespaces of the pods that run a Gateway: there its Secrets are looked for."""
    found = {workload.namespace for workload in snapshot.selected(None, gateway.spec.selector)}
    return sorted(found) or [gateway.namespace]


def _credential(snapshot: Snapshot, gateway: Gateway, path: str, namespace: str, name: str) -> Iterator[Problem]:
    if not snapshot.has_read(core.Secret):
        return
    secret = snapshot.get(core.Secret, namespace, own_name(name, namespace))
    if secret is None:
        yield messages.NOT_FOUND.of(
            gateway,
            path,
            f"there is no Secret {name} in namespace {namespace}, where the gateway's pods are",
            "create it there, or correct the name",
        )
    elif reason := _unusable(secret):
        yield messages.INVALID_CREDENTIAL.of(
            gateway, path, f"the Secret {namespace}/{name} cannot be used: {reason}", "replace it"
        )


def _unusable(secret: core.Secret) -> str:
    """Why a Secret does not hold a certificate with its key; empty if it does."""
    values = secret.values
    certificate = values.get("tls.crt") or values.get("cert")
    key = values.get("tls.key") or values.get("key")
    if certificate is None or key is None:
        return f"it has no {'tls.crt' if certificate is None else 'tls.key'}"
    try:
        leaf = x509.load_pem_x509_certificates(certificate.reveal())[0]
        private = load_pem_private_key(key.reveal(), password=None)
    except (ValueError, TypeError, IndexError):
        return "the certificate or the key is not in PEM"
    return "" if leaf.public_key() == private.public_key() else "the key is not that of the certificate"
