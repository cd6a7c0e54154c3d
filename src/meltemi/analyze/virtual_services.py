"""VirtualServices: ports left open, claims that nobody verifies, rules for the wrong place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from meltemi.analyze import messages
from meltemi.analyze.snapshot import Snapshot
from meltemi.api.networking import Gateway, VirtualService
from meltemi.api.networking.virtual_service import HttpMatchRequest
from meltemi.api.security import RequestAuthentication
from meltemi.base.hosts import qualify
from meltemi.base.problems import Problem
from meltemi.resolve import targets
from meltemi.resolve.http_rules import MESH, gateways_of

_CLAIMS = "@request.auth.claims"


def ports(snapshot: Snapshot) -> Iterator[Problem]:
    """Destinations that do not say which of several ports, where that for which the request came need not be one of them."""
    for rule in snapshot.of(VirtualService):
        own = {qualify(host, rule.namespace, snapshot.mesh.domain) for host in rule.spec.hosts}
        for_mesh = set(gateways_of(rule)) == {MESH}
        for path, destination in targets.named(rule):
            service = snapshot.service(destination.host, rule.namespace)
            if service is None or destination.port is not None or len(service.ports) < 2:
                continue
            if for_mesh and service.host in own:
                continue
            numbers = ", ".join(str(port.number) for port in service.ports)
            yield messages.PORT_REQUIRED.of(
                rule,
                path,
                f"{service.host} has several ports ({numbers}) and the destination does not say which",
                "add port.number to the destination",
            )


def claims(snapshot: Snapshot) -> Iterator[Problem]:
    """Rules on claims of tokens at gateways that verify no token."""
    for service in snapshot.of(VirtualService):
        found = next(_claims(service), None)
        if found is None:
            continue
        path, key = found
        for name in gateways_of(service):
            namespace, _, short = name.rpartition("/")
            gateway = snapshot.get(Gateway, namespace, short)
            if gateway is None:
                continue
            for workload in snapshot.selected(None, gateway.spec.selector):
                if not _verifies(snapshot, workload.namespace, workload.metadata.labels):
                    yield messages.JWT_CLAIMS.of(
                        service,
                        path,
                        f"the rule looks at {key}, but no RequestAuthentication verifies tokens at {workload.owner.ref}",
                        "add a RequestAuthentication that selects the gateway",
                    )
                    break


def _claims(service: VirtualService) -> Iterator[tuple[str, str]]:
    for i, rule in enumerate(service.spec.http):
        for j, match in enumerate(rule.match):
            for name, keys in _header_keys(match):
                for key in keys:
                    if key.startswith(_CLAIMS):
                        yield f"spec.http[{i}].match[{j}].{name}", key


def _header_keys(match: HttpMatchRequest) -> tuple[tuple[str, Mapping[str, object]], ...]:
    return (("headers", match.headers), ("withoutHeaders", match.without_headers))


def _verifies(snapshot: Snapshot, namespace: str, labels: Mapping[str, str]) -> bool:
    for each in snapshot.of(RequestAuthentication):
        wanted = each.spec.selector.match_labels if each.spec.selector else {}
        if each.namespace in (namespace, snapshot.mesh.root_namespace) and wanted.items() <= labels.items():
            return True
    return False


def ingress(snapshot: Snapshot) -> Iterator[Problem]:
    """Routes of gateways to a host for which another VirtualService chooses subsets: that one holds for the mesh only."""
    choosing: dict[str, VirtualService] = {}
    for service in snapshot.of(VirtualService):
        if MESH in gateways_of(service):
            own = {qualify(host, service.namespace, snapshot.mesh.domain) for host in service.spec.hosts}
            for _, destination in targets.named(service):
                host = qualify(destination.host, service.namespace, snapshot.mesh.domain)
                if destination.subset and host in own:
                    choosing.setdefault(host, service)
    for service in snapshot.of(VirtualService):
        if MESH in gateways_of(service):
            continue
        for i, rule in enumerate(service.spec.http):
            for j, share in enumerate(rule.route):
                host = qualify(share.destination.host, service.namespace, snapshot.mesh.domain)
                other = choosing.get(host)
                if other is not None and not share.destination.subset:
                    yield messages.INGRESS_RULES.of(
                        service,
                        f"spec.http[{i}].route[{j}].destination",
                        f"{other.ref} chooses subsets of {host} for the mesh only: requests of gateways get any",
                        "name the subset here as well",
                    )
