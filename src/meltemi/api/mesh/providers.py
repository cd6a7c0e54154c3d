"""Extension providers: outside services that policies refer to by name. Source: Istio `mesh/v1alpha1/config.proto`.

A `service` is written as `[namespace/]host`.
"""

from __future__ import annotations

from typing import Any

from msgspec import field

from meltemi.api.meta import Part
from meltemi.api.scalars import Duration, Port, UInt32


class ExtAuthzRequestBody(Part, frozen=True, kw_only=True):
    """How much of the request's body is sent to the authorizer."""

    max_request_bytes: UInt32 = 0
    allow_partial_message: bool = False
    pack_as_bytes: bool = False


class ExtAuthzHttp(Part, frozen=True, kw_only=True):
    """An authorizer that is asked over HTTP. `include_headers_in_check` is deprecated."""

    service: str
    port: Port
    timeout: Duration | None = None
    path_prefix: str = ""
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_headers_in_check: tuple[str, ...] = ()
    include_request_headers_in_check: tuple[str, ...] = ()
    include_additional_headers_in_check: dict[str, str] = {}
    include_request_body_in_check: ExtAuthzRequestBody | None = None
    headers_to_upstream_on_allow: tuple[str, ...] = ()
    headers_to_downstream_on_deny: tuple[str, ...] = ()
    headers_to_downstream_on_allow: tuple[str, ...] = ()


class ExtAuthzGrpc(Part, frozen=True, kw_only=True):
    """An authorizer that is asked over gRPC (Envoy `ext_authz`)."""

    service: str
    port: Port
    timeout: Duration | None = None
    fail_open: bool = False
    clear_route_cache: bool = False
    status_on_error: str = ""
    include_request_body_in_check: ExtAuthzRequestBody | None = None


class Zipkin(Part, frozen=True, kw_only=True):
    """Spans in Zipkin's format."""

    service: str
    port: Port
    max_tag_length: UInt32 = 0
    enable_64bit_trace_id: bool = field(name="enable64bitTraceId", default=False)
    path: str = ""
    trace_context_option: str = ""
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


class ProviderHeader(Part, frozen=True, kw_only=True):
    """A header that is sent to a provider; its value is given, or read from a variable of the proxy's environment."""

    name: str
    value: str = ""
    env_name: str = ""


class HttpService(Part, frozen=True, kw_only=True):
    """A service that takes its data over HTTP."""

    path: str = ""
    timeout: Duration | None = None
    headers: tuple[ProviderHeader, ...] = ()


class GrpcService(Part, frozen=True, kw_only=True):
    """A service that takes its data over gRPC."""

    timeout: Duration | None = None
    initial_metadata: tuple[ProviderHeader, ...] = ()


class OpenTelemetry(Part, frozen=True, kw_only=True):
    """Spans in OTLP, over gRPC unless `http` is given."""

    service: str
    port: Port
    max_tag_length: UInt32 = 0
    http: HttpService | None = None
    grpc: GrpcService | None = None
    resource_detectors: dict[str, Any] | None = None
    dynatrace_sampler: dict[str, Any] | None = None
    service_attribute_enrichment: str = ""


class Tracer(Part, frozen=True, kw_only=True):
    """A tracer of another make (Datadog, SkyWalking, Lightstep, OpenCensus)."""

    service: str
    port: Port
    access_token: str = ""
    max_tag_length: UInt32 = 0
    context: tuple[str, ...] = ()


class LogFormat(Part, frozen=True, kw_only=True):
    """The form of an access log's lines: a text, or fields of a JSON object."""

    text: str | None = None
    labels: dict[str, Any] | None = None


class FileAccessLog(Part, frozen=True, kw_only=True):
    """Access logs written to a file (default: standard output)."""

    path: str = ""
    log_format: LogFormat | None = None
    omit_empty_values: bool = False


class GrpcAccessLog(Part, frozen=True, kw_only=True):
    """Access logs sent to Envoy's access log service."""

    service: str
    port: Port
    log_name: str = ""
    filter_state_objects_to_log: tuple[str, ...] = ()
    additional_request_headers_to_log: tuple[str, ...] = ()
    additional_response_headers_to_log: tuple[str, ...] = ()
    additional_response_trailers_to_log: tuple[str, ...] = ()


class OpenTelemetryAccessLog(Part, frozen=True, kw_only=True):
    """Access logs sent in OTLP."""

    service: str
    port: Port
    log_name: str = ""
    log_format: LogFormat | None = None


class Prometheus(Part, frozen=True):
    """Metrics that are scraped."""


class SecretDiscovery(Part, frozen=True, kw_only=True):
    """Certificates from another secret discovery service."""

    name: str = ""
    service: str = ""
    port: Port | None = None


class ExtensionProvider(Part, frozen=True, kw_only=True):
    """A provider under a name: exactly one of the kinds."""

    name: str
    envoy_ext_authz_http: ExtAuthzHttp | None = None
    envoy_ext_authz_grpc: ExtAuthzGrpc | None = None
    zipkin: Zipkin | None = None
    lightstep: Tracer | None = None
    datadog: Tracer | None = None
    stackdriver: dict[str, Any] | None = None
    opencensus: Tracer | None = None
    skywalking: Tracer | None = None
    opentelemetry: OpenTelemetry | None = None
    prometheus: Prometheus | None = None
    envoy_file_access_log: FileAccessLog | None = None
    envoy_http_als: GrpcAccessLog | None = None
    envoy_tcp_als: GrpcAccessLog | None = None
    envoy_otel_als: OpenTelemetryAccessLog | None = None
    sds: SecretDiscovery | None = None


class DefaultProviders(Part, frozen=True, kw_only=True):
    """The providers used where a policy names none."""

    tracing: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    access_logging: tuple[str, ...] = ()
