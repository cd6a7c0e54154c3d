"""Who may call whom, and under which transport security."""

from __future__ import annotations

import enum

import msgspec

from meltemi.base.refs import Ref
from meltemi.model.routes import TextMatch


class MutualTls(enum.StrEnum):
    """What a workload accepts: mTLS only, mTLS and plaintext, or plaintext only."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"


class PeerPolicy(msgspec.Struct, frozen=True):
    """The mTLS mode of a workload, with exceptions by port of the workload, and the PeerAuthentications behind them."""

    mode: MutualTls = MutualTls.PERMISSIVE
    ports: tuple[tuple[int, MutualTls], ...] = ()
    refs: tuple[Ref, ...] = ()

    def of(self, port: int) -> MutualTls:
        """The mode of one port."""
        return dict(self.ports).get(port, self.mode)


class Attribute(enum.StrEnum):
    """What of a request or connection a condition looks at."""

    PRINCIPAL = "source.principal"
    NAMESPACE = "source.namespace"
    SERVICE_ACCOUNT = "source.serviceAccount"
    PEER_ADDRESS = "source.ip"
    REMOTE_ADDRESS = "remote.ip"
    REQUEST_PRINCIPAL = "request.auth.principal"
    AUDIENCES = "request.auth.audiences"
    PRESENTER = "request.auth.presenter"
    CLAIM = "request.auth.claims"
    HOST = "request.host"
    METHOD = "request.method"
    PATH = "request.path"
    PATH_TEMPLATE = "request.path.template"
    HEADER = "request.headers"
    DESTINATION_ADDRESS = "destination.ip"
    DESTINATION_PORT = "destination.port"
    SNI = "connection.sni"
    FILTER_METADATA = "experimental.envoy.filters"

    @property
    def is_http(self) -> bool:
        """Whether it can be known only where requests are seen one by one."""
        return self in _REQUEST_ONLY


_REQUEST_ONLY = frozenset(
    {
        Attribute.REQUEST_PRINCIPAL,
        Attribute.AUDIENCES,
        Attribute.PRESENTER,
        Attribute.CLAIM,
        Attribute.HOST,
        Attribute.METHOD,
        Attribute.PATH,
        Attribute.PATH_TEMPLATE,
        Attribute.HEADER,
    }
)


class ValueMatch(msgspec.Struct, frozen=True, order=True):
    """A comparison of an attribute: a text (exact, prefix, suffix, present or regex), a CIDR block, or a port number."""

    value: str
    kind: str = "exact"  # exact | prefix | suffix | present | regex | cidr | port | template
    ignore_case: bool = False


class Condition(msgspec.Struct, frozen=True):
    """One attribute must match one of `values` and none of `not_values`. `key` names the header or claim path."""

    attribute: Attribute
    values: tuple[ValueMatch, ...] = ()
    not_values: tuple[ValueMatch, ...] = ()
    key: tuple[str, ...] = ()


class Rule(msgspec.Struct, frozen=True):
    """It fits if one of `sources` fits (each a conjunction; none: any), one of `operations`, and all of `when`."""

    name: str
    sources: tuple[tuple[Condition, ...], ...] = ()
    operations: tuple[tuple[Condition, ...], ...] = ()
    when: tuple[Condition, ...] = ()


class Verdict(enum.StrEnum):
    """What a policy does with the requests that one of its rules fits."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization policy as it applies to a workload. No rules: it fits nothing (ALLOW of nothing refuses all)."""

    ref: Ref
    verdict: Verdict
    rules: tuple[Rule, ...] = ()
    dry_run: bool = False
    provider: str = ""


class Authorization(msgspec.Struct, frozen=True):
    """All policies of a workload, by seniority: DENY is asked before ALLOW; with any ALLOW, what none allows is refused."""

    policies: tuple[Policy, ...] = ()

    def of(self, verdict: Verdict) -> tuple[Policy, ...]:
        """The policies with that verdict that are in force."""
        return tuple(policy for policy in self.policies if policy.verdict is verdict and not policy.dry_run)


__all__ = [
    "Attribute",
    "Authorization",
    "Condition",
    "MutualTls",
    "PeerPolicy",
    "Policy",
    "Rule",
    "TextMatch",
    "ValueMatch",
    "Verdict",
]
