"""What decodes but cannot mean anything is told, kind by kind."""

from __future__ import annotations

import pytest

from meltemi.api.decoding import decode_document, relocate
from meltemi.api.meta import ObjectMeta
from meltemi.api.networking.gateway import HTTP3, Gateway, GatewaySpec, Server, ServerPort
from meltemi.api.validation import validate
from meltemi.api.validation.regexes import regex
from meltemi.api.yaml import load
from meltemi.base.problems import Problem, Severity

HEADS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "WorkloadEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "ProxyConfig": "networking.istio.io/v1beta1",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "MeshConfig": "meltemi.dev/v1alpha1",
    "Service": "v1",
    "Pod": "v1",
    "Deployment": "apps/v1",
}


def problems(kind: str, spec: str) -> list[Problem]:
    """What is wrong with an object whose spec begins in line 5."""
    indented = "".join(f"  {line}\n" for line in spec.strip("\n").splitlines())
    text = f"apiVersion: {HEADS[kind]}\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n{indented}"
    (document,) = load(text, "x.yaml").documents
    decoded = decode_document(document)
    assert decoded.resource is not None, decoded.problems
    return [relocate(problem, document.lines) for problem in validate(decoded.resource)]


def told(kind: str, spec: str) -> list[tuple[str, str]]:
    """Path and message of all that is wrong."""
    return [(problem.path, problem.message) for problem in problems(kind, spec)]


GOOD = [
    (
        "VirtualService",
        """
hosts: [reviews, "*.reviews.example.org"]
gateways: [mesh, istio-system/edge]
exportTo: ["."]
http:
- match:
  - uri: {regex: "/v[0-9]+/.*"}
    method: {exact: GET}
    headers: {cookie: {regex: "^(.*?; ?)?(user=jason)(;.*)?$"}, x-there: {}}
    gateways: [istio-system/edge]
  rewrite: {uriRegexRewrite: {match: "^/v([0-9]+)/(.*)$", rewrite: '/\\2'}}
  route: [{destination: {host: reviews, subset: v1}, weight: 0}, {destination: {host: reviews}, weight: 1}]
  retries: {attempts: 2, retryOn: "5xx,503,unavailable"}
  timeout: 0s
  mirrors: [{destination: {host: shadow.other.svc.cluster.local}, percentage: {value: 0.5}}]
- redirect: {uri: /away, redirectCode: 308}
""",
    ),
    (
        "VirtualService",
        """
hosts: [db, "*.example.org"]
tls: [{match: [{sniHosts: [a.example.org], port: 443}], route: [{destination: {host: db}}]}]
tcp: [{match: [{destinationSubnets: [10.0.0.0/8], port: 3306}], route: [{destination: {host: db}}]}]
""",
    ),
    ("VirtualService", "http: [{route: [{destination: {host: a}}]}]"),
    (
        "DestinationRule",
        """
host: "*.shop.svc.cluster.local"
trafficPolicy:
  loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}, maglev: {tableSize: 65537}}}
  connectionPool: {tcp: {maxConnections: 10, connectTimeout: 30ms}, http: {idleTimeout: 0s}}
  outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
  portLevelSettings: [{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}]
subsets: [{name: v1, labels: {version: v1}}]
""",
    ),
    (
        "Gateway",
        """
selector: {istio: ingressgateway}
servers:
- port: {number: 80, name: http, protocol: HTTP}
  hosts: ["*"]
  tls: {httpsRedirect: true}
- port: {number: 443, name: https, protocol: HTTPS}
  hosts: [shop/shop.example.org, ./a.example.org]
  tls: {mode: MUTUAL, credentialName: shop-cert, minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_3}
- port: {number: 9443, name: tls, protocol: TLS}
  hosts: [db.example.org]
  tls: {mode: PASSTHROUGH}
""",
    ),
    (
        "ServiceEntry",
        """
hosts: [api.example.org]
ports: [{number: 443, name: https, protocol: TLS}]
resolution: DNS
location: MESH_EXTERNAL
""",
    ),
    (
        "ServiceEntry",
        """
hosts: [vm.shop]
addresses: [240.0.0.7]
ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
resolution: STATIC
location: MESH_INTERNAL
endpoints: [{address: 192.168.1.7, ports: {http: 8081}, labels: {app: vm}, locality: a/b/c}]
""",
    ),
    ("WorkloadEntry", "address: vm.example.org\nports: {http: 80}"),
    (
        "Sidecar",
        """
workloadSelector: {labels: {app: cart}}
ingress: [{port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8080"}]
egress: [{port: {number: 3306, protocol: MYSQL, name: db}, hosts: ["./db"]}, {hosts: ["./*", "istio-system/*"]}]
outboundTrafficPolicy: {mode: REGISTRY_ONLY}
""",
    ),
    ("PeerAuthentication", "mtls: {mode: STRICT}"),
    (
        "AuthorizationPolicy",
        """
selector: {matchLabels: {app: cart}}
action: ALLOW
rules:
- from: [{source: {principals: ["cluster.local/ns/shop/sa/*"], notIpBlocks: [10.0.0.0/8]}}]
  to: [{operation: {methods: [GET], paths: ["/cart/{*}/items/{**}"], ports: ["8080"]}}]
  when: [{key: "request.headers[x-user]", values: ["*"]}, {key: source.ip, notValues: [10.1.0.0/16]}]
- {}
""",
    ),
    ("RequestAuthentication", "jwtRules: [{issuer: https://issuer.example, jwksUri: https://issuer.example/keys}]"),
    ("Telemetry", "metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {a: {operation: REMOVE}}}]}]"),
    ("MeshConfig", "trustDomain: shop.example\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\nconnectTimeout: 3s"),
    ("Service", "ports: [{name: http, port: 80, targetPort: web}, {name: grpc, port: 90}]\nselector: {app: cart}"),
    ("Service", "type: ExternalName\nexternalName: example.org"),
    (
        "Deployment",
        """
replicas: 2
selector: {matchLabels: {app: cart}}
template:
  metadata: {labels: {app: cart}}
  spec:
    volumes: [{name: config, configMap: {name: cart}}]
    containers:
    - name: cart
      command: [python, cart.py]
      ports: [{name: http, containerPort: 8080}]
      readinessProbe: {httpGet: {port: http}}
      volumeMounts: [{name: config, mountPath: /etc/cart}]
""",
    ),
]


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_nothing_is_wrong_with_what_people_really_write(kind: str, spec: str) -> None:
    assert problems(kind, spec) == []


ROUTE = "route: [{destination: {host: a}}]"

BAD = [
    ("VirtualService", "hosts: [a]", "spec", "there is no rule"),
    ("VirtualService", f"hosts: ['*']\nhttp: [{{{ROUTE}}}]", "spec.hosts[0]", "'*' would catch every host of the mesh"),
    ("VirtualService", f"hosts: ['a_b c']\nhttp: [{{{ROUTE}}}]", "spec.hosts[0]", "'a_b c' is not a host name"),
    ("VirtualService", f"hosts: [a, a]\nhttp: [{{{ROUTE}}}]", "spec.hosts[1]", "'a' and 'a' overlap"),
    (
        "VirtualService",
        f"gateways: [mesh]\nhttp: [{{{ROUTE}}}]",
        "spec.gateways",
        "without hosts this is a delegate, and a delegate has no gateways",
    ),
    ("VirtualService", "hosts: [a]\nhttp: [{timeout: 1s}]", "spec.http[0]", "the rule does nothing"),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, redirect: {{uri: /}}}}]",
        "spec.http[0].redirect",
        "a rule has either route or redirect",
    ),
    (
        "VirtualService",
        "hosts: [a]\nhttp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]",
        "spec.http[0].route",
        "the weights are all 0",
    ),
    (
        "VirtualService",
        "hosts: [a]\nhttp: [{route: [{destination: {host: '*'}}]}]",
        "spec.http[0].route[0].destination.host",
        "'*' is not a host here",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{match: [{{uri: {{regex: '(?=x)'}}}}], {ROUTE}}}]",
        "spec.http[0].match[0].uri.regex",
        "'(?=x)' is not a regular expression of RE2: RE2 has no look-around",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{match: [{{uri: {{exact: /, prefix: /}}}}], {ROUTE}}}]",
        "spec.http[0].match[0].uri.prefix",
        "exact and prefix exclude each other",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{match: [{{uri: {{}}}}], {ROUTE}}}]",
        "spec.http[0].match[0].uri",
        "nothing is said to compare with",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{match: [{{headers: {{'a b': {{exact: x}}}}}}], {ROUTE}}}]",
        "spec.http[0].match[0].headers[a b]",
        "'a b' is not a header name",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, retries: {{attempts: 1, retryOn: sometimes}}}}]",
        "spec.http[0].retries.retryOn",
        "'sometimes' is not a condition to retry on",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, retries: {{perTryTimeout: 1s}}}}]",
        "spec.http[0].retries.attempts",
        "0 attempts switch retries off",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, timeout: 1us}}]",
        "spec.http[0].timeout",
        "1us is too short",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, fault: {{abort: {{percentage: {{value: 1}}}}}}}}]",
        "spec.http[0].fault.abort",
        "the abort has no status",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, fault: {{abort: {{httpStatus: 99}}}}}}]",
        "spec.http[0].fault.abort.httpStatus",
        "99 is not a status",
    ),
    (
        "VirtualService",
        "hosts: [a]\nhttp: [{redirect: {uri: /, redirectCode: 200}}]",
        "spec.http[0].redirect.redirectCode",
        "200 does not redirect",
    ),
    (
        "VirtualService",
        "hosts: [a]\nhttp: [{directResponse: {status: 503}, rewrite: {uri: /}}]",
        "spec.http[0].rewrite",
        "directResponse leaves nothing for rewrite to act on",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, rewrite: {{authority: ''}}}}]",
        "spec.http[0].rewrite",
        "nothing is rewritten",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, corsPolicy: {{allowMethods: [get], maxAge: 1500ms}}}}]",
        "spec.http[0].corsPolicy.maxAge",
        "1500ms is not a number of seconds",
    ),
    (
        "VirtualService",
        f"hosts: [a]\nhttp: [{{{ROUTE}, headers: {{request: {{remove: [Host]}}}}}}]",
        "spec.http[0].headers.request.remove[0]",
        "the header 'Host' cannot be removed",
    ),
    (
        "VirtualService",
        f"hosts: [a.example.org]\ntls: [{{match: [{{sniHosts: [b.example.org]}}], {ROUTE}}}]",
        "spec.tls[0].match[0].sniHosts[0]",
        "the SNI host 'b.example.org' is not among the hosts of this VirtualService",
    ),
    (
        "VirtualService",
        f"hosts: [a]\ntcp: [{{match: [{{destinationSubnets: [10.0.0.0/40]}}], {ROUTE}}}]",
        "spec.tcp[0].match[0].destinationSubnets[0]",
        "'10.0.0.0/40' is not an IP address or range",
    ),
    (
        "DestinationRule",
        "host: a\nsubsets: [{name: v1, labels: {v: a}}, {name: v1, labels: {v: b}}]",
        "spec.subsets[1]",
        "the subset 'v1' is listed twice",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {loadBalancer: {consistentHash: {}}}",
        "spec.trafficPolicy.loadBalancer.consistentHash",
        "it does not say what to hash",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}",
        "spec.trafficPolicy.loadBalancer.consistentHash",
        "simple and consistentHash exclude each other",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c.pem}}",
        "spec.trafficPolicy.tls.privateKey",
        "MUTUAL needs privateKey",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {tls: {mode: ISTIO_MUTUAL, caCertificates: /c.pem}}",
        "spec.trafficPolicy.tls.caCertificates",
        "the mesh has its own certificates for ISTIO_MUTUAL: caCertificates is not used",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {portLevelSettings: [{tls: {mode: SIMPLE}}]}",
        "spec.trafficPolicy.portLevelSettings[0].port",
        "it does not say which port",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}",
        "spec.trafficPolicy.connectionPool.tcp.maxConnections",
        "-1 is negative",
    ),
    (
        "DestinationRule",
        "host: a\ntrafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 3}}",
        "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
        "local failures are counted only apart from external ones",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*']}]",
        "spec.servers[0].tls",
        "a server of HTTPS needs TLS settings",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE}}]",
        "spec.servers[0].tls.credentialName",
        "SIMPLE needs a certificate",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}}]",
        "spec.servers[0].tls",
        "a server of HTTP speaks no TLS",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 80, name: http, protocol: SPDY}, hosts: [a/b/c]}]",
        "spec.servers[0].port.protocol",
        "'SPDY' is not a protocol",
    ),
    ("Gateway", "selector: {a: b}", "spec.servers", "there is no server"),
    (
        "Gateway",
        "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: ISTIO_MUTUAL, "
        "caCertificates: /ca.pem}}]",
        "spec.servers[0].tls.caCertificates",
        "ISTIO_MUTUAL uses no certificate of its own",
    ),
    (
        "Gateway",
        "servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, "
        "credentialName: c, verifyCertificateSpki: [short]}}]",
        "spec.servers[0].tls.verifyCertificateSpki[0]",
        "'short' is not a SHA-256 digest in base64",
    ),
    (
        "ServiceEntry",
        "hosts: [a.example.org]\nports: [{number: 80, name: http}]\nresolution: STATIC",
        "spec.endpoints",
        "STATIC needs endpoints",
    ),
    (
        "ServiceEntry",
        "hosts: ['*.example.org']\nports: [{number: 80, name: http}]\nresolution: DNS",
        "spec.hosts[0]",
        "the wildcard '*.example.org' cannot be looked up in DNS",
    ),
    (
        "ServiceEntry",
        "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: STATIC\nendpoints: [{address: a.example.org}]",
        "spec.endpoints[0].address",
        "'a.example.org' is not an IP address, as STATIC needs",
    ),
    (
        "ServiceEntry",
        "hosts: [a.b]\nports: [{number: 80, name: http}]\nresolution: DNS\nendpoints: [{address: a.b, ports: {grpc: 1}}]",
        "spec.endpoints[0].ports[grpc]",
        "the service has no port 'grpc'",
    ),
    ("ServiceEntry", "hosts: [a.b]", "spec.ports", "there is no port, so that nothing reaches the hosts"),
    ("WorkloadEntry", "labels: {a: b}", "spec.address", "the workload has no address"),
    ("Sidecar", "workloadSelector: {labels: {a: b}}", "spec", "the Sidecar says nothing"),
    ("Sidecar", "egress: [{hosts: [reviews]}]", "spec.egress[0].hosts[0]", "'reviews' does not say in which namespace"),
    (
        "Sidecar",
        "ingress: [{port: {number: 80}, defaultEndpoint: '10.0.0.1:80'}]",
        "spec.ingress[0].defaultEndpoint",
        "'10.0.0.1:80' is not an endpoint of this workload",
    ),
    (
        "Sidecar",
        "ingress: [{port: {number: 80, protocol: HTTP}, tls: {mode: SIMPLE, credentialName: c}}]",
        "spec.ingress[0].tls",
        "a port of HTTP speaks no TLS",
    ),
    (
        "Sidecar",
        "ingress: [{port: {number: 80, protocol: HTTPS}, tls: {mode: AUTO_PASSTHROUGH}}]",
        "spec.ingress[0].tls.mode",
        "only gateways pass TLS on by its server name",
    ),
    (
        "Sidecar",
        "egress: [{hosts: ['./*']}]\noutboundTrafficPolicy: {mode: ALLOW_ANY_DYNAMIC_DNS}",
        "spec.outboundTrafficPolicy.mode",
        "only the whole mesh can find unknown hosts by their names",
    ),
    ("ProxyConfig", "selector: {matchLabels: {a: b}}", "spec", "the ProxyConfig says nothing"),
    ("ProxyConfig", "concurrency: -1", "spec.concurrency", "it is negative"),
    (
        "ProxyConfig",
        "environmentVariables: {'A=B': c}",
        "spec.environmentVariables[A=B]",
        "'A=B' is not a name of a variable",
    ),
    (
        "Sidecar",
        "egress: [{hosts: ['./*']}, {port: {number: 80}, hosts: ['./*']}]",
        "spec.egress[1]",
        "it stands after the listener for all ports",
    ),
    (
        "PeerAuthentication",
        "portLevelMtls: {80: {mode: STRICT}}",
        "spec.portLevelMtls",
        "a setting for a port needs a selector",
    ),
    ("AuthorizationPolicy", "action: CUSTOM\nrules: [{}]", "spec.provider.name", "CUSTOM needs a provider"),
    (
        "AuthorizationPolicy",
        "rules: [{from: [{source: {}}]}]",
        "spec.rules[0].from[0].source",
        "the source says nothing",
    ),
    (
        "AuthorizationPolicy",
        "rules: [{to: [{operation: {ports: [http]}}]}]",
        "spec.rules[0].to[0].operation.ports[0]",
        "'http' is not a port number",
    ),
    (
        "AuthorizationPolicy",
        "rules: [{when: [{key: request.header, values: [a]}]}]",
        "spec.rules[0].when[0].key",
        "'request.header' is not an attribute",
    ),
    (
        "AuthorizationPolicy",
        "rules: [{to: [{operation: {paths: ['/a/{**}/b/{*}']}}]}]",
        "spec.rules[0].to[0].operation.paths[0]",
        "{**} must be the last wildcard",
    ),
    (
        "AuthorizationPolicy",
        "rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/a/sa/b']}}]}]",
        "spec.rules[0].from[0].source.principals[0]",
        "a principal is written without spiffe://",
    ),
    (
        "AuthorizationPolicy",
        "selector: {matchLabels: {a: b}}\ntargetRefs: [{kind: Service, name: a}]",
        "spec.targetRefs",
        "selector and targetRefs exclude each other",
    ),
    ("RequestAuthentication", "jwtRules: [{jwks: '{}'}]", "spec.jwtRules[0].issuer", "the rule has no issuer"),
    (
        "MeshConfig",
        "extensionProviders: [{name: a, prometheus: {}, zipkin: {service: z, port: 9411}}]",
        "spec.extensionProviders[0].prometheus",
        "zipkin and prometheus exclude each other",
    ),
    ("MeshConfig", "trustDomain: Shop", "spec.trustDomain", "'Shop' is not a trust domain"),
    ("Service", "ports: [{port: 80}, {port: 81, name: b}]", "spec.ports[0].name", "of several ports each needs a name"),
    (
        "Deployment",
        "selector: {matchLabels: {app: a}}\ntemplate: {metadata: {labels: {app: b}}, spec: {containers: [{name: c}]}}",
        "spec.template.metadata.labels",
        "the selector asks for app=a, which the template's pods do not have",
    ),
    (
        "Pod",
        "containers: [{name: c, volumeMounts: [{name: v, mountPath: /v}]}]",
        "spec.containers[0].volumeMounts[0].name",
        "the pod has no volume 'v'",
    ),
    (
        "Pod",
        "containers: [{name: c, livenessProbe: {tcpSocket: {port: web}}}]",
        "spec.containers[0].livenessProbe.tcpSocket.port",
        "the container has no port 'web'",
    ),
]


@pytest.mark.parametrize(("kind", "spec", "path", "message"), BAD)
def test_what_is_wrong_is_told_at_its_path(kind: str, spec: str, path: str, message: str) -> None:
    assert (path, message) in told(kind, spec)


def test_every_problem_has_a_hint_and_a_line_within_the_spec() -> None:
    for kind, spec, _, _ in BAD:
        for problem in problems(kind, spec):
            assert problem.hint, problem
            assert problem.origin.line >= 4, problem


def test_a_rule_behind_one_for_all_requests_is_unreachable() -> None:
    (problem,) = problems("VirtualService", f"hosts: [a]\nhttp:\n- {ROUTE}\n- timeout: 1s\n  {ROUTE}")
    assert (problem.path, problem.code, problem.severity) == ("spec.http[1]", "Unreachable", Severity.WARNING)
    assert problem.origin.line == 8


def test_a_match_for_a_gateway_that_is_not_bound_has_no_effect() -> None:
    (problem,) = problems("VirtualService", f"hosts: [a]\nhttp: [{{match: [{{gateways: [edge]}}], {ROUTE}}}]")
    assert (problem.path, problem.severity) == ("spec.http[0].match[0].gateways[0]", Severity.WARNING)


@pytest.mark.parametrize(("said", "is_wrong"), [("true", False), ("false", False), ("yes", True)])
def test_whether_a_gateway_speaks_http3_is_true_or_false(said: str, is_wrong: bool) -> None:
    servers = (Server(port=ServerPort(number=80, protocol="HTTP", name="http"), hosts=("*",)),)
    metadata = ObjectMeta(name="front", namespace="a", annotations={HTTP3: said})
    faults = list(validate(Gateway(metadata=metadata, spec=GatewaySpec(servers=servers))))
    assert [fault.path for fault in faults] == ["metadata.annotations[meltemi.dev/http3]"] * is_wrong


CLAIM = "http: [{match: [{headers: {'%s': {exact: a}}}], route: [{destination: {host: b}}]}]"


def test_claims_of_a_token_are_matched_at_gateways() -> None:
    role = CLAIM % "@request.auth.claims.role"
    assert told("VirtualService", f"hosts: [a.example]\ngateways: [front, mesh]\n{role}") == []
    ((path, message),) = told("VirtualService", f"hosts: [a.example]\n{role}")
    assert path == "spec.http[0].match[0].headers[@request.auth.claims.role]"
    assert "only gateways" in message


@pytest.mark.parametrize("name", ["@request.auth.claims", "@request.auth.claims[a]b", "@request.auth.claims.a..b"])
def test_a_match_on_claims_names_one(name: str) -> None:
    ((_, message),) = told("VirtualService", f"hosts: [a.example]\ngateways: [front]\n{CLAIM % name}")
    assert "names no claim" in message


def test_a_deny_policy_without_rules_is_refused() -> None:
    (problem,) = problems("AuthorizationPolicy", "action: DENY")
    assert problem.severity is Severity.ERROR


@pytest.mark.parametrize(
    "expression",
    [
        ".*",
        "^/a(b|c)+$",
        r"\d{1,1000}",
        "(?i)x",
        r"\p{Greek}+",
        "[[:alpha:]]+",
        "(?P<a>x)",
        r"\Qa.b\E",
        r"a\z",
        r"\\1",
        r"\++",
        "[*+]+",
        "[^*+]",
    ],
)
def test_expressions_of_re2_are_taken(expression: str) -> None:
    assert list(regex("x", expression)) == []


@pytest.mark.parametrize(
    "expression", ["", "(", "a**", r"(a)\1", "(?!a)", "(?<=a)b", "a++", "x{1001}", "[b-a]", "(?>a)"]
)
def test_other_expressions_are_not(expression: str) -> None:
    (fault,) = regex("x", expression)
    assert fault.hint
