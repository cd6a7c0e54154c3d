"""Whether a ServiceEntry or WorkloadEntry can mean anything: above all, whether its endpoints can be found."""

from __future__ import annotations

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.networking.service_entry import ServiceEntry, ServiceEntrySpec, WorkloadEntry, WorkloadEntrySpec
from meltemi.api.validation import terms
from meltemi.base.hosts import is_address, is_wildcard

_TELLING = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "HTTPS", "TLS"})
_TOO_LONG = 63
_BY_NAME = ("DNS", "DNS_ROUND_ROBIN")


def service_entry(resource: ServiceEntry) -> Faults:
    """What is wrong with a ServiceEntry."""
    spec = resource.spec
    if not spec.hosts:
        yield Fault("spec.hosts", "there is no host", "add a host", "RequiredField")
    for index, host in enumerate(spec.hosts):
        path = paths.item("spec.hosts", index)
        if host == "*":
            yield Fault(path, "'*' would stand for every host", "name the hosts", "InvalidHost")
        else:
            yield from terms.host(path, host)
    yield from terms.duplicates("spec.hosts", spec.hosts, "host")
    yield from _addresses(spec)
    yield from _ports(spec)
    if spec.workload_selector:
        yield from terms.selector("spec.workloadSelector.labels", spec.workload_selector.labels)
        if spec.resolution in ("NONE", *_BY_NAME):
            yield warning("spec.workloadSelector", f"{spec.resolution} asks no workload", "use resolution STATIC")
        if spec.endpoints:
            yield Fault(
                "spec.endpoints", "workloadSelector and endpoints exclude each other", "keep one of the two", "Conflict"
            )
    for index, endpoint in enumerate(spec.endpoints):
        yield from _endpoint(paths.item("spec.endpoints", index), endpoint, spec)
    yield from _resolution(spec)
    yield from _several_hosts(spec)
    yield from terms.export_to("spec.exportTo", spec.export_to, resource.namespace, nobody=True)


def workload_entry(resource: WorkloadEntry) -> Faults:
    """What is wrong with a WorkloadEntry."""
    yield from _workload("spec", resource.spec)


def _addresses(spec: ServiceEntrySpec) -> Faults:
    yield from terms.subnets("spec.addresses", spec.addresses)
    for index, address in enumerate(spec.addresses):
        if "/" in address and spec.resolution not in ("NONE", "STATIC"):
            yield Fault(
                paths.item("spec.addresses", index),
                f"a range of addresses cannot be resolved by {spec.resolution}",
                "use resolution NONE or STATIC, or single addresses",
                "Conflict",
            )


def _ports(spec: ServiceEntrySpec) -> Faults:
    if not spec.ports:
        yield warning("spec.ports", "there is no port, so that nothing reaches the hosts", "add a port")
    numbers: set[int] = set()
    for index, port in enumerate(spec.ports):
        path = paths.item("spec.ports", index)
        if port.number in numbers:
            yield Fault(f"{path}.number", f"the port {port.number} is listed twice", "keep one", "Duplicate")
        numbers.add(port.number)
        if port.target_port and spec.resolution == "NONE":
            yield warning(f"{path}.targetPort", "NONE keeps the port that the client calls", "remove targetPort")
        yield from terms.dns_label(f"{path}.name", port.name.lower(), "the name of a port")
        if port.protocol:
            yield from terms.protocol(f"{path}.protocol", port.protocol)
    yield from terms.duplicates("spec.ports", [port.name for port in spec.ports], "port name")


def _several_hosts(spec: ServiceEntrySpec) -> Faults:
    """Only requests and server names tell which of several hosts is meant."""
    if len(spec.hosts) < 2 or spec.resolution == "NONE":
        return
    for index, port in enumerate(spec.ports):
        if port.protocol.upper() not in _TELLING:
            yield Fault(
                f"spec.ports[{index}].protocol",
                f"connections of {port.protocol or 'no protocol'} do not tell which of several hosts is meant",
                "write a ServiceEntry for each host, or use a protocol of HTTP or TLS",
                "Conflict",
            )


def _resolution(spec: ServiceEntrySpec) -> Faults:
    """Istio's rules on how endpoints are found, one for each resolution."""
    path = "spec.resolution"
    if spec.resolution == "NONE" and spec.endpoints:
        yield Fault(path, "NONE takes the address that the client calls: endpoints are not used", "use STATIC or DNS")
    elif spec.resolution == "STATIC" and not spec.endpoints and not spec.workload_selector:
        yield warning("spec.endpoints", "STATIC needs endpoints", "add endpoints or workloadSelector")
    elif spec.resolution in _BY_NAME:
        if not spec.endpoints and not spec.workload_selector:
            for index, host in enumerate(spec.hosts):
                if is_wildcard(host):
                    yield Fault(
                        paths.item("spec.hosts", index),
                        f"the wildcard {host!r} cannot be looked up in DNS",
                        "add endpoints, or use resolution NONE or DYNAMIC_DNS",
                        "Conflict",
                    )
        if spec.resolution == "DNS_ROUND_ROBIN" and len(spec.endpoints) > 1:
            yield Fault("spec.endpoints", "DNS_ROUND_ROBIN has at most one endpoint", "use DNS", "Conflict")
    elif spec.resolution == "DYNAMIC_DNS":
        if spec.endpoints or spec.workload_selector:
            yield Fault(path, "DYNAMIC_DNS looks up what the client asks for: endpoints are not used", "use DNS")
        for index, host in enumerate(spec.hosts):
            if not is_wildcard(host):
                yield Fault(
                    paths.item("spec.hosts", index), "DYNAMIC_DNS is for wildcards", "use resolution DNS", "Conflict"
                )


def _endpoint(path: str, endpoint: WorkloadEntrySpec, spec: ServiceEntrySpec) -> Faults:
    yield from _workload(path, endpoint)
    names = {port.name for port in spec.ports}
    for name in endpoint.ports:
        if name not in names:
            yield Fault(
                paths.key(f"{path}.ports", name),
                f"the service has no port {name!r}",
                f"write one of {', '.join(sorted(names))}",
                "PortNotFound",
            )
    if endpoint.address.startswith("unix:"):
        if spec.resolution != "STATIC" or len(spec.ports) != 1:
            yield Fault(
                f"{path}.address", "a Unix socket is for one port and resolution STATIC", "use an address", "Conflict"
            )
    elif spec.resolution == "STATIC" and endpoint.address and not is_address(endpoint.address):
        yield Fault(
            f"{path}.address",
            f"{endpoint.address!r} is not an IP address, as STATIC needs",
            "use resolution DNS, or write an IP address",
            "InvalidAddress",
        )


def _workload(path: str, workload: WorkloadEntrySpec) -> Faults:
    address = workload.address
    if not address and not workload.network:
        yield Fault(f"{path}.address", "the workload has no address", "add an address", "RequiredField")
    elif not address:
        yield warning(f"{path}.address", f"it is reached by the gateways of {workload.network} only", "add an address")
    elif address.startswith("unix:"):
        if not address.removeprefix("unix://").startswith(("/", "@")):
            yield Fault(f"{path}.address", "the socket's path is not absolute", "write unix:///path", "InvalidAddress")
        elif address.endswith("/"):
            yield Fault(f"{path}.address", "the socket's path is a directory", "name the socket", "InvalidAddress")
        if workload.ports:
            yield Fault(f"{path}.ports", "a Unix socket has no ports", "remove ports", "Conflict")
    elif address:
        yield from terms.host(f"{path}.address", address, wildcard=False, address=True)
    for name in workload.ports:
        where = paths.key(f"{path}.ports", name)
        yield from terms.dns_label(where, name.lower(), "the name of a port")
        if len(name) == _TOO_LONG:
            yield Fault(where, f"the name has {_TOO_LONG} characters", f"write at most {_TOO_LONG - 1}", "OutOfRange")
    yield from terms.labels(f"{path}.labels", workload.labels)
    if workload.locality.count("/") > 2:
        yield warning(f"{path}.locality", "a locality has at most three parts", "write region/zone/subzone")
