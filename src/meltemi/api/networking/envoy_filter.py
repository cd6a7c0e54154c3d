"""EnvoyFilter: changes of what Envoy is given. Source: Istio `networking/v1alpha3/envoy_filter.proto`."""

from __future__ import annotations

from typing import Any, Literal

from meltemi.api.meta import MeshResource, Part, PolicyTargetReference
from meltemi.api.networking.service_entry import EntryWorkloadSelector
from meltemi.api.scalars import Int32, PortOrZero

ApplyTo = Literal[
    "INVALID",
    "LISTENER",
    "FILTER_CHAIN",
    "NETWORK_FILTER",
    "HTTP_FILTER",
    "ROUTE_CONFIGURATION",
    "VIRTUAL_HOST",
    "HTTP_ROUTE",
    "CLUSTER",
    "EXTENSION_CONFIG",
    "BOOTSTRAP",
    "LISTENER_FILTER",
]
PatchContext = Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY"]
Operation = Literal["INVALID", "MERGE", "ADD", "REMOVE", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST", "REPLACE"]
FilterClass = Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"]


class ProxyMatch(Part, frozen=True, kw_only=True):
    """Proxies by their version (a regular expression) and by metadata of their node, compared as a whole."""

    proxy_version: str = ""
    metadata: dict[str, str] = {}


class SubFilterMatch(Part, frozen=True, kw_only=True):
    """A filter within the HTTP connection manager, by its name."""

    name: str = ""


class FilterMatch(Part, frozen=True, kw_only=True):
    """A network filter, by its name, and what is within it."""

    name: str = ""
    sub_filter: SubFilterMatch | None = None


class FilterChainMatch(Part, frozen=True, kw_only=True):
    """A filter chain, by its name and by what Envoy compares to choose it."""

    name: str = ""
    sni: str = ""
    transport_protocol: str = ""
    application_protocols: str = ""
    filter: FilterMatch | None = None
    destination_port: PortOrZero = 0


class ListenerMatch(Part, frozen=True, kw_only=True):
    """A listener, and what is within it. `port_name` has no meaning in Istio either."""

    port_number: PortOrZero = 0
    port_name: str = ""
    filter_chain: FilterChainMatch | None = None
    listener_filter: str = ""
    name: str = ""


class RouteMatch(Part, frozen=True, kw_only=True):
    """A route, by its name and by what it does."""

    name: str = ""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"


class VirtualHostMatch(Part, frozen=True, kw_only=True):
    """A virtual host by its name (`host:port`) or one of its domains, and a route in it."""

    name: str = ""
    domain_name: str = ""
    route: RouteMatch | None = None


class RouteConfigurationMatch(Part, frozen=True, kw_only=True):
    """A route configuration, and what is within it. `gateway`: `namespace/name`."""

    port_number: PortOrZero = 0
    port_name: str = ""
    gateway: str = ""
    vhost: VirtualHostMatch | None = None
    name: str = ""


class ClusterMatch(Part, frozen=True, kw_only=True):
    """A cluster by its whole name, or by the service's host, its port and the subset."""

    port_number: PortOrZero = 0
    service: str = ""
    subset: str = ""
    name: str = ""


class ConfigObjectMatch(Part, frozen=True, kw_only=True):
    """What is changed: everything, where nothing is said."""

    context: PatchContext = "ANY"
    proxy: ProxyMatch | None = None
    listener: ListenerMatch | None = None
    route_configuration: RouteConfigurationMatch | None = None
    cluster: ClusterMatch | None = None


class Patch(Part, frozen=True, kw_only=True):
    """A change. `value` is Envoy's own message in JSON."""

    operation: Operation = "INVALID"
    value: dict[str, Any] | None = None
    filter_class: FilterClass = "UNSPECIFIED"


class ConfigPatch(Part, frozen=True, kw_only=True):
    """A change of all objects of a sort that match (Istio `EnvoyConfigObjectPatch`)."""

    apply_to: ApplyTo = "INVALID"
    match: ConfigObjectMatch | None = None
    patch: Patch | None = None


class EnvoyFilterSpec(Part, frozen=True, kw_only=True):
    """The workloads meant (none said: all of the namespace, or of the mesh in the root namespace), and the changes.

    Filters of a lower `priority` come first.
    """

    workload_selector: EntryWorkloadSelector | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    config_patches: tuple[ConfigPatch, ...] = ()
    priority: Int32 = 0


class EnvoyFilter(MeshResource, frozen=True, kw_only=True):
    """Changes of the finished configuration of some proxies, in Envoy's own words."""

    spec: EnvoyFilterSpec = EnvoyFilterSpec()
