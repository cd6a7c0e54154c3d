"""Service and EndpointSlice. Source: Kubernetes core/v1 and discovery.k8s.io/v1."""

from __future__ import annotations

from msgspec import field

from meltemi.api.meta import Condition, CorePart, Resource
from meltemi.api.scalars import IntOrString, Port, PortOrZero


class ServicePort(CorePart, frozen=True, kw_only=True):
    """A port of a Service. `target_port`: a number, or the name of a container's port (none: the same number)."""

    port: Port
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: IntOrString | None = None
    node_port: PortOrZero = 0


class ServiceSpec(CorePart, frozen=True, kw_only=True):
    """What a Service selects and how it is reached. `cluster_ip` is `None` as a text for headless services."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    type: str = "ClusterIP"
    cluster_ip: str = field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = field(name="clusterIPs", default=())
    external_ips: tuple[str, ...] = field(name="externalIPs", default=())
    external_name: str = ""
    load_balancer_ip: str = field(name="loadBalancerIP", default="")
    load_balancer_class: str = ""
    session_affinity: str = "None"
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str = ""
    external_traffic_policy: str = ""
    traffic_distribution: str = ""
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str = ""

    @property
    def headless(self) -> bool:
        """Whether names resolve to the pods themselves."""
        return self.cluster_ip == "None"


class LoadBalancerIngress(CorePart, frozen=True, kw_only=True):
    """An address at which a LoadBalancer is reached."""

    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(CorePart, frozen=True, kw_only=True):
    """The addresses of a LoadBalancer."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(CorePart, frozen=True, kw_only=True):
    """What a Service got."""

    load_balancer: LoadBalancerStatus | None = None
    conditions: tuple[Condition, ...] = ()


class Service(Resource, frozen=True, kw_only=True):
    """A name and ports for the pods that it selects."""

    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus | None = None


class ObjectReference(CorePart, frozen=True, kw_only=True):
    """An object of any kind (Kubernetes `ObjectReference`)."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    resource_version: str = ""
    field_path: str = ""


class EndpointConditions(CorePart, frozen=True, kw_only=True):
    """Whether an endpoint takes traffic. Absent means ready and serving, and not terminating."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(CorePart, frozen=True, kw_only=True):
    """One endpoint, with the addresses that stand for it."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    zone: str = ""
    target_ref: ObjectReference | None = None


class EndpointPort(CorePart, frozen=True, kw_only=True):
    """A port that all endpoints of the slice have."""

    name: str = ""
    port: Port | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Resource, frozen=True, kw_only=True):
    """Some of the endpoints of a service."""

    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_name(self) -> str:
        """The service that the endpoints belong to (empty if none is named)."""
        return self.labels.get("kubernetes.io/service-name", "")
