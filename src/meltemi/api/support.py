"""No field is silently ignored: which fields the mesh acts on, and a warning for each other one that is set.

The table is data: per kind, the paths (without indexes and map keys) that something is made of. A path covers all that
is below it. Whoever makes a field count adds its path here; a test sees to it that every path exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from meltemi.api import core, networking, paths, registry, security
from meltemi.api.decoding import NOWHERE, ref_of
from meltemi.api.faults import Fault, Faults, problems_of, warning
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import MeshResource, Resource
from meltemi.api.shaping import core_of, fields_of, type_of
from meltemi.base.problems import Problem
from meltemi.base.refs import Origin

NOT_ACTED_ON = "FieldNotActedOn"
"""The code of the problems that tell of fields without effect."""

_INDEXES = re.compile(r"\[[^]]*]")

_HTTP_MATCH = (
    "name uri scheme method authority headers withoutHeaders queryParams port sourceLabels sourceNamespace gateways "
    "ignoreUriCase statPrefix"
)
_LIMITS = (
    "connectionPool.tcp "
    "connectionPool.http.http1MaxPendingRequests connectionPool.http.http2MaxRequests "
    "connectionPool.http.maxRequestsPerConnection connectionPool.http.maxRetries connectionPool.http.idleTimeout "
    "connectionPool.http.h2UpgradePolicy connectionPool.http.useClientProtocol connectionPool.http.maxConcurrentStreams "
    "connectionPool.http.http2KeepAlive outlierDetection.outlierDetectionHttpErrorCodes "
    "outlierDetection.consecutiveErrors outlierDetection.consecutive5xxErrors outlierDetection.consecutiveGatewayErrors "
    "outlierDetection.consecutiveLocalOriginFailures outlierDetection.splitExternalLocalOriginErrors "
    "outlierDetection.interval outlierDetection.baseEjectionTime outlierDetection.maxEjectionPercent "
    "outlierDetection.minHealthPercent"
)
_POLICY = (
    "loadBalancer.simple loadBalancer.consistentHash loadBalancer.warmup loadBalancer.warmupDurationSecs "
    "loadBalancer.backendUtilization tls " + _LIMITS
)
_SERVER_TLS = (
    "httpsRedirect mode serverCertificate privateKey caCertificates credentialName credentialNames "
    "caCertCredentialName tlsCertificates subjectAltNames minProtocolVersion maxProtocolVersion cipherSuites "
    "caCrl verifyCertificateSpki verifyCertificateHash"
)


_SIDECAR_TLS = (
    "mode serverCertificate privateKey caCertificates credentialName credentialNames caCertCredentialName "
    "tlsCertificates minProtocolVersion maxProtocolVersion cipherSuites caCrl verifyCertificateSpki verifyCertificateHash"
)
_PROXY = (
    "serviceCluster tracingServiceName drainDuration concurrency proxyMetadata runtimeValues meshId proxyStatsMatcher "
    "fileFlushInterval fileFlushMinSizeKb"
)
_INBOUND_POOL = (
    "tcp http.http1MaxPendingRequests http.http2MaxRequests http.maxRequestsPerConnection http.maxRetries "
    "http.idleTimeout http.useClientProtocol http.maxConcurrentStreams http.http2KeepAlive"
)


def _under(prefix: str, names: str) -> frozenset[str]:
    return frozenset(f"{prefix}.{name}" for name in names.split())


def _because(reason: str, prefix: str, names: str) -> dict[str, str]:
    return {f"{prefix}.{name}": reason for name in names.split()}


ACTED_ON: dict[type[Resource], frozenset[str]] = {
    networking.VirtualService: (
        _under("spec", "hosts gateways exportTo tls.route tcp.route")
        | _under(
            "spec.http", "name route directResponse rewrite timeout retries mirror mirrors mirrorPercentage headers"
        )
        | _under("spec.http", "mirrorPercent delegate")
        | _under("spec.http.match", _HTTP_MATCH)
        | _under("spec.http.redirect", "uri authority port derivePort scheme redirectCode prefixRewrite")
        | _under("spec.http.fault.delay", "fixedDelay percent percentage")
        | _under("spec.http.fault.abort", "httpStatus grpcStatus percentage")
        | _under("spec.http.corsPolicy", "allowOrigin allowOrigins allowMethods allowHeaders exposeHeaders maxAge")
        | _under("spec.http.corsPolicy", "allowCredentials unmatchedPreflights")
        | _under("spec.tls.match", "sniHosts destinationSubnets port sourceLabels gateways sourceNamespace")
        | _under("spec.tcp.match", "destinationSubnets port sourceLabels gateways sourceNamespace")
    ),
    networking.DestinationRule: (
        _under("spec", "host exportTo workloadSelector subsets.name subsets.labels")
        | _under("spec.trafficPolicy", f"proxyProtocol retryBudget tunnel {_POLICY}")
        | _under("spec.trafficPolicy.portLevelSettings", f"port {_POLICY}")
        | _under("spec.subsets.trafficPolicy", f"proxyProtocol retryBudget tunnel {_POLICY}")
        | _under("spec.subsets.trafficPolicy.portLevelSettings", f"port {_POLICY}")
    ),
    networking.Gateway: (
        _under("spec", "selector")
        | _under("spec.servers", "port.number port.protocol port.name bind hosts name")
        | _under("spec.servers.tls", _SERVER_TLS)
    ),
    networking.ServiceEntry: (
        _under("spec", "hosts addresses ports location resolution endpoints workloadSelector exportTo subjectAltNames")
    ),
    networking.WorkloadEntry: _under("spec", "address ports labels network locality weight serviceAccount"),
    networking.Sidecar: (
        _under("spec", "workloadSelector outboundTrafficPolicy")
        | _under("spec.egress", "port.number port.protocol port.name bind captureMode hosts")
        | _under("spec.ingress", "port.number port.protocol port.name bind captureMode defaultEndpoint")
        | _under("spec.ingress.tls", _SIDECAR_TLS)
        | _under("spec.ingress.connectionPool", _INBOUND_POOL)
        | _under("spec.inboundConnectionPool", _INBOUND_POOL)
    ),
    networking.EnvoyFilter: (
        _under("spec", "workloadSelector priority")
        | _under(
            "spec.configPatches",
            "applyTo match.context match.cluster match.listener.portNumber match.listener.filterChain match.listener.name "
            "match.listener.listenerFilter match.routeConfiguration.portNumber match.routeConfiguration.portName "
            "match.routeConfiguration.gateway match.routeConfiguration.name match.routeConfiguration.vhost "
            "patch.operation patch.value",
        )
    ),
    networking.ProxyConfig: _under("spec", "selector concurrency environmentVariables"),
    security.PeerAuthentication: _under("spec", "selector mtls portLevelMtls"),
    security.AuthorizationPolicy: _under("spec", "selector rules action"),
    MeshConfig: (
        _under("spec", "trustDomain trustDomainAliases rootNamespace enableAutoMtls outboundTrafficPolicy.mode")
        | _under("spec", "defaultServiceExportTo defaultVirtualServiceExportTo defaultDestinationRuleExportTo")
        | _under("spec", "connectTimeout protocolDetectionTimeout tcpKeepalive h2UpgradePolicy dnsRefreshRate")
        | _under("spec", "accessLogFile accessLogFormat accessLogEncoding defaultHttpRetryPolicy pathNormalization")
        | _under("spec", "proxyListenPort proxyInboundListenPort proxyHttpPort meshMTLS inboundTrafficPolicy")
        | _under("spec", "tlsDefaults.cipherSuites tlsDefaults.ecdhCurves verifyCertificateAtClient")
        | _under("spec.defaultConfig", _PROXY)
        | _under("spec.defaultTrafficPolicy", _LIMITS)
        | _under("spec", "enablePrometheusMerge")
        | _under("spec", "disableEnvoyListenerLog inboundClusterStatName outboundClusterStatName")
    ),
}
"""The fields of the mesh's kinds that count. A mesh kind that is not here counts not at all."""

NEVER_ACTED_ON: dict[type[Resource], dict[str, str]] = {
    networking.ProxyConfig: {
        **_because("one machine runs an Envoy and no images", "spec", "image"),
        **_because("it is for waypoints of the ambient mode, and there are sidecars only", "spec", "targetRef"),
    },
    networking.VirtualService: {
        **_because("neither Istio nor Envoy has it: use fixedDelay", "spec.http", "fault.delay.exponentialDelay"),
        **_because("Envoy cannot make HTTP/2 errors: use httpStatus", "spec.http", "fault.abort.http2Error"),
        **_because(
            "Istio has never acted on it: say in an AuthorizationPolicy who may call", "spec.tcp", "match.sourceSubnet"
        ),
    },
    networking.Gateway: {
        **_because("Istio has dropped it: VirtualServices say where requests go", "spec.servers", "port.targetPort"),
        **_because(
            "Istio does not act on it: VirtualServices say where requests go", "spec.servers", "defaultEndpoint"
        ),
    },
    networking.Sidecar: {
        **_because("Istio has dropped it: defaultEndpoint says where requests go", "spec", "ingress.port.targetPort"),
        **_because("Istio has dropped it: routes say which port requests go to", "spec", "egress.port.targetPort"),
        **_because(
            "the application is spoken to in the protocol that its port declares",
            "spec",
            "ingress.connectionPool.http.h2UpgradePolicy inboundConnectionPool.http.h2UpgradePolicy",
        ),
        **_because("only gateways redirect", "spec.ingress.tls", "httpsRedirect"),
        **_because("who may call is said in AuthorizationPolicies", "spec.ingress.tls", "subjectAltNames"),
    },
    MeshConfig: {
        **_because(
            "Kubernetes' Ingress is not served: write a Gateway and a VirtualService",
            "spec",
            "ingressClass ingressService ingressControllerMode ingressSelector",
        ),
        **_because("HBONE belongs to the ambient mode, and there are sidecars only", "spec", "hboneIdleTimeout"),
        **_because(
            "it is about services that several clusters share, and a mesh has one cluster",
            "spec",
            "serviceSettings serviceScopeConfigs",
        ),
        **_because(
            "the mesh itself says where its parts are and which Envoy runs",
            "spec.defaultConfig",
            "configPath binaryPath discoveryAddress customConfigFile proxyBootstrapTemplatePath statusPort proxyAdminPort image",
        ),
        **_because("Istio has dropped it: tracing says where spans go", "spec.defaultConfig", "zipkinAddress"),
        **_because(
            "capture redirects connections; what is not to be captured, a Sidecar says with captureMode",
            "spec.defaultConfig",
            "interceptionMode",
        ),
        **_because("one machine has every application wait", "spec.defaultConfig", "holdApplicationUntilProxyStarts"),
        **_because(
            "a proxy ends after its application, when nothing is left to drain",
            "spec.defaultConfig",
            "terminationDrainDuration",
        ),
        **_because(
            "it is for virtual machines: a pod's containers have probes", "spec.defaultConfig", "readinessProbe"
        ),
        **_because("Envoys are not restarted while they run", "spec.defaultConfig", "parentShutdownDuration"),
        **_because("it needs an Envoy with more in it than the stock one", "spec.defaultConfig", "privateKeyProvider"),
        **_because(
            "Istio has dropped it",
            "spec.defaultConfig",
            "discoveryRefreshDelay availabilityZone controlPlaneAuthPolicy statNameLength sds envoyMetricsServiceAddress",
        ),
        **_because(
            "as in Istio, only limits and outlier detection hold for the whole mesh",
            "spec.defaultTrafficPolicy",
            "loadBalancer tls portLevelSettings tunnel proxyProtocol retryBudget",
        ),
        **_because("the control plane reads the one API server that it belongs to", "spec", "configSources"),
        **_because("Istio has dropped it: certificates of applications go into Secrets", "spec", "certificates"),
        **_because(
            "as in Istio, each Gateway and DestinationRule says its own", "spec", "tlsDefaults.minProtocolVersion"
        ),
    },
}
"""Fields of the mesh's kinds that will not count, each with the reason, which users read after a colon."""

WITHOUT_MEANING_HERE: dict[type[Resource], frozenset[str]] = {
    core.Pod: _under("spec", "containers.image containers.imagePullPolicy containers.resources containers.tty")
    | _under("spec", "nodeName nodeSelector affinity tolerations schedulerName priorityClassName imagePullSecrets")
    | _under("spec", "topologySpreadConstraints containers.stdin containers.terminationMessagePath"),
    core.Service: _under("spec", "sessionAffinityConfig allocateLoadBalancerNodePorts loadBalancerSourceRanges"),
    core.Namespace: _under("spec", "finalizers"),
}
"""Fields of Kubernetes' kinds that one machine passes over without a word: they place or package what it simply runs."""

WITHOUT_EFFECT_HERE: dict[type[Resource], frozenset[str]] = {
    core.Pod: _under("spec", "hostNetwork activeDeadlineSeconds securityContext enableServiceLinks")
    | _under("spec", "automountServiceAccountToken shareProcessNamespace volumes.emptyDir.sizeLimit")
    | _under("spec", "containers.securityContext containers.lifecycle.stopSignal")
    | _under("spec", "initContainers.securityContext initContainers.lifecycle.stopSignal"),
    core.Service: _under("spec", "externalIPs loadBalancerIP loadBalancerClass sessionAffinity trafficDistribution")
    | _under("spec", "internalTrafficPolicy externalTrafficPolicy ipFamilies ipFamilyPolicy"),
}
"""Fields of Kubernetes' kinds that are decoded, would mean something on one machine, and are not honoured there."""

_AS_IT_IS: dict[str, Any] = {
    "hostNetwork": False,
    "enableServiceLinks": False,
    "automountServiceAccountToken": False,
    "shareProcessNamespace": True,
    "sessionAffinity": "None",
    "internalTrafficPolicy": "Cluster",
    "externalTrafficPolicy": "Cluster",
    "ipFamilies": ["IPv4"],
    "ipFamilyPolicy": "SingleStack",
}
"""The values of such fields that ask for what one machine does anyhow."""


class Node(dict[str, "Node"]):
    """A name on the way to fields that count; without children, all below it counts."""


@cache
def acted_on(kind: type[Resource]) -> Node:
    """The tree of a kind's fields that count."""
    return _tree(ACTED_ON.get(kind, frozenset()))


def unsupported(resource: Resource) -> Iterator[Problem]:
    """A warning for each field that is set and that nothing acts on (mesh kinds only; the topmost such field)."""
    if isinstance(resource, MeshResource):
        yield from problems_of(_unsupported(resource), resource.ref, resource.origin)


def _unsupported(resource: MeshResource) -> Faults:
    spec = getattr(resource, "spec", None)
    tree = acted_on(type(resource)).get("spec")
    if tree is None:
        yield _not_acted_on("spec", resource.kind, "")
    elif isinstance(spec, msgspec.Struct):
        reasons = NEVER_ACTED_ON.get(type(resource), {})
        for fault in _without_effect(spec, tree, "spec", resource.kind):
            reason = reasons.get(_INDEXES.sub("", fault.path))
            yield fault if reason is None else _never_acted_on(fault.path, resource.kind, reason)


def _without_effect(part: msgspec.Struct, tree: Node, path: str, kind: str) -> Faults:
    for wire, field in fields_of(type(part)).items():
        value = getattr(part, field.name)
        if value is None or value == field.default or (not value and isinstance(value, dict | tuple)):
            continue
        where = paths.below(path, wire)
        below = tree.get(wire)
        if below is None:
            yield _not_acted_on(where, kind, wire)
        elif below:
            yield from _within(value, below, where, kind)


def _within(value: Any, tree: Node, path: str, kind: str) -> Faults:
    if isinstance(value, msgspec.Struct):
        yield from _without_effect(value, tree, path, kind)
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            yield from _within(inner, tree, paths.item(path, index), kind)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _within(inner, tree, paths.key(path, str(key)), kind)


def _not_acted_on(path: str, kind: str, field: str) -> Fault:
    if not field:
        return warning(path, f"{kind} is decoded but not yet acted on", "do not rely on it", NOT_ACTED_ON)
    return warning(
        path, f"the field {field} of {kind} is decoded but not yet acted on", "do not rely on it", NOT_ACTED_ON
    )


def _never_acted_on(path: str, kind: str, reason: str) -> Fault:
    field = path.rpartition(".")[2]
    return warning(path, f"the field {field} of {kind} has no effect: {reason}", "remove it", NOT_ACTED_ON)


def unhonoured(document: dict[str, Any], origin: Origin = NOWHERE) -> Iterator[Problem]:
    """A warning for each field of a Kubernetes object's `spec` that one machine does not honour.

    Works on the document, since the structs of Kubernetes' kinds keep only what counts.
    """
    kind = registry.find(str(document.get("apiVersion", "")), str(document.get("kind", "")))
    if kind is None or kind.mesh:
        return
    silent = _tree(WITHOUT_MEANING_HERE.get(kind.struct, frozenset()))
    faults = _unknown_to(document, type_of(kind.struct), silent, "")
    yield from problems_of((fault for fault in faults if fault.path.startswith("spec")), ref_of(document), origin)
    yield from problems_of(_ineffective(*_judged(kind.struct, document)), ref_of(document), origin)


def _judged(kind: type[Resource], document: dict[str, Any]) -> tuple[Any, Node, str]:
    """The part of a document in which fields without effect are looked for: its own spec, or that of its pods."""
    spec = document.get("spec")
    if kind in WITHOUT_EFFECT_HERE:
        return spec, _tree(WITHOUT_EFFECT_HERE[kind])["spec"], "spec"
    template = spec.get("template") if isinstance(spec, dict) else None
    pods = template.get("spec") if isinstance(template, dict) else None
    return pods, _tree(WITHOUT_EFFECT_HERE[core.Pod])["spec"], "spec.template.spec"


def _ineffective(value: Any, tree: Node, path: str) -> Faults:
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _ineffective(inner, tree, paths.item(path, index))
    elif isinstance(value, dict):
        for name, below in tree.items():
            inner = value.get(name)
            where = paths.below(path, name)
            if below:
                yield from _ineffective(inner, below, where)
            elif inner not in (None, {}, [], "") and inner != _AS_IT_IS.get(name):
                yield _not_honoured(where, name)


def _not_honoured(path: str, name: str) -> Fault:
    message = f"the field {name} is not honoured on one machine"
    return warning(path, message, "do not rely on it", "FieldNotHonoured")


def _unknown_to(value: Any, kind: inspect.Type, silent: Node | None, path: str) -> Faults:
    kind = core_of(kind)
    if isinstance(kind, inspect.VarTupleType) and isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unknown_to(inner, kind.item_type, silent, paths.item(path, index))
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        if kind.cls is core.PodTemplate:
            silent = _tree(WITHOUT_MEANING_HERE[core.Pod])
        fields = fields_of(kind.cls)
        for name, inner in value.items():
            where = paths.below(path, paths.field_path(name))
            below = silent.get(name.replace("initContainers", "containers")) if silent else None
            if (below is not None and not below) or inner in (None, {}, [], ""):
                continue
            if name in fields:
                yield from _unknown_to(inner, fields[name].type, below, where)
            elif name not in ("apiVersion", "kind", "metadata", "status"):
                yield _not_honoured(where, name)


def _tree(names: frozenset[str]) -> Node:
    root = Node()
    for name in sorted(names):
        node = root
        for part in name.split("."):
            node = node.setdefault(part, Node())
    return root
