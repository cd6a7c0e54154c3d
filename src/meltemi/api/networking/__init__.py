"""The kinds of `networking.istio.io`, a module per kind."""

from meltemi.api.networking.destination_rule import DestinationRule, DestinationRuleSpec
from meltemi.api.networking.envoy_filter import EnvoyFilter, EnvoyFilterSpec
from meltemi.api.networking.gateway import Gateway, GatewaySpec
from meltemi.api.networking.proxy_config import ProxyConfig, ProxyConfigSpec
from meltemi.api.networking.service_entry import ServiceEntry, ServiceEntrySpec, WorkloadEntry, WorkloadEntrySpec
from meltemi.api.networking.sidecar import Sidecar, SidecarSpec
from meltemi.api.networking.virtual_service import VirtualService, VirtualServiceSpec

__all__ = [
    "DestinationRule",
    "DestinationRuleSpec",
    "EnvoyFilter",
    "EnvoyFilterSpec",
    "Gateway",
    "GatewaySpec",
    "ProxyConfig",
    "ProxyConfigSpec",
    "ServiceEntry",
    "ServiceEntrySpec",
    "Sidecar",
    "SidecarSpec",
    "VirtualService",
    "VirtualServiceSpec",
    "WorkloadEntry",
    "WorkloadEntrySpec",
]
