"""Whether a VirtualService can mean anything: its hosts, its gateways, and that its rules are reached."""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.virtual_service import (
    HttpRoute,
    L4MatchAttributes,
    RouteDestination,
    TcpRoute,
    TlsMatchAttributes,
    TlsRoute,
    VirtualService,
    VirtualServiceSpec,
)
from meltemi.api.validation import terms
from meltemi.api.validation.http_route import claims, destination, http_route, weights
from meltemi.api.validation.reach import unreached
from meltemi.base.hosts import is_address, matches

MESH = "mesh"
"""The gateway that stands for all sidecars."""


def virtual_service(resource: VirtualService) -> Faults:
    """What is wrong with a VirtualService."""
    spec = resource.spec
    delegate = not spec.hosts
    yield from _delegate(spec) if delegate else _hosts(spec)
    for index, gateway in enumerate(spec.gateways):
        yield from gateway_name(paths.item("spec.gateways", index), gateway)
    yield from terms.duplicates("spec.gateways", spec.gateways, "gateway")
    yield from terms.export_to("spec.exportTo", spec.export_to, resource.namespace)
    if not (spec.http or spec.tls or spec.tcp):
        yield Fault("spec", "there is no rule", "add http, tls or tcp", "RequiredField")
    for index, http in enumerate(spec.http):
        yield from http_route(paths.item("spec.http", index), http, delegate=delegate)
        yield from _gateways_of(paths.item("spec.http", index), spec, http)
        if not delegate and not any(gateway != MESH for gateway in spec.gateways):
            yield from _no_claims(paths.item("spec.http", index), http)
    yield from unreached(spec)
    for index, tls in enumerate(spec.tls):
        yield from _tls_route(paths.item("spec.tls", index), tls, spec)
    for index, tcp in enumerate(spec.tcp):
        yield from _tcp_route(paths.item("spec.tcp", index), tcp)


def _no_claims(path: str, http: HttpRoute) -> Faults:
    """Sidecars choose routes before they look at tokens."""
    for index, match in enumerate(http.match):
        for field, key in claims(match):
            where = paths.key(f"{paths.item(f'{path}.match', index)}.{field}", key)
            yield Fault(where, "only gateways match on claims of a JWT", "add the gateways that the rule is for")


def gateway_name(path: str, value: str) -> Faults:
    """A reference to a Gateway: `mesh`, `name` or `namespace/name`."""
    namespace, slash, name = value.rpartition("/")
    if slash:
        yield from terms.dns_label(path, namespace, "a namespace")
    if not name:
        yield Fault(path, "the gateway's name is empty", "write a name, namespace/name, or mesh")
    elif slash:
        yield from terms.dns_label(path, name, "the name of a Gateway")
    elif "." in name:
        short, namespace = name.split(".")[:2]
        yield warning(path, "the gateway is named as a host", f"write {namespace}/{short}", "DeprecatedForm")
    else:
        yield from terms.host(path, name, wildcard=False)


def _delegate(spec: VirtualServiceSpec) -> Faults:
    for name, value in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
        if value:
            yield Fault(
                f"spec.{name}",
                f"without hosts this is a delegate, and a delegate has no {name}",
                f"add hosts, or remove {name}",
                "RequiredField",
            )


def _hosts(spec: VirtualServiceSpec) -> Faults:
    for_mesh = not spec.gateways or MESH in spec.gateways
    valid = True
    for index, host in enumerate(spec.hosts):
        path = paths.item("spec.hosts", index)
        found = list(terms.host(path, host, address=True))
        valid = valid and not found
        yield from found
        if host == "*" and for_mesh:
            yield Fault(
                path, "'*' would catch every host of the mesh", "name the hosts, or bind to a gateway", "InvalidHost"
            )
    if not valid:
        return
    for index, host in enumerate(spec.hosts):
        covered = next((other for other in spec.hosts[:index] if matches(other, host) or matches(host, other)), None)
        if covered is not None:
            yield Fault(
                paths.item("spec.hosts", index), f"{host!r} and {covered!r} overlap", "keep one of the two", "Duplicate"
            )


def _gateways_of(path: str, spec: VirtualServiceSpec, route: HttpRoute) -> Faults:
    bound = spec.gateways or (MESH,)
    for index, match in enumerate(route.match):
        for at, name in enumerate(match.gateways):
            where = paths.item(f"{path}.match[{index}].gateways", at)
            yield from gateway_name(where, name)
            if name not in bound:
                yield warning(
                    where,
                    f"the gateway {name!r} is not one of this VirtualService's, so that the match is never met",
                    "add it to spec.gateways",
                )


def _tls_route(path: str, route: TlsRoute, spec: VirtualServiceSpec) -> Faults:
    if not route.match:
        yield Fault(f"{path}.match", "there is no match", "add a match with sniHosts", "RequiredField")
    for index, match in enumerate(route.match):
        where = paths.item(f"{path}.match", index)
        yield from _connection(where, match)
        if not match.sni_hosts:
            yield Fault(f"{where}.sniHosts", "there is no SNI host", "name one, or '*'", "RequiredField")
        for at, sni in enumerate(match.sni_hosts):
            inner = paths.item(f"{where}.sniHosts", at)
            if is_address(sni):
                yield warning(inner, "clients do not send an IP address as server name", "write a DNS name")
                continue
            found = list(terms.host(inner, sni))
            yield from found
            if not found and not any(matches(host, sni) for host in spec.hosts):
                yield Fault(
                    inner,
                    f"the SNI host {sni!r} is not among the hosts of this VirtualService",
                    "add it to spec.hosts",
                    "InvalidHost",
                )
    yield from _route_destinations(path, route.route)


def _tcp_route(path: str, route: TcpRoute) -> Faults:
    for index, match in enumerate(route.match):
        where = paths.item(f"{path}.match", index)
        yield from _connection(where, match)
        if match.source_subnet:
            yield from terms.subnet(f"{where}.sourceSubnet", match.source_subnet)
    yield from _route_destinations(path, route.route)


def _connection(path: str, match: TlsMatchAttributes | L4MatchAttributes) -> Faults:
    yield from terms.subnets(f"{path}.destinationSubnets", match.destination_subnets)
    yield from terms.labels(f"{path}.sourceLabels", match.source_labels)
    for index, gateway in enumerate(match.gateways):
        yield from gateway_name(paths.item(f"{path}.gateways", index), gateway)


def _route_destinations(path: str, targets: tuple[RouteDestination, ...]) -> Faults:
    if not targets:
        yield Fault(f"{path}.route", "there is no destination", "add a route", "RequiredField")
    for index, target in enumerate(targets):
        yield from destination(f"{paths.item(f'{path}.route', index)}.destination", target.destination)
    yield from weights(f"{path}.route", tuple(target.weight for target in targets))
