"""Sidecar: what a workload's proxy sees and serves. Source: Istio `networking/v1alpha3/sidecar.proto`."""

from __future__ import annotations

from typing import Literal

from meltemi.api.meta import MeshResource, Part
from meltemi.api.networking.destination_rule import ConnectionPoolSettings
from meltemi.api.networking.gateway import ServerTlsSettings
from meltemi.api.networking.service_entry import EntryWorkloadSelector
from meltemi.api.networking.virtual_service import Destination
from meltemi.api.scalars import PortOrZero

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


class SidecarPort(Part, frozen=True, kw_only=True):
    """A port of a listener; 0 for a Unix socket. `target_port` is deprecated."""

    number: PortOrZero = 0
    protocol: str = ""
    name: str = ""
    target_port: PortOrZero = 0


class IngressListener(Part, frozen=True, kw_only=True):
    """A port on which the workload is reached (Istio `IstioIngressListener`).

    `default_endpoint`: `127.0.0.1:PORT`, `0.0.0.0:PORT` (the workload's own address) or `unix:///path`.
    """

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTlsSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class EgressListener(Part, frozen=True, kw_only=True):
    """Hosts that the workload may reach, as `namespace/host` (Istio `IstioEgressListener`).

    The namespace may be `*` (all), `.` (the Sidecar's own) or `~` (none).
    """

    hosts: tuple[str, ...]
    port: SidecarPort | None = None
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"


class SidecarOutboundTrafficPolicy(Part, frozen=True, kw_only=True):
    """What happens to traffic for hosts that nobody has declared."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS"] = "REGISTRY_ONLY"
    egress_proxy: Destination | None = None


class SidecarSpec(Part, frozen=True, kw_only=True):
    """The workloads meant (none said: all of the namespace), and their listeners."""

    workload_selector: EntryWorkloadSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: SidecarOutboundTrafficPolicy | None = None


class Sidecar(MeshResource, frozen=True, kw_only=True):
    """The scope of the proxies of some workloads."""

    spec: SidecarSpec = SidecarSpec()
