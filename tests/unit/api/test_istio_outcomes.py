"""What Istio's admission says of an object, kind by kind: accepted, warned of, or refused, and at which field.

Sources: Istio `pkg/config/validation`, and the rules in the schemas of its CRDs.
"""

from __future__ import annotations

import pytest

from meltemi.base.problems import Severity

from .test_validation import problems

ACCEPTED, WARNED, REFUSED = "accepted", "warned", "refused"
ROUTE = "route: [{destination: {host: a}}]"

Case = tuple[str, str, str, str]


def http(text: str, hosts: str = "[a]") -> str:
    return f"hosts: {hosts}\nhttp: [{{{text}}}]"


def rules(*texts: str) -> str:
    return f"hosts: [a]\nhttp: [{', '.join(f'{{{text}}}' for text in texts)}]"


def matching(matches: str) -> str:
    return f"match: [{matches}], {ROUTE}"


def policy(text: str) -> str:
    return f"host: a\ntrafficPolicy: {{{text}}}"


def gateway(server: str, protocol: str = "HTTPS") -> str:
    return f"servers: [{{port: {{number: 443, name: p, protocol: {protocol}}}, hosts: ['*'], {server}}}]"


HTTP = "spec.http[0]"
POLICY = "spec.trafficPolicy"

CASES: list[Case] = [
    # VirtualService
    ("VirtualService", http(ROUTE), ACCEPTED, ""),
    ("VirtualService", http("route: [{destination: {host: '*.a.org'}}]"), ACCEPTED, ""),
    ("VirtualService", http("route: [{destination: {host: '*'}}]"), REFUSED, f"{HTTP}.route[0].destination.host"),
    (
        "VirtualService",
        http("route: [{destination: {host: a, subset: a.b}}]"),
        REFUSED,
        f"{HTTP}.route[0].destination.subset",
    ),
    ("VirtualService", http(f"match: [{{uri: {{prefix: ''}}}}], {ROUTE}"), ACCEPTED, ""),
    (
        "VirtualService",
        http(f"match: [{{method: {{prefix: ''}}}}], {ROUTE}"),
        REFUSED,
        f"{HTTP}.match[0].method.prefix",
    ),
    ("VirtualService", http(f"match: [{{uri: {{regex: '*'}}}}], {ROUTE}"), REFUSED, f"{HTTP}.match[0].uri.regex"),
    ("VirtualService", http(f"match: [{{withoutHeaders: {{a: {{regex: '*'}}}}}}], {ROUTE}"), ACCEPTED, ""),
    ("VirtualService", f"http: [{{match: [{{uri: {{regex: '/a.*'}}}}], {ROUTE}}}]", ACCEPTED, ""),
    (
        "VirtualService",
        f"http: [{{match: [{{uri: {{regex: '/(a'}}}}], {ROUTE}}}]",
        REFUSED,
        f"{HTTP}.match[0].uri.regex",
    ),
    (
        "VirtualService",
        f"http: [{{match: [{{headers: {{a: {{regex: '(?=a)'}}}}}}], {ROUTE}}}]",
        REFUSED,
        f"{HTTP}.match[0].headers[a].regex",
    ),
    ("VirtualService", rules(f"{ROUTE}", f"match: [{{uri: {{exact: /a}}}}], {ROUTE}"), WARNED, "spec.http[1]"),
    ("VirtualService", rules(ROUTE, ROUTE), WARNED, "spec.http[1]"),
    (
        "VirtualService",
        rules(matching("{uri: {prefix: /a}}"), matching("{uri: {prefix: /ab}}")),
        WARNED,
        "spec.http[1]",
    ),
    ("VirtualService", rules(matching("{uri: {prefix: /ab}}"), matching("{uri: {prefix: /a}}")), ACCEPTED, ""),
    ("VirtualService", rules(matching("{uri: {prefix: /a}}"), matching("{uri: {exact: /a}}")), WARNED, "spec.http[1]"),
    (
        "VirtualService",
        rules(matching("{name: x, uri: {regex: a}}"), matching("{name: y, uri: {regex: a}}, {port: 1}")),
        WARNED,
        "spec.http[1].match[0]",
    ),
    (
        "VirtualService",
        rules(matching("{uri: {prefix: /a}, port: 1}"), matching("{uri: {prefix: /ab}, port: 1}")),
        WARNED,
        "spec.http[1]",
    ),
    ("VirtualService", rules(matching("{uri: {prefix: /a}, port: 1}"), matching("{uri: {prefix: /ab}}")), ACCEPTED, ""),
    (
        "VirtualService",
        rules(matching("{uri: {prefix: /a}}"), matching("{uri: {prefix: /ab}, port: 1}")),
        WARNED,
        "spec.http[1]",
    ),
    (
        "VirtualService",
        rules(matching("{uri: {prefix: /a}}"), matching("{uri: {prefix: /ab}, ignoreUriCase: true}")),
        ACCEPTED,
        "",
    ),
    (
        "VirtualService",
        rules(
            matching("{uri: {prefix: /a}, ignoreUriCase: true}"), matching("{uri: {prefix: /AB}, ignoreUriCase: true}")
        ),
        WARNED,
        "spec.http[1]",
    ),
    ("VirtualService", rules(matching("{uri: {prefix: /a}}, {uri: {exact: /ab}}")), WARNED, "spec.http[0].match[1]"),
    (
        "VirtualService",
        f"hosts: [a]\ntcp: [{{match: [{{port: 1}}], {ROUTE}}}, {{match: [{{port: 1}}], {ROUTE}}}]",
        WARNED,
        "spec.tcp[1]",
    ),
    ("VirtualService", f"hosts: [a]\ntcp: [{{{ROUTE}}}, {{match: [{{port: 1}}], {ROUTE}}}]", WARNED, "spec.tcp[1]"),
    (
        "VirtualService",
        f"hosts: [a]\ntls: [{{match: [{{sniHosts: [a]}}], {ROUTE}}}, {{match: [{{sniHosts: [a]}}], {ROUTE}}}]",
        WARNED,
        "spec.tls[1]",
    ),
    ("VirtualService", http(f"headers: {{request: {{set: {{x: '%START_TIME%'}}}}}}, {ROUTE}"), ACCEPTED, ""),
    ("VirtualService", http(f"headers: {{request: {{set: {{x: '100%%'}}}}}}, {ROUTE}"), ACCEPTED, ""),
    (
        "VirtualService",
        http(f"headers: {{request: {{set: {{x: 'a%b'}}}}}}, {ROUTE}"),
        REFUSED,
        f"{HTTP}.headers.request.set[x]",
    ),
    ("VirtualService", http(f"headers: {{request: {{set: {{':authority': b}}}}}}, {ROUTE}"), ACCEPTED, ""),
    (
        "VirtualService",
        http(f"headers: {{response: {{add: {{host: b}}}}}}, {ROUTE}"),
        REFUSED,
        f"{HTTP}.headers.response.add[host]",
    ),
    (
        "VirtualService",
        http(f"rewrite: {{authority: b}}, headers: {{request: {{set: {{host: c}}}}}}, {ROUTE}"),
        REFUSED,
        f"{HTTP}.headers.request.set[host]",
    ),
    ("VirtualService", http("directResponse: {status: 100}"), REFUSED, f"{HTTP}.directResponse.status"),
    (
        "VirtualService",
        http(f"directResponse: {{status: 200, body: {{string: {'x' * 200_000}}}}}"),
        WARNED,
        f"{HTTP}.directResponse.body",
    ),
    (
        "VirtualService",
        http(f"directResponse: {{status: 200, body: {{string: {'x' * 2_000_000}}}}}"),
        REFUSED,
        f"{HTTP}.directResponse.body",
    ),
    ("VirtualService", http(f"fault: {{abort: {{percentage: {{value: 5}}}}}}, {ROUTE}"), WARNED, f"{HTTP}.fault.abort"),
    (
        "VirtualService",
        http(f"fault: {{delay: {{exponentialDelay: 1s}}}}, {ROUTE}"),
        REFUSED,
        f"{HTTP}.fault.delay.exponentialDelay",
    ),
    ("VirtualService", http(f"mirror: {{host: b}}, mirrorPercent: 10, {ROUTE}"), WARNED, f"{HTTP}.mirrorPercent"),
    ("VirtualService", http(f"mirror: {{host: b}}, mirrorPercent: 101, {ROUTE}"), REFUSED, f"{HTTP}.mirrorPercent"),
    (
        "VirtualService",
        http(f"corsPolicy: {{allowOrigins: [{{exact: ''}}]}}, {ROUTE}"),
        REFUSED,
        f"{HTTP}.corsPolicy.allowOrigins[0]",
    ),
    ("VirtualService", http(f"retries: {{retryRemoteLocalities: true}}, {ROUTE}"), REFUSED, f"{HTTP}.retries.attempts"),
    ("VirtualService", f"gateways: [edge.ns.svc.cluster.local]\n{http(ROUTE)}", WARNED, "spec.gateways[0]"),
    ("VirtualService", f"gateways: [ns/edge.a]\n{http(ROUTE)}", REFUSED, "spec.gateways[0]"),
    ("VirtualService", f"exportTo: ['~']\n{http(ROUTE)}", REFUSED, "spec.exportTo[0]"),
    ("VirtualService", f"exportTo: [., default]\n{http(ROUTE)}", REFUSED, "spec.exportTo[1]"),
    (
        "VirtualService",
        f"hosts: [a.org]\ntls: [{{match: [{{sniHosts: [10.0.0.1]}}], {ROUTE}}}]",
        WARNED,
        "spec.tls[0].match[0].sniHosts[0]",
    ),
    # DestinationRule
    ("DestinationRule", policy(""), REFUSED, POLICY),
    ("DestinationRule", policy("connectionPool: {}"), REFUSED, f"{POLICY}.connectionPool"),
    (
        "DestinationRule",
        policy("connectionPool: {http: {http2KeepAlive: {interval: 0s, timeout: 1s}}}"),
        REFUSED,
        f"{POLICY}.connectionPool.http.http2KeepAlive.interval",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {simple: RANDOM, backendUtilization: {}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.backendUtilization",
    ),
    ("DestinationRule", policy("portLevelSettings: [{port: {number: 1}}]"), REFUSED, f"{POLICY}.portLevelSettings[0]"),
    (
        "DestinationRule",
        policy("tunnel: {targetHost: a.org, targetPort: 1}, proxyProtocol: {}"),
        REFUSED,
        f"{POLICY}.proxyProtocol",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9}}"),
        WARNED,
        f"{POLICY}.loadBalancer.consistentHash.minimumRingSize",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9, maglev: {tableSize: 7}}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.consistentHash.minimumRingSize",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.consistentHash.maglev.tableSize",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}"),
        WARNED,
        f"{POLICY}.loadBalancer.localityLbSetting",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {interval: 1s}, loadBalancer: {localityLbSetting: {failover: [{from: a/z, to: b}]}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.localityLbSetting.failover[0].from",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: 'a/*/c', to: {b: 100}}]}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.localityLbSetting.distribute[0].from",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: 'a/*', to: {b: 100, c: 0}}]}}"),
        REFUSED,
        f"{POLICY}.loadBalancer.localityLbSetting.distribute[0].to[c]",
    ),
    ("DestinationRule", "host: a\nworkloadSelector: {}", WARNED, "spec.workloadSelector.matchLabels"),
    ("DestinationRule", "host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: [.]", ACCEPTED, ""),
    (
        "DestinationRule",
        "host: a\nworkloadSelector: {matchLabels: {a: b}}\nexportTo: ['*']",
        REFUSED,
        "spec.exportTo[0]",
    ),
    # Gateway
    ("Gateway", gateway("tls: {mode: SIMPLE, credentialName: c}"), ACCEPTED, ""),
    ("Gateway", gateway("tls: {mode: PASSTHROUGH, credentialName: c}"), WARNED, "spec.servers[0].tls.credentialName"),
    ("Gateway", gateway("tls: {mode: ISTIO_MUTUAL, credentialName: c}"), REFUSED, "spec.servers[0].tls.credentialName"),
    (
        "Gateway",
        gateway("tls: {mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_1}"),
        WARNED,
        "spec.servers[0].tls.minProtocolVersion",
    ),
    (
        "Gateway",
        gateway("tls: {mode: SIMPLE, credentialName: c, cipherSuites: [AES128-SHA, AES128-SHA]}"),
        WARNED,
        "spec.servers[0].tls.cipherSuites[1]",
    ),
    ("Gateway", gateway("tls: {mode: SIMPLE, credentialName: c, caCrl: /crl}"), REFUSED, "spec.servers[0].tls.caCrl"),
    (
        "Gateway",
        "servers: [{port: {number: 80, name: http, protocol: HTTP, targetPort: 8080}, hosts: ['*']}]",
        REFUSED,
        "spec.servers[0].port.targetPort",
    ),
    # ServiceEntry
    ("ServiceEntry", "hosts: [a.org]", WARNED, "spec.ports"),
    (
        "ServiceEntry",
        "hosts: [a.org, b.org]\nresolution: DNS\nports: [{number: 1, name: tcp, protocol: TCP}]",
        REFUSED,
        "spec.ports[0].protocol",
    ),
    (
        "ServiceEntry",
        "hosts: [a.org]\nports: [{number: 1, name: http, protocol: HTTP, targetPort: 2}]",
        WARNED,
        "spec.ports[0].targetPort",
    ),
    (
        "ServiceEntry",
        "hosts: [a.org]\nresolution: DNS\nports: [{number: 1, name: http}]\nworkloadSelector: {labels: {a: b}}",
        WARNED,
        "spec.workloadSelector",
    ),
    ("ServiceEntry", "hosts: [a.org]\nexportTo: ['~']\nports: [{number: 1, name: http}]", ACCEPTED, ""),
    ("ServiceEntry", "hosts: [a.org]\nresolution: STATIC\nports: [{number: 1, name: http}]", WARNED, "spec.endpoints"),
    # WorkloadEntry
    ("WorkloadEntry", "network: far", WARNED, "spec.address"),
    ("WorkloadEntry", "address: unix:///run/", REFUSED, "spec.address"),
    ("WorkloadEntry", "address: unix:///run/x", ACCEPTED, ""),
    # Sidecar
    ("Sidecar", "workloadSelector: {}\negress: [{hosts: ['./*']}]", WARNED, "spec.workloadSelector.labels"),
    ("Sidecar", "egress: [{hosts: ['*/*', a/b]}]", WARNED, "spec.egress[0].hosts"),
    ("Sidecar", "egress: [{hosts: [a/b, a/b]}]", WARNED, "spec.egress[0].hosts[1]"),
    ("Sidecar", "ingress: [{port: {number: 80, protocol: HTTP}, defaultEndpoint: ':8080'}]", ACCEPTED, ""),
    (
        "Sidecar",
        "ingress: [{port: {number: 80, protocol: HTTP, targetPort: 1}}]",
        REFUSED,
        "spec.ingress[0].port.targetPort",
    ),
    (
        "Sidecar",
        "ingress: [{port: {number: 80, protocol: TCP}, connectionPool: {http: {maxRetries: 1}}}]",
        WARNED,
        "spec.ingress[0].connectionPool.http",
    ),
    (
        "Sidecar",
        "outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.org}}",
        REFUSED,
        "spec.outboundTrafficPolicy.egressProxy.port",
    ),
    # Security
    ("PeerAuthentication", "selector: {}\nmtls: {mode: STRICT}", WARNED, "spec.selector.matchLabels"),
    ("PeerAuthentication", "portLevelMtls: {80: {mode: STRICT}}", REFUSED, "spec.portLevelMtls"),
    ("AuthorizationPolicy", "action: DENY", REFUSED, "spec.rules"),
    ("AuthorizationPolicy", "action: DENY\nrules: [{to: [{operation: {methods: [GET]}}]}]", WARNED, "spec.rules[0]"),
    (
        "AuthorizationPolicy",
        "action: DENY\nrules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]",
        ACCEPTED,
        "",
    ),
    ("AuthorizationPolicy", "action: DENY\nrules: [{from: [{source: {namespaces: [a]}}]}]", ACCEPTED, ""),
    (
        "AuthorizationPolicy",
        "action: CUSTOM\nprovider: {name: p}\nrules: [{from: [{source: {principals: [a]}}]}]",
        REFUSED,
        "spec.rules[0].from[0].source.principals",
    ),
    (
        "AuthorizationPolicy",
        "action: CUSTOM\nprovider: {name: p}\nrules: [{when: [{key: source.principal, values: [a]}]}]",
        REFUSED,
        "spec.rules[0].when[0].key",
    ),
    ("AuthorizationPolicy", "targetRef: {kind: Service, name: a}", ACCEPTED, ""),
    ("AuthorizationPolicy", "targetRef: {kind: Deployment, name: a, group: apps}", REFUSED, "spec.targetRef.kind"),
    ("RequestAuthentication", "jwtRules: [{issuer: i, jwks: 'nonsense'}]", REFUSED, "spec.jwtRules[0].jwks"),
    ("RequestAuthentication", 'jwtRules: [{issuer: i, jwks: \'{"keys": [{"kty": "RSA"}]}\'}]', ACCEPTED, ""),
    ("RequestAuthentication", "jwtRules: [{issuer: i, fromParams: ['']}]", REFUSED, "spec.jwtRules[0].fromParams[0]"),
    ("RequestAuthentication", "jwtRules: [{issuer: i, fromCookies: ['']}]", REFUSED, "spec.jwtRules[0].fromCookies[0]"),
    # Telemetry
    ("Telemetry", "tracing: [{providers: [{name: a}, {name: b}]}]", WARNED, "spec.tracing[0].providers"),
    ("Telemetry", "tracing: [{providers: [{name: a}]}, {providers: [{name: b}]}]", WARNED, "spec.tracing[1]"),
    ("Telemetry", "metrics: [{providers: [{name: ''}]}]", REFUSED, "spec.metrics[0].providers[0].name"),
    (
        "Telemetry",
        "tracing: [{customTags: {a: {literal: {value: ''}}}}]",
        REFUSED,
        "spec.tracing[0].customTags[a].literal.value",
    ),
    (
        "Telemetry",
        "metrics: [{overrides: [{match: {customMetric: ''}, disabled: true}]}]",
        REFUSED,
        "spec.metrics[0].overrides[0].match.customMetric",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "outcome", "path"), CASES, ids=[f"{c[0]}-{c[2]}-{c[3]}" for c in CASES])
def test_the_outcome_is_istios(kind: str, spec: str, outcome: str, path: str) -> None:
    found = problems(kind, spec)
    severities = {problem.severity for problem in found}
    worst = REFUSED if Severity.ERROR in severities else WARNED if severities else ACCEPTED
    assert worst == outcome, found
    if path:
        wanted = Severity.ERROR if outcome == REFUSED else Severity.WARNING
        assert path in {problem.path for problem in found if problem.severity is wanted}, found
    assert all(problem.hint for problem in found)
