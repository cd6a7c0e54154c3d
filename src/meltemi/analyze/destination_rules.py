"""DestinationRules: servers that are not verified, subsets without workloads, and TLS that the other side refuses."""

from __future__ import annotations

from collections.abc import Iterator

from meltemi.analyze import messages
from meltemi.analyze.snapshot import Snapshot
from meltemi.api.networking import DestinationRule
from meltemi.api.networking.destination_rule import ClientTlsSettings
from meltemi.api.security import PeerAuthentication
from meltemi.base.labels import LabelSet
from meltemi.base.problems import Problem
from meltemi.flow import View
from meltemi.model.security import MutualTls, PeerPolicy
from meltemi.model.services import Service
from meltemi.resolve import indexes, peers


def certificates(snapshot: Snapshot) -> Iterator[Problem]:
    """TLS to servers whose certificates are not verified: no CA is named, and the system's do not stand in."""
    for rule in snapshot.of(DestinationRule):
        policy = rule.spec.traffic_policy
        if policy is None:
            continue
        hint = "add caCertificates or credentialName"
        if policy.tls and _unverified(policy.tls, snapshot):
            text = f"{policy.tls.mode} towards {rule.spec.host} takes any certificate"
            yield messages.UNVERIFIED.of(rule, "spec.trafficPolicy.tls", text, hint)
        for index, settings in enumerate(policy.port_level_settings):
            if settings.tls and settings.port and _unverified(settings.tls, snapshot):
                port = settings.port.number
                text = f"{settings.tls.mode} towards port {port} of {rule.spec.host} takes any certificate"
                path = f"spec.trafficPolicy.portLevelSettings[{index}].tls"
                yield messages.UNVERIFIED_PORT.of(rule, path, text, hint)


def _unverified(tls: ClientTlsSettings, snapshot: Snapshot) -> bool:
    if tls.mode not in ("SIMPLE", "MUTUAL") or tls.ca_certificates or tls.credential_name:
        return False
    return bool(tls.insecure_skip_verify) or not snapshot.mesh.verify_servers


def subsets(snapshot: Snapshot) -> Iterator[Problem]:
    """Subsets that no workload belongs to."""
    if not snapshot.knows_workloads:
        return
    for rule in snapshot.of(DestinationRule):
        service = snapshot.service(rule.spec.host, rule.namespace)
        if service is None or not service.selector:
            continue
        for index, subset in enumerate(rule.spec.subsets):
            wanted = {name: value for name, value in subset.labels.items() if not name.startswith("topology.")}
            if not snapshot.selected(service.namespace, {**service.selector.as_dict(), **wanted}):
                yield messages.EMPTY_SUBSET.of(
                    rule,
                    f"spec.subsets[{index}]",
                    f"no workload behind {service.host} has the labels of the subset {subset.name}",
                    "correct the labels, or remove the subset",
                )


def mutual_tls(snapshot: Snapshot) -> Iterator[Problem]:
    """Clients that are told to speak in clear where the server asks for mutual TLS, or the other way round."""
    policies = View.of(
        {(each.namespace, each.name): each for each in snapshot.of(PeerAuthentication)},
        namespace=indexes.namespace,
    )
    for rule in snapshot.of(DestinationRule):
        tls = rule.spec.traffic_policy.tls if rule.spec.traffic_policy else None
        service = snapshot.service(rule.spec.host, rule.namespace)
        if tls is None or service is None or service.external or not service.selector:
            continue
        found = _policy(policies, service, snapshot)
        if not found.refs:
            continue
        modes = {found.of(int(port.target)) for port in service.ports if isinstance(port.target, int)}
        speaks = tls.mode == "ISTIO_MUTUAL"
        refused = MutualTls.DISABLE if speaks else MutualTls.STRICT
        if modes == {refused}:
            yield messages.MTLS_CONFLICT.of(
                rule,
                "spec.trafficPolicy.tls.mode",
                f"clients of {service.host} use {tls.mode}, but {found.refs[-1]} says {refused}",
                f"use {'DISABLE' if speaks else 'ISTIO_MUTUAL'}, or remove the setting: clients find it out themselves",
            )


def _policy(policies: peers.Peers, service: Service, snapshot: Snapshot) -> PeerPolicy:
    """What the workloads of a service ask of their clients."""
    workloads = snapshot.selected(service.namespace, service.selector.as_dict())
    labels = workloads[0].labels if workloads else LabelSet(service.selector.items)
    steps = peers.policy(policies, service.namespace, labels, snapshot.mesh.root_namespace)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: PeerPolicy = end.value
            return found
