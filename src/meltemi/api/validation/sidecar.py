"""Whether a Sidecar can mean anything: what is seen, and where the workload is reached."""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.gateway import ServerTlsSettings
from meltemi.api.networking.sidecar import EgressListener, IngressListener, Sidecar, SidecarSpec
from meltemi.api.validation import terms
from meltemi.api.validation.destination_rule import connection_pool
from meltemi.api.validation.gateway import server_tls
from meltemi.base.hosts import is_address

_ENCRYPTED = frozenset({"https", "tls"})
_HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"})
_LOCAL = ("127.0.0.1", "0.0.0.0", "[::1]", "[::]")


def sidecar(resource: Sidecar) -> Faults:
    """What is wrong with a Sidecar."""
    spec = resource.spec
    if spec == SidecarSpec(workload_selector=spec.workload_selector):
        yield Fault("spec", "the Sidecar says nothing", "add egress or ingress", "RequiredField")
    if spec.workload_selector:
        yield from terms.selector("spec.workloadSelector.labels", spec.workload_selector.labels)
    ports: set[int] = set()
    for index, listener in enumerate(spec.ingress):
        path = paths.item("spec.ingress", index)
        if listener.port.number in ports:
            yield Fault(f"{path}.port.number", "the port is listed twice", "keep one", "Duplicate")
        ports.add(listener.port.number)
        yield from _ingress(path, listener)
    yield from _egress(spec)
    if spec.inbound_connection_pool:
        yield from connection_pool("spec.inboundConnectionPool", spec.inbound_connection_pool)
    policy = spec.outbound_traffic_policy
    if policy and policy.mode == "ALLOW_ANY_DYNAMIC_DNS":
        yield Fault(
            "spec.outboundTrafficPolicy.mode",
            "only the whole mesh can find unknown hosts by their names",
            "use ALLOW_ANY or REGISTRY_ONLY",
        )
    if policy and policy.egress_proxy:
        if policy.mode != "ALLOW_ANY":
            yield Fault(
                "spec.outboundTrafficPolicy.egressProxy", "only ALLOW_ANY sends unknown traffic on", "use ALLOW_ANY"
            )
        yield from terms.host("spec.outboundTrafficPolicy.egressProxy.host", policy.egress_proxy.host, wildcard=False)
        if policy.egress_proxy.port is None:
            where = "spec.outboundTrafficPolicy.egressProxy.port"
            yield Fault(where, "it does not say which port", "add port.number", "RequiredField")


def _ingress(path: str, listener: IngressListener) -> Faults:
    if listener.port.protocol:
        yield from terms.protocol(f"{path}.port.protocol", listener.port.protocol)
    yield from _bind(path, listener)
    if listener.tls:
        yield from server_tls(f"{path}.tls", listener.tls)
        yield from _ingress_tls(path, listener.port.protocol, listener.tls)
    if listener.connection_pool:
        yield from connection_pool(f"{path}.connectionPool", listener.connection_pool)
        protocol = listener.port.protocol.upper()
        if listener.connection_pool.http and protocol and protocol not in _HTTP:
            yield warning(f"{path}.connectionPool.http", f"a port of {protocol} has no requests", "keep tcp alone")
    endpoint = listener.default_endpoint
    if not endpoint:
        return
    where = f"{path}.defaultEndpoint"
    if endpoint.startswith("unix:"):
        if not endpoint.removeprefix("unix://").startswith(("/", "@")):
            yield Fault(where, "the socket's path is not absolute", "write unix:///path", "InvalidAddress")
        return
    address, _, port = endpoint.rpartition(":")
    if address and address not in _LOCAL:
        yield Fault(
            where,
            f"{endpoint!r} is not an endpoint of this workload",
            "write 127.0.0.1:PORT, 0.0.0.0:PORT or unix:///path",
            "InvalidAddress",
        )
    elif not port.isdigit():
        yield Fault(where, f"{port!r} is not a port number", "write a number from 1 to 65535", "OutOfRange")
    else:
        yield from terms.port(where, int(port))


def _ingress_tls(path: str, protocol: str, tls: ServerTlsSettings) -> Faults:
    """What a gateway's server may ask for and a sidecar's port may not."""
    if protocol.lower() not in _ENCRYPTED:
        yield Fault(
            f"{path}.tls", f"a port of {protocol or 'no protocol'} speaks no TLS", "use HTTPS or TLS", "Conflict"
        )
    if tls.mode == "AUTO_PASSTHROUGH":
        yield Fault(f"{path}.tls.mode", "only gateways pass TLS on by its server name", "use SIMPLE or MUTUAL")
    elif tls.mode == "ISTIO_MUTUAL":
        yield Fault(f"{path}.tls.mode", "ISTIO_MUTUAL is what happens without tls as well", "remove tls")
    elif tls.mode == "PASSTHROUGH":
        yield warning(f"{path}.tls.mode", f"{tls.mode} is what happens without tls as well", "use SIMPLE or MUTUAL")
    if tls.subject_alt_names:
        where = f"{path}.tls.subjectAltNames"
        yield Fault(where, "a sidecar does not look at names", "say who may call in an AuthorizationPolicy")
    if tls.https_redirect:
        yield Fault(f"{path}.tls.httpsRedirect", "only gateways redirect to HTTPS", "remove it")


def _egress(spec: SidecarSpec) -> Faults:
    ports: set[tuple[int, str]] = set()
    catch_all = False
    for index, listener in enumerate(spec.egress):
        path = paths.item("spec.egress", index)
        if catch_all:
            yield Fault(
                path, "it stands after the listener for all ports", "put the one without a port last", "Conflict"
            )
        if listener.port is None:
            catch_all = True
        else:
            key = (listener.port.number, listener.bind)
            if key in ports:
                yield Fault(f"{path}.port.number", "the port is listed twice", "keep one", "Duplicate")
            ports.add(key)
            if listener.port.protocol:
                yield from terms.protocol(f"{path}.port.protocol", listener.port.protocol)
        yield from _bind(path, listener)
        if not listener.hosts:
            yield Fault(f"{path}.hosts", "there is no host", "add hosts such as ./* or */*", "RequiredField")
        for at, host in enumerate(listener.hosts):
            yield from terms.namespaced_host(paths.item(f"{path}.hosts", at), host, special="*.~")
        for fault in terms.duplicates(f"{path}.hosts", listener.hosts, "host"):
            yield warning(fault.path, fault.message, fault.hint)
        if "*/*" in listener.hosts and len(listener.hosts) > 1:
            yield warning(f"{path}.hosts", "*/* selects everything, so that the others say nothing", "keep */* alone")


def _bind(path: str, listener: IngressListener | EgressListener) -> Faults:
    if listener.port and listener.port.target_port:
        yield Fault(f"{path}.port.targetPort", "a Sidecar listens on the port itself", "remove targetPort")
    bind, number = listener.bind, listener.port.number if listener.port else None
    if bind.startswith("unix:") and isinstance(listener, EgressListener):
        if number or listener.capture_mode in ("DEFAULT", "IPTABLES"):
            yield Fault(
                f"{path}.bind",
                "a Unix socket has no port and nothing is redirected to it",
                "set port.number: 0 and captureMode: NONE",
                "Conflict",
            )
        return
    if number == 0:
        yield from terms.port(f"{path}.port.number", number)
    if bind and not is_address(bind):
        yield Fault(f"{path}.bind", f"{bind!r} is not an address", "write an IP address", "InvalidAddress")
