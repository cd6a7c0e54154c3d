"""Telemetry: what is observed of the workloads selected. Source: Istio `telemetry/v1alpha1/telemetry.proto`."""

from __future__ import annotations

from typing import Literal

from meltemi.api.mesh.proxy import CustomTag
from meltemi.api.meta import MeshResource, Part, PolicyTargetReference, WorkloadSelector
from meltemi.api.scalars import Duration, Percentage

WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Part, frozen=True, kw_only=True):
    """A provider of the mesh configuration, by name."""

    name: str


class ModeSelector(Part, frozen=True, kw_only=True):
    """Whether the client's side, the server's or both are meant."""

    mode: WorkloadMode = "CLIENT_AND_SERVER"


class Tracing(Part, frozen=True, kw_only=True):
    """Which requests are traced, and what the spans say."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Percentage | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None


class MetricSelector(Part, frozen=True, kw_only=True):
    """Which metrics are meant: one of the standard ones, or one of the provider's own."""

    metric: Metric | None = None
    custom_metric: str | None = None
    mode: WorkloadMode = "CLIENT_AND_SERVER"


class TagOverride(Part, frozen=True, kw_only=True):
    """A label of a metric, set to the value of a CEL expression or removed."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str = ""


class MetricsOverrides(Part, frozen=True, kw_only=True):
    """A change of some metrics."""

    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Part, frozen=True, kw_only=True):
    """Changes of the metrics of some providers, in order."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverrides, ...] = ()
    reporting_interval: Duration | None = None


class AccessLogFilter(Part, frozen=True, kw_only=True):
    """A CEL expression that says which requests are logged."""

    expression: str = ""


class AccessLogging(Part, frozen=True, kw_only=True):
    """Which requests are logged, and by whom."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: AccessLogFilter | None = None


class TelemetrySpec(Part, frozen=True, kw_only=True):
    """Tracing, metrics and access logs of the workloads selected."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()


class Telemetry(MeshResource, frozen=True, kw_only=True):
    """What is observed, where the mesh's own settings do not suffice."""

    spec: TelemetrySpec = TelemetrySpec()
