"""Who may call whom, and how identities are proven.

Source: Istio `security/v1beta1/{peer_authentication,authorization_policy,request_authentication}.proto`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import field

from meltemi.api.meta import MeshResource, Part, PolicyTargetReference, WorkloadSelector
from meltemi.api.scalars import Duration

MutualTlsMode = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTls(Part, frozen=True, kw_only=True):
    """Whether mutual TLS is asked of clients. UNSET: as in the scope above."""

    mode: MutualTlsMode = "UNSET"


class PeerAuthenticationSpec(Part, frozen=True, kw_only=True):
    """Mutual TLS for the workloads selected; `port_level_mtls` is by the workload's port."""

    selector: WorkloadSelector | None = None
    mtls: MutualTls | None = None
    port_level_mtls: dict[int, MutualTls] = {}


class PeerAuthentication(MeshResource, frozen=True, kw_only=True):
    """How workloads accept connections of their peers."""

    spec: PeerAuthenticationSpec = PeerAuthenticationSpec()


class Source(Part, frozen=True, kw_only=True):
    """Where a request comes from; all that is said must hold. Values may be exact, `prefix*`, `*suffix` or `*`."""

    principals: tuple[str, ...] = ()
    not_principals: tuple[str, ...] = ()
    request_principals: tuple[str, ...] = ()
    not_request_principals: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    service_accounts: tuple[str, ...] = ()
    not_service_accounts: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()


class Operation(Part, frozen=True, kw_only=True):
    """What a request asks for; all that is said must hold."""

    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    not_ports: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()


class RuleFrom(Part, frozen=True, kw_only=True):
    """One alternative of a rule's sources (Istio `Rule.From`)."""

    source: Source | None = None


class RuleTo(Part, frozen=True, kw_only=True):
    """One alternative of a rule's operations (Istio `Rule.To`)."""

    operation: Operation | None = None


class RuleCondition(Part, frozen=True, kw_only=True):
    """A condition on an attribute such as `request.headers[x]` (Istio `Condition`); all conditions must hold."""

    key: str
    values: tuple[str, ...] = ()
    not_values: tuple[str, ...] = ()


class Rule(Part, frozen=True, kw_only=True):
    """One of the sources, one of the operations, and all conditions. An empty rule fits every request."""

    from_: tuple[RuleFrom, ...] = field(name="from", default=())
    to: tuple[RuleTo, ...] = ()
    when: tuple[RuleCondition, ...] = ()


class ExtensionProviderRef(Part, frozen=True, kw_only=True):
    """The provider that a CUSTOM policy asks, by its name in the mesh configuration."""

    name: str = ""


class AuthorizationPolicySpec(Part, frozen=True, kw_only=True):
    """An action and the requests it holds for. No rules: it holds for none, so that ALLOW then denies everything."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    rules: tuple[Rule, ...] = ()
    action: Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"] = "ALLOW"
    provider: ExtensionProviderRef | None = None


class AuthorizationPolicy(MeshResource, frozen=True, kw_only=True):
    """Who may do what at the workloads selected."""

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()


class JwtHeader(Part, frozen=True, kw_only=True):
    """A header that holds a token, and what stands before it there."""

    name: str
    prefix: str = ""


class ClaimToHeader(Part, frozen=True, kw_only=True):
    """A header that gets the value of a claim."""

    header: str
    claim: str


class JwtRule(Part, frozen=True, kw_only=True):
    """Tokens of one issuer (Istio `JWTRule`). `jwks` is inline, `jwks_uri` is fetched."""

    issuer: str = ""
    audiences: tuple[str, ...] = ()
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: tuple[JwtHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: bool = False
    timeout: Duration | None = None
    space_delimited_claims: tuple[str, ...] = ()


class RequestAuthenticationSpec(Part, frozen=True, kw_only=True):
    """The tokens that are accepted at the workloads selected."""

    selector: WorkloadSelector | None = None
    target_ref: PolicyTargetReference | None = None
    target_refs: tuple[PolicyTargetReference, ...] = ()
    jwt_rules: tuple[JwtRule, ...] = ()


class RequestAuthentication(MeshResource, frozen=True, kw_only=True):
    """How requests prove who their end user is."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()
