"""Whether settings of the whole mesh, and Telemetry, can mean anything."""

from __future__ import annotations

import re

from meltemi.api import paths
from meltemi.api.faults import Fault, Faults, warning
from meltemi.api.mesh import MeshConfig, MeshConfigSpec
from meltemi.api.mesh.providers import ExtensionProvider
from meltemi.api.mesh.proxy import CustomTag
from meltemi.api.shaping import fields_of
from meltemi.api.telemetry import Telemetry
from meltemi.api.validation import terms
from meltemi.api.validation.destination_rule import traffic_policy
from meltemi.api.validation.http_route import retries
from meltemi.api.validation.security import attachment

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")


def mesh_config(resource: MeshConfig) -> Faults:
    """What is wrong with the settings of the mesh."""
    spec = resource.spec
    yield from terms.positive("spec.connectTimeout", spec.connect_timeout)
    yield from terms.positive("spec.protocolDetectionTimeout", spec.protocol_detection_timeout, zero=True)
    yield from terms.positive("spec.dnsRefreshRate", spec.dns_refresh_rate)
    yield from _trust_domains(spec)
    yield from _export_defaults(spec)
    if spec.root_namespace:
        yield from terms.dns_label("spec.rootNamespace", spec.root_namespace, "a namespace")
    yield from _listening(spec)
    if spec.default_http_retry_policy and spec.default_http_retry_policy.attempts:
        yield from retries("spec.defaultHttpRetryPolicy", spec.default_http_retry_policy)
    if spec.default_traffic_policy:
        yield from traffic_policy("spec.defaultTrafficPolicy", spec.default_traffic_policy)
    yield from _providers(spec)
    if spec.default_config:
        config = spec.default_config
        yield from terms.positive("spec.defaultConfig.drainDuration", config.drain_duration)
        yield from terms.positive("spec.defaultConfig.terminationDrainDuration", config.termination_drain_duration)
        if config.concurrency is not None and config.concurrency < 0:
            yield Fault("spec.defaultConfig.concurrency", "it is negative", "write 0 for all cores, or a number")
        if config.service_cluster is not None and config.tracing_service_name is not None:
            yield Fault(
                "spec.defaultConfig.tracingServiceName",
                "serviceCluster and tracingServiceName exclude each other",
                "keep one of the two",
                "Conflict",
            )


def _trust_domains(spec: MeshConfigSpec) -> Faults:
    named = {"spec.trustDomain": spec.trust_domain}
    named |= {paths.item("spec.trustDomainAliases", i): alias for i, alias in enumerate(spec.trust_domain_aliases)}
    for path, domain in named.items():
        if domain and not _TRUST_DOMAIN.fullmatch(domain):
            yield Fault(path, f"{domain!r} is not a trust domain", "use lower-case letters, digits, '.', '-' and '_'")


def _export_defaults(spec: MeshConfigSpec) -> Faults:
    for name, values in (
        ("defaultServiceExportTo", spec.default_service_export_to),
        ("defaultVirtualServiceExportTo", spec.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", spec.default_destination_rule_export_to),
    ):
        yield from terms.export_to(f"spec.{name}", values, "", nobody=True)


def _listening(spec: MeshConfigSpec) -> Faults:
    inbound, outbound = spec.proxy_inbound_listen_port or 15006, spec.proxy_listen_port or 15001
    if inbound == outbound:
        yield Fault("spec.proxyInboundListenPort", "both directions use one port", "write another port", "Conflict")


def _providers(spec: MeshConfigSpec) -> Faults:
    names = [provider.name for provider in spec.extension_providers]
    yield from terms.duplicates("spec.extensionProviders", names, "provider")
    for index, provider in enumerate(spec.extension_providers):
        path = paths.item("spec.extensionProviders", index)
        if not provider.name:
            yield Fault(f"{path}.name", "the provider has no name", "add a name", "RequiredField")
        kinds = _kinds_of(provider)
        if not kinds:
            yield Fault(path, "it does not say what it is", "add one kind, such as envoyExtAuthzHttp", "RequiredField")
        for kind in kinds[1:]:
            yield Fault(f"{path}.{kind}", f"{kinds[0]} and {kind} exclude each other", "keep one", "Conflict")
    if spec.default_providers:
        for name, chosen in (
            ("tracing", spec.default_providers.tracing),
            ("metrics", spec.default_providers.metrics),
            ("accessLogging", spec.default_providers.access_logging),
        ):
            for index, provider_name in enumerate(chosen):
                if provider_name not in names and provider_name not in ("prometheus", "envoy"):
                    yield warning(
                        paths.item(f"spec.defaultProviders.{name}", index),
                        f"there is no provider {provider_name!r}",
                        "add it to extensionProviders",
                        "ProviderNotFound",
                    )


def _kinds_of(provider: ExtensionProvider) -> list[str]:
    return [
        wire
        for wire, field in fields_of(ExtensionProvider).items()
        if field.name != "name" and getattr(provider, field.name) is not None
    ]


def telemetry(resource: Telemetry) -> Faults:
    """What is wrong with a Telemetry."""
    spec = resource.spec
    yield from attachment(spec.selector, spec.target_ref, spec.target_refs)
    if len(spec.tracing) > 1:
        yield warning("spec.tracing[1]", "only the first entry of tracing counts", "write one")
    for index, tracing in enumerate(spec.tracing):
        path = paths.item("spec.tracing", index)
        if len(tracing.providers) > 1:
            yield warning(f"{path}.providers", "spans go to one provider: the first", "keep one")
        for name, custom in tracing.custom_tags.items():
            yield from _custom_tag(paths.key(f"{path}.customTags", name), name, custom)
    for index, metrics in enumerate(spec.metrics):
        path = paths.item("spec.metrics", index)
        for at, override in enumerate(metrics.overrides):
            for tag, change in override.tag_overrides.items():
                where = paths.key(f"{path}.overrides[{at}].tagOverrides", tag)
                if change.operation == "UPSERT" and not change.value:
                    yield Fault(f"{where}.value", "UPSERT needs a value", "add a CEL expression", "RequiredField")
                if change.operation == "REMOVE" and change.value:
                    yield Fault(f"{where}.value", "REMOVE uses no value", "remove it")


def _custom_tag(path: str, name: str, tag: CustomTag) -> Faults:
    """A tag of spans: it has a name, and its source has one or a value."""
    if not name:
        yield Fault(path, "the tag has no name", "write a name", "RequiredField")
    if tag.literal and not tag.literal.value:
        yield Fault(f"{path}.literal.value", "the value is empty", "write a value", "RequiredField")
    for source, value in (("header", tag.header), ("environment", tag.environment)):
        if value and not value.name:
            yield Fault(f"{path}.{source}.name", "the name is empty", "write a name", "RequiredField")
