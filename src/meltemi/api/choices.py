"""Fields of which at most one may be set: protobuf's `oneof`, which plain structs cannot say.

One table for both who need it: validation tells when two are set, and the generated schemas say it to API servers.
"""

from __future__ import annotations

import msgspec

from meltemi.api.mesh import ProxyConfig
from meltemi.api.mesh.config import CertificateData
from meltemi.api.mesh.providers import LogFormat
from meltemi.api.mesh.proxy import CustomTag
from meltemi.api.networking.destination_rule import ConsistentHashLb, LoadBalancerSettings
from meltemi.api.networking.virtual_service import Abort, Delay, HttpBody, HttpRedirect, StringMatch
from meltemi.api.telemetry import MetricSelector

CHOICES: dict[type[msgspec.Struct], tuple[tuple[str, ...], ...]] = {
    StringMatch: (("exact", "prefix", "regex"),),
    HttpRedirect: (("port", "derive_port"),),
    HttpBody: (("string", "bytes"),),
    Delay: (("fixed_delay", "exponential_delay"),),
    Abort: (("http_status", "grpc_status", "http2_error"),),
    LoadBalancerSettings: (("simple", "consistent_hash", "backend_utilization"),),
    ConsistentHashLb: (
        ("http_header_name", "http_cookie", "use_source_ip", "http_query_parameter_name"),
        ("ring_hash", "maglev"),
    ),
    CertificateData: (("pem", "spiffe_bundle_url"),),
    CustomTag: (("literal", "environment", "header", "formatter"),),
    LogFormat: (("text", "labels"),),
    MetricSelector: (("metric", "custom_metric"),),
    ProxyConfig: (("service_cluster", "tracing_service_name"),),
}
"""Groups of fields (attribute names) that exclude each other, by struct."""
