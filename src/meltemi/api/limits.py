"""How long, how many and how large the values of fields may be, and the rules between them: what plain types cannot say.

One table for both who need it, as with `choices`: validation tells what breaks a limit, and the generated schemas state
it for API servers, in OpenAPI's words. Fields are named by their attributes; what a struct that several kinds share says
of its fields holds wherever it stands. Source: the schemas of Istio's CRDs (1.31), with one difference: a timeout of 0s,
which those refuse and users write, switches the timeout off.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from meltemi.api.meta import PolicyTargetReference, WorkloadSelector
from meltemi.api.networking.destination_rule import (
    ConnectionKeepalive,
    HttpSettings,
    LoadBalancerSettings,
    OutlierDetection,
    RetryBudget,
    TcpKeepalive,
    TcpSettings,
    WarmupConfiguration,
    ZoneAwareLoadBalancerSetting,
)
from meltemi.api.networking.gateway import ServerTlsSettings
from meltemi.api.networking.proxy_config import ProxyConfigSpec
from meltemi.api.networking.service_entry import (
    EntryWorkloadSelector,
    ServiceEntrySpec,
    ServicePort,
    WorkloadEntrySpec,
)
from meltemi.api.networking.virtual_service import CorsPolicy, Delay, HttpRetry, HttpRoute
from meltemi.api.security import (
    AuthorizationPolicySpec,
    ClaimToHeader,
    JwtHeader,
    JwtRule,
    PeerAuthenticationSpec,
    RequestAuthenticationSpec,
    Rule,
    Source,
)
from meltemi.api.telemetry import Metrics, MetricSelector, ProviderRef, TagOverride, TelemetrySpec


class CelRule(msgspec.Struct, frozen=True):
    """A rule that API servers check (Kubernetes' `x-kubernetes-validations`): an expression of CEL, and what it asks for.

    Here the checks of `api.validation` say the same, with a better hint.
    """

    rule: str
    message: str


class Limit(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What a value must keep to, besides its type. A field that is left at its default is not looked at.

    Lengths are in characters. `each` is for the items of a list and the values of a map. `shortest` is for durations:
    a millisecond, or a millisecond or none. `wanted` says how to write what `pattern` asks for.
    """

    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    wanted: str = ""
    min_items: int | None = None
    max_items: int | None = None
    min_properties: int | None = None
    max_properties: int | None = None
    minimum: int | None = None
    shortest: Literal["1ms", "0s or 1ms"] | None = None
    each: Limit | None = None
    rules: tuple[CelRule, ...] = ()


_GIVEN = Limit(min_length=1)
_EACH_GIVEN = Limit(each=_GIVEN)
_SHORTEST = Limit(shortest="1ms", rules=(CelRule("duration(self) >= duration('1ms')", "a millisecond or more"),))
_SHORTEST_OR_NONE = Limit(
    shortest="0s or 1ms",
    rules=(
        CelRule(
            "duration(self) == duration('0s') || duration(self) >= duration('1ms')", "0s, or a millisecond or more"
        ),
    ),
)
_NO_WILDCARD = (CelRule("!self.contains('*')", "a selector compares whole values: wildcards are not allowed"),)
_NAMED_LABELS = (CelRule("self.all(name, name != '' && !name.contains('*'))", "labels have names without wildcards"),)
_PORT_NUMBER = (CelRule("self > 0 && self < 65536", "a port number is from 1 to 65535"),)
_TARGETS = Limit(max_items=16)
_SUBDOMAIN = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
_KIND = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
_PORT_NAME = r"^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$"

LIMITS: dict[type[msgspec.Struct], dict[str, Limit]] = {
    WorkloadSelector: {
        "match_labels": Limit(max_properties=4096, each=Limit(max_length=63, rules=_NO_WILDCARD), rules=_NAMED_LABELS),
    },
    EntryWorkloadSelector: {
        "labels": Limit(max_properties=256, each=Limit(max_length=63, rules=_NO_WILDCARD)),
    },
    PolicyTargetReference: {
        "group": Limit(max_length=253, pattern=_SUBDOMAIN, wanted="write a group such as gateway.networking.k8s.io"),
        "kind": Limit(min_length=1, max_length=63, pattern=_KIND, wanted="write a kind such as Service"),
        "name": Limit(min_length=1, max_length=253),
        "namespace": Limit(rules=(CelRule("self == ''", "a policy is attached in its own namespace only"),)),
    },
    HttpRoute: {"timeout": _SHORTEST_OR_NONE},
    HttpRetry: {"per_try_timeout": _SHORTEST_OR_NONE, "backoff": _SHORTEST},
    Delay: {"fixed_delay": _SHORTEST},
    LoadBalancerSettings: {"warmup_duration_secs": _SHORTEST},
    ZoneAwareLoadBalancerSetting: {"min_cluster_size": Limit(minimum=1)},
    WarmupConfiguration: {"duration": _SHORTEST},
    ConnectionKeepalive: {"interval": _SHORTEST, "timeout": _SHORTEST},
    TcpSettings: {
        "connect_timeout": _SHORTEST,
        "max_connection_duration": _SHORTEST,
        "idle_timeout": _SHORTEST_OR_NONE,
    },
    TcpKeepalive: {"time": _SHORTEST, "interval": _SHORTEST},
    HttpSettings: {"idle_timeout": _SHORTEST_OR_NONE},
    OutlierDetection: {"interval": _SHORTEST, "base_ejection_time": _SHORTEST},
    RetryBudget: {"budget_interval": _SHORTEST_OR_NONE},
    CorsPolicy: {"max_age": _SHORTEST_OR_NONE},
    ServerTlsSettings: {
        "credential_names": Limit(min_items=1, max_items=2),
        "tls_certificates": Limit(min_items=1, max_items=2),
    },
    ServiceEntrySpec: {
        "hosts": Limit(
            min_items=1, max_items=256, each=Limit(rules=(CelRule("self != '*'", "'*' would stand for every host"),))
        ),
        "addresses": Limit(max_items=256, each=Limit(max_length=64)),
        "ports": Limit(
            max_items=256,
            rules=(
                CelRule(
                    "self.all(port, self.exists_one(other, other.number == port.number))", "each port is listed once"
                ),
            ),
        ),
        "endpoints": Limit(max_items=4096),
    },
    ServicePort: {
        "number": Limit(rules=_PORT_NUMBER),
        "name": Limit(max_length=256),
        "protocol": Limit(max_length=256),
    },
    WorkloadEntrySpec: {
        "address": Limit(
            max_length=256,
            rules=(
                CelRule(
                    "!self.startsWith('unix://') || self.substring(7).startsWith('/') || "
                    "self.substring(7).startsWith('@')",
                    "the path of a Unix socket is absolute, or begins with @",
                ),
                CelRule("!self.startsWith('unix://') || !self.endsWith('/')", "a directory is not a Unix socket"),
            ),
        ),
        "ports": Limit(
            max_properties=128,
            rules=(
                CelRule(
                    f"self.all(name, size(name) < 63 && name.matches('{_PORT_NAME}'))",
                    "the names of ports are of letters, digits and '-'",
                ),
            ),
            each=Limit(rules=_PORT_NUMBER),
        ),
        "labels": Limit(max_properties=256),
        "network": Limit(max_length=2048),
        "locality": Limit(max_length=2048),
        "service_account": Limit(max_length=253),
    },
    ProxyConfigSpec: {
        "concurrency": Limit(minimum=0),
        "environment_variables": Limit(each=Limit(max_length=2048)),
    },
    PeerAuthenticationSpec: {
        "port_level_mtls": Limit(
            min_properties=1,
            rules=(CelRule("self.all(port, int(port) > 0 && int(port) < 65536)", _PORT_NUMBER[0].message),),
        ),
    },
    AuthorizationPolicySpec: {"target_refs": _TARGETS, "rules": Limit(max_items=512)},
    Rule: {"from_": Limit(max_items=512)},
    Source: {
        "service_accounts": Limit(max_items=16, each=Limit(max_length=320)),
        "not_service_accounts": Limit(max_items=16, each=Limit(max_length=320)),
    },
    RequestAuthenticationSpec: {"target_refs": _TARGETS, "jwt_rules": Limit(max_items=4096)},
    JwtRule: {
        "issuer": _GIVEN,
        "audiences": _EACH_GIVEN,
        "jwks_uri": Limit(
            min_length=1,
            max_length=2048,
            rules=(CelRule("url(self).getScheme() in ['http', 'https']", "a URL of http or https"),),
        ),
        "from_params": _EACH_GIVEN,
        "from_cookies": _EACH_GIVEN,
        "space_delimited_claims": Limit(max_items=64, each=_GIVEN),
        "timeout": _SHORTEST,
    },
    JwtHeader: {"name": _GIVEN},
    ClaimToHeader: {
        "header": Limit(min_length=1, pattern="^[-_A-Za-z0-9]+$", wanted="use letters, digits, '-' and '_'"),
        "claim": _GIVEN,
    },
    TelemetrySpec: {"target_refs": _TARGETS},
    Metrics: {"reporting_interval": _SHORTEST},
    ProviderRef: {"name": _GIVEN},
    MetricSelector: {"custom_metric": _GIVEN},
}
"""The limits of fields, by struct and attribute."""


def _at_most_one(*names: str) -> CelRule:
    """At most one of some fields is there."""
    present = " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names)
    return CelRule(f"{present} <= 1", f"at most one of {', '.join(names)}")


_ONE_ATTACHMENT = (_at_most_one("selector", "targetRef", "targetRefs"),)

RULES: dict[type[msgspec.Struct], tuple[CelRule, ...]] = {
    ServerTlsSettings: (_at_most_one("credentialName", "credentialNames", "tlsCertificates"),),
    LoadBalancerSettings: (_at_most_one("warmupDurationSecs", "warmup"),),
    ServiceEntrySpec: (
        _at_most_one("workloadSelector", "endpoints"),
        CelRule(
            "!has(self.addresses) || !self.addresses.exists(address, address.contains('/')) || "
            "!has(self.resolution) || self.resolution in ['NONE', 'STATIC']",
            "ranges of addresses are for the resolutions NONE and STATIC",
        ),
        CelRule(
            "!has(self.endpoints) || (has(self.resolution) && self.resolution != 'NONE')",
            "the resolution NONE uses no endpoints",
        ),
        CelRule(
            "!has(self.endpoints) || !has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || "
            "size(self.endpoints) < 2",
            "the resolution DNS_ROUND_ROBIN has at most one endpoint",
        ),
    ),
    WorkloadEntrySpec: (
        CelRule("has(self.address) || has(self.network)", "a workload has an address or a network"),
        CelRule(
            "!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports)",
            "a Unix socket has no ports",
        ),
    ),
    Source: (
        CelRule(
            "!(has(self.serviceAccounts) || has(self.notServiceAccounts)) || !(has(self.principals) || "
            "has(self.notPrincipals) || has(self.namespaces) || has(self.notNamespaces))",
            "service accounts exclude principals and namespaces",
        ),
    ),
    PeerAuthenticationSpec: (
        CelRule(
            "!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && "
            "size(self.selector.matchLabels) > 0)",
            "a setting for a port needs a selector",
        ),
    ),
    AuthorizationPolicySpec: _ONE_ATTACHMENT,
    RequestAuthenticationSpec: _ONE_ATTACHMENT,
    TelemetrySpec: _ONE_ATTACHMENT,
    JwtRule: (_at_most_one("jwks", "jwksUri"),),
    TagOverride: (
        CelRule(
            "!has(self.operation) || self.operation != 'UPSERT' || (has(self.value) && self.value != '')",
            "UPSERT needs a value",
        ),
        CelRule("!has(self.operation) || self.operation != 'REMOVE' || !has(self.value)", "REMOVE uses no value"),
    ),
}
"""The rules between the fields of a struct. Those on one field stand with its limit."""
