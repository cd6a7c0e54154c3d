"""ServiceEntry and WorkloadEntry: services and workloads that no platform lists.

Source: Istio `networking/v1alpha3/service_entry.proto` and `workload_entry.proto`.
"""

from __future__ import annotations

from typing import Literal

from meltemi.api.meta import CorePart, MeshResource, MeshStatus, Part
from meltemi.api.scalars import Port, PortOrZero, UInt32

Location = Literal["MESH_EXTERNAL", "MESH_INTERNAL"]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


class ServicePort(Part, frozen=True, kw_only=True):
    """A port of the service. `target_port` 0: the same as `number`."""

    number: Port
    name: str
    protocol: str = ""
    target_port: PortOrZero = 0


class WorkloadEntrySpec(Part, frozen=True, kw_only=True):
    """A workload: an IP address, a DNS name or `unix:///path`; `ports` maps port names to numbers."""

    address: str = ""
    ports: dict[str, Port] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: UInt32 = 0
    service_account: str = ""


class WorkloadEntry(MeshResource, frozen=True, kw_only=True):
    """A workload outside of the platform, such as a virtual machine."""

    spec: WorkloadEntrySpec = WorkloadEntrySpec()


class EntryWorkloadSelector(Part, frozen=True, kw_only=True):
    """The workloads that carry all these labels (Istio's older `networking` `WorkloadSelector`)."""

    labels: dict[str, str] = {}


class ServiceEntrySpec(Part, frozen=True, kw_only=True):
    """Hosts, ports, and how their endpoints are found: listed, selected, by DNS, or not at all."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: tuple[WorkloadEntrySpec, ...] = ()
    workload_selector: EntryWorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()


class ServiceEntryAddress(CorePart, frozen=True, kw_only=True):
    """An address that was given to a host."""

    value: str = ""
    host: str = ""


class ServiceEntryStatus(MeshStatus, frozen=True, kw_only=True):
    """The status of a ServiceEntry, with the addresses given to its hosts."""

    addresses: tuple[ServiceEntryAddress, ...] = ()


class ServiceEntry(MeshResource, frozen=True, kw_only=True):
    """A service that the mesh would otherwise not know."""

    spec: ServiceEntrySpec
    status: ServiceEntryStatus | None = None
