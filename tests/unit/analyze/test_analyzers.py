"""Each message: objects that call for it, at the right line, and the same objects put right, which do not."""

from __future__ import annotations

from textwrap import dedent
from typing import NamedTuple

import pytest

from meltemi.analyze import analyzers, messages, verdicts
from meltemi.analyze.snapshot import Snapshot
from meltemi.api import decoding
from meltemi.api.meta import Resource
from meltemi.api.validation import validate
from meltemi.api.yaml import load
from meltemi.base.problems import Problem, Severity

NETWORKING = "networking.istio.io/v1"
SECURITY = "security.istio.io/v1"


class Case(NamedTuple):
    """Objects with one mistake, whose line ends in `# !`, and what replaces the text `old` by `new` to put it right."""

    code: str
    text: str
    old: str
    new: str
    name: str = ""


def findings(text: str) -> list[Problem]:
    """What analysis says of a text, with lines."""
    resources: list[Resource] = []
    problems: list[Problem] = []
    documents = {}
    for document in load(dedent(text), "test.yaml").documents:
        decoded = decoding.decode_document(document)
        problems += decoded.problems
        if decoded.resource is not None:
            documents[decoded.resource.ref] = document
            found = list(validate(decoded.resource))
            problems += found
            if not any(problem.severity is Severity.ERROR for problem in found):
                resources.append(decoded.resource)
    told = list(verdicts.of_objects(problems))
    result = analyzers.analyze(Snapshot(resources), told)
    return [decoding.relocate(each, documents[each.ref].lines) if each.ref in documents else each for each in result]


def service(name: str, port: str = "{name: http, port: 80}", selector: str = "") -> str:
    return (
        f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n"
        f"spec: {{ports: [{port}], selector: {{app: {selector or name}}}}}\n"
    )


def deployment(name: str, extra: str = "", labels: str = "") -> str:
    return dedent(
        f"""\
        ---
        apiVersion: apps/v1
        kind: Deployment
        metadata: {{name: {name}, namespace: default}}
        spec:
          selector: {{matchLabels: {{app: {name}}}}}
          template:
            metadata: {{labels: {{app: {name}, sidecar.istio.io/inject: "true"{labels}}}}}
            spec: {{containers: [{{name: main, command: [x]{extra}}}]}}
        """
    )


def istio(kind: str, name: str, spec: str, api: str = NETWORKING) -> str:
    body = "".join(f"  {line}\n" for line in dedent(spec).strip().splitlines())
    return f"---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n{body}"


GATEWAY = """
selector: {app: edge}
servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["shop.example.org"]
"""
TLS_GATEWAY = """
selector: {app: edge}
servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["HOST"]
    tls:
      mode: SIMPLE
      credentialName: shop
"""

CASES: tuple[Case, ...] = (
    Case(
        "IST0101",
        service("reviews")
        + istio("VirtualService", "r", "hosts: [reviews]\nhttp:\n- route:\n  - destination:\n      host: gone # !"),
        "gone # !",
        "reviews",
        "host",
    ),
    Case(
        "IST0101",
        service("reviews")
        + istio(
            "VirtualService",
            "r",
            "hosts: [reviews]\ngateways:\n- mesh\n- edge # !\nhttp: [{route: [{destination: {host: reviews}}]}]",
        ),
        "- edge # !",
        "",
        "gateway",
    ),
    Case(
        "IST0101",
        service("reviews")
        + istio(
            "VirtualService",
            "r",
            "hosts: [reviews]\nhttp:\n- route:\n  - destination:\n      host: reviews\n      subset: v1 # !",
        ),
        "subset: v1 # !",
        "",
        "subset",
    ),
    Case(
        "IST0101",
        deployment("edge") + istio("Gateway", "edge", GATEWAY.replace("{app: edge}", "{app: wrong} # !")),
        "wrong} # !",
        "edge}",
        "selector",
    ),
    Case(
        "IST0101",
        deployment("edge")
        + istio(
            "Gateway",
            "edge",
            TLS_GATEWAY.replace("credentialName: shop", "credentialName: shop # !").replace("HOST", "a.org"),
        ),
        "credentialName: shop # !",
        "serverCertificate: /a\n      privateKey: /b",
        "credential",
    ),
    Case(
        "IST0101",
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n"
        + istio(
            "AuthorizationPolicy", "p", "rules:\n- from:\n  - source:\n      namespaces:\n      - nowhere # !", SECURITY
        ),
        "nowhere # !",
        "default",
        "namespace",
    ),
    Case(
        "IST0102",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels: # !\n    a: b\n",
        "a: b",
        "istio-injection: disabled",
    ),
    Case(
        "IST0103",
        """\
        apiVersion: v1
        kind: Namespace
        metadata: {name: shop, labels: {istio-injection: enabled}}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: old, namespace: shop, labels: {a: b}} # !
        spec: {containers: [{name: main}]}
        status: {podIP: 10.0.0.1, phase: Running}
        """,
        "labels: {a: b}",
        'annotations: {sidecar.istio.io/status: \'{"templates": ["sidecar"]}\'}',
    ),
    Case(
        "IST0106",
        istio("VirtualService", "r", "hosts: [reviews]\nhttps: [] # !\nhttp: [{redirect: {uri: /}}]"),
        "https: [] # !",
        "",
    ),
    Case(
        "IST0107",
        service("a").replace(
            "namespace: default}", "namespace: default,\n  annotations: {\n  sidecar.istio.io/proxyCPU: 1m}} # !"
        ),
        "sidecar.istio.io/proxyCPU: 1m",
        "networking.istio.io/exportTo: '*'",
    ),
    Case(
        "IST0108",
        service("a").replace(
            "namespace: default}", "namespace: default,\n  annotations: {\n  sidecar.istio.io/proxyCpu: 1m}} # !"
        ),
        "sidecar.istio.io/proxyCpu: 1m",
        "networking.istio.io/exportTo: '*'",
    ),
    Case(
        "IST0109",
        service("a")
        + istio("VirtualService", "one", "hosts: [a]\nhttp: [{route: [{destination: {host: a}}]}]")
        + istio("VirtualService", "two", "hosts: [a] # !\nhttp: [{route: [{destination: {host: a}}]}]"),
        "hosts: [a] # !",
        "hosts: [b.example.org]",
    ),
    Case(
        "IST0110",
        deployment("a")
        + istio("Sidecar", "one", "workloadSelector: {labels: {app: a}}\negress: [{hosts: ['./*']}]")
        + istio("Sidecar", "two", "workloadSelector: {labels: {app: a}} # !\negress: [{hosts: ['./*']}]"),
        "{app: a}} # !",
        "{app: b}}",
    ),
    Case(
        "IST0111",
        istio("Sidecar", "one", "egress: [{hosts: ['./*']}]")
        + istio("Sidecar", "two", "egress: [{hosts: ['./*']}]").replace("spec:", "spec: # !"),
        "egress: [{hosts: ['./*']}]\n---",
        "workloadSelector: {labels: {app: a}}\n  egress: [{hosts: ['./*']}]\n---",
    ),
    Case(
        "IST0112",
        service("a")
        + service("b", "{name: http, port: 80}, {name: http-b, port: 81}")
        + istio("VirtualService", "v", "hosts: [a]\nhttp:\n- route:\n  - destination: {host: b} # !"),
        "{host: b} # !",
        "{host: b, port: {number: 81}}",
    ),
    Case(
        "IST0113",
        service("a")
        + istio("PeerAuthentication", "p", "mtls: {mode: STRICT}", SECURITY)
        + istio("DestinationRule", "d", "host: a\ntrafficPolicy:\n  tls:\n    mode: DISABLE # !"),
        "mode: DISABLE # !",
        "mode: ISTIO_MUTUAL",
    ),
    Case(
        "IST0116",
        deployment("a")
        .replace("labels: {app: a", "labels: {app: a")
        .replace("metadata: {labels", "metadata: {\n     labels")
        .replace('"true"}}', '"true"}} # !')
        + service("a")
        + service("b", "{name: tcp, port: 80}", "a"),
        "{name: tcp, port: 80}",
        "{name: http, port: 80}",
    ),
    Case("IST0118", service("a", "\n  {name: web, port: 80} # !\n "), "web", "http-web"),
    Case(
        "IST0119",
        deployment("a")
        + service("a", "\n  {name: web, port: 80} # !\n ")
        + istio(
            "RequestAuthentication",
            "r",
            "selector: {matchLabels: {app: a}}\njwtRules: [{issuer: x}]",
            SECURITY,
        ),
        "web",
        "http-web",
    ),
    Case(
        "IST0122",
        service("a")
        + istio(
            "VirtualService",
            "v",
            "hosts: [a]\nhttp:\n- match:\n  - uri:\n      regex: '(?=a)' # !\n  route: [{destination: {host: a}}]",
        ),
        "(?=a)",
        "a.*",
    ),
    Case(
        "IST0123",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:\n    istio-injection: enabled\n    istio.io/rev: old # !\n",
        "istio.io/rev: old # !",
        "",
    ),
    Case(
        "IST0125",
        deployment("a").replace(
            "metadata: {labels",
            'metadata: {annotations: {\n      traffic.sidecar.istio.io/excludeOutboundPorts: "80,http"}, # !\n      labels',
        ),
        "80,http",
        "80,443",
    ),
    Case(
        "IST0127",
        deployment("a")
        + istio("AuthorizationPolicy", "p", "selector: {matchLabels: {app: b}} # !\nrules: [{}]", SECURITY),
        "{app: b}} # !",
        "{app: a}}",
    ),
    Case(
        "IST0128",
        istio("ServiceEntry", "s", "hosts: [a.org]\nresolution: DNS\nports: [{number: 443, name: tls, protocol: TLS}]")
        + istio(
            "DestinationRule",
            "d",
            "host: a.org\ntrafficPolicy:\n  tls: # !\n    mode: SIMPLE\n    insecureSkipVerify: true",
        ),
        "insecureSkipVerify: true",
        "caCertificates: /roots.pem",
    ),
    Case(
        "IST0129",
        istio("ServiceEntry", "s", "hosts: [a.org]\nresolution: DNS\nports: [{number: 443, name: tls, protocol: TLS}]")
        + istio(
            "DestinationRule",
            "d",
            "host: a.org\ntrafficPolicy:\n  portLevelSettings:\n  - port: {number: 443}\n    tls: # !\n      mode: SIMPLE\n      insecureSkipVerify: true",
        ),
        "insecureSkipVerify: true",
        "caCertificates: /roots.pem",
    ),
    Case(
        "IST0130",
        service("a")
        + istio(
            "VirtualService",
            "v",
            "hosts: [a]\nhttp:\n- match: [{uri: {exact: /a}}]\n  redirect: {uri: /}\n- match: [{uri: {exact: /a}}] # !\n  redirect: {uri: /b}",
        ),
        "[{uri: {exact: /a}}] # !",
        "[{uri: {exact: /b}}]",
    ),
    Case(
        "IST0131",
        service("a")
        + istio(
            "VirtualService",
            "v",
            "hosts: [a]\nhttp:\n- match: [{uri: {exact: /a}}]\n  redirect: {uri: /}\n- match:\n  - uri: {exact: /b}\n  - uri: {exact: /a} # !\n  redirect: {uri: /b}",
        ),
        "{exact: /a} # !",
        "{exact: /c}",
    ),
    Case(
        "IST0132",
        service("a")
        + istio("Gateway", "edge", GATEWAY)
        + istio(
            "VirtualService",
            "v",
            "gateways: [edge]\nhosts:\n- other.example.org # !\nhttp: [{route: [{destination: {host: a}}]}]",
        ),
        "other.example.org",
        "shop.example.org",
    ),
    Case(
        "IST0133",
        service("a")
        + istio(
            "VirtualService",
            "v",
            "hosts: [a]\nhttp:\n- fault:\n    abort: {percentage: {value: 1}} # !\n  route: [{destination: {host: a}}]",
        ),
        "abort: {",
        "abort: {httpStatus: 503, ",
    ),
    Case(
        "IST0134",
        istio(
            "ServiceEntry",
            "s",
            "hosts: [a.org]\nresolution: DNS\nports:\n- {number: 25, name: smtp, protocol: TCP} # !",
        ).replace("{name: s,", '{name: s, labels: {networking.istio.io/enable-autoallocate-ip: "false"},'),
        "protocol: TCP} # !",
        "protocol: TLS}",
    ),
    Case(
        "IST0135",
        deployment("a").replace(
            "metadata: {labels", 'metadata: {annotations: {\n      sidecar.istio.io/inject: "true"}, # !\n      labels'
        ),
        'sidecar.istio.io/inject: "true"}, # !',
        "a: b},",
    ),
    Case(
        "IST0136",
        deployment("a").replace(
            "metadata: {labels", "metadata: {annotations: {\n      sidecar.istio.io/logLevel: info}, # !\n      labels"
        ),
        "sidecar.istio.io/logLevel: info",
        "a: b",
    ),
    Case(
        "IST0137",
        deployment("a").replace("metadata: {labels", "metadata: {\n     labels").replace('"true"}}', '"true"}} # !')
        + service("a", "{name: http, port: 80, targetPort: 8080}")
        + service("b", "{name: http, port: 81, targetPort: 8080}", "a"),
        "port: 81",
        "port: 80",
    ),
    Case(
        "IST0138",
        istio("Gateway", "one", TLS_GATEWAY.replace("HOST", "a.org"))
        + istio(
            "Gateway",
            "two",
            TLS_GATEWAY.replace("HOST", "b.org").replace("credentialName: shop", "credentialName: shop # !"),
        ),
        "credentialName: shop # !",
        "credentialName: other",
    ),
    Case(
        "IST0140",
        service("a")
        + istio("Gateway", "edge", GATEWAY)
        + istio("DestinationRule", "d", "host: a\nsubsets: [{name: v1, labels: {v: '1'}}]")
        + istio("VirtualService", "mesh", "hosts: [a]\nhttp: [{route: [{destination: {host: a, subset: v1}}]}]")
        + istio(
            "VirtualService",
            "out",
            "gateways: [edge]\nhosts: [shop.example.org]\nhttp:\n- route:\n  - destination: {host: a} # !",
        ),
        "{host: a} # !",
        "{host: a, subset: v1}",
    ),
    Case(
        "IST0144",
        deployment("a", ",\n          securityContext: {runAsUser: 1337} # !\n         "),
        "1337",
        "1000",
    ),
    Case(
        "IST0145",
        istio("Gateway", "one", GATEWAY)
        + istio("Gateway", "two", GATEWAY.replace('hosts: ["shop', 'hosts: # !\n    - "shop').replace('org"]', 'org"')),
        'hosts: # !\n      - "shop',
        'hosts: # !\n      - "other',
    ),
    Case(
        "IST0146",
        deployment("a", ",\n          image: auto # !\n         ").replace('"true"', '"false"'),
        '"false"',
        '"true"',
    ),
    Case(
        "IST0147",
        """\
        apiVersion: v1
        kind: Pod
        metadata: {name: edge, namespace: default}
        spec:
          containers:
            - name: istio-proxy
              image: auto # !
        """,
        "namespace: default}",
        'namespace: default, labels: {sidecar.istio.io/inject: "true"}}',
    ),
    Case(
        "IST0149",
        service("a")
        + deployment("edge")
        + istio("Gateway", "edge", GATEWAY)
        + istio(
            "VirtualService",
            "v",
            "gateways: [edge]\nhosts: [shop.example.org]\nhttp:\n- match:\n  - headers: # !\n      '@request.auth.claims.group': {exact: x}\n"
            "  route: [{destination: {host: a}}]",
        ),
        "'@request.auth.claims.group'",
        "group",
    ),
    Case(
        "IST0150",
        """\
        apiVersion: v1
        kind: Service
        metadata: {name: a, namespace: default}
        spec:
          type: ExternalName
          externalName: a.example.org
          ports:
            - {name: tcp, port: 80} # !
        """,
        "name: tcp",
        "name: http",
    ),
    Case(
        "IST0157",
        istio("Telemetry", "t", "tracing:\n- randomSamplingPercentage: 10 # !", "telemetry.istio.io/v1"),
        "- randomSamplingPercentage: 10 # !",
        "- providers: [{name: zipkin}]",
    ),
    Case(
        "IST0159",
        deployment("a")
        + istio(
            "Telemetry",
            "one",
            "selector: {matchLabels: {app: a}}\naccessLogging: [{disabled: true}]",
            "telemetry.istio.io/v1",
        )
        + istio(
            "Telemetry",
            "two",
            "selector: {matchLabels: {app: a}} # !\naccessLogging: [{disabled: true}]",
            "telemetry.istio.io/v1",
        ),
        "{app: a}} # !",
        "{app: b}}",
    ),
    Case(
        "IST0160",
        istio("Telemetry", "one", "accessLogging: [{disabled: true}]", "telemetry.istio.io/v1")
        + istio("Telemetry", "two", "accessLogging: [{disabled: true}]", "telemetry.istio.io/v1").replace(
            "spec:", "spec: # !"
        ),
        "spec: # !",
        "spec:\n  selector: {matchLabels: {app: a}}",
    ),
    Case(
        "IST0161",
        istio(
            "Gateway",
            "edge",
            TLS_GATEWAY.replace("HOST", "a.org").replace("credentialName: shop", "credentialName: shop # !"),
        )
        + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: shop, namespace: default}\nstringData: {tls.crt: nonsense, tls.key: nonsense}\n",
        "credentialName: shop # !",
        "serverCertificate: /a\n      privateKey: /b",
    ),
    Case(
        "IST0162",
        deployment("edge")
        + service("edge", "{name: http, port: 80}")
        + istio("Gateway", "edge", GATEWAY.replace("- port: {number: 80", "- port: # !\n      {number: 8443")),
        "8443",
        "80",
    ),
    Case(
        "IST0172",
        service("a") + istio("DestinationRule", "d", "host: gone # !\ntrafficPolicy: {loadBalancer: {simple: RANDOM}}"),
        "gone # !",
        "a",
    ),
    Case(
        "IST0173",
        deployment("a")
        + service("a")
        + istio("DestinationRule", "d", "host: a\nsubsets:\n- name: v1 # !\n  labels: {version: v1}"),
        "{version: v1}",
        "{app: a}",
    ),
    Case(
        "IST0002",
        service("a")
        + istio("DestinationRule", "d", "host: a\ntrafficPolicy:\n  outlierDetection:\n    consecutiveErrors: 3 # !"),
        "consecutiveErrors: 3 # !",
        "consecutive5xxErrors: 3",
    ),
)


def marked_line(text: str) -> int:
    """The line that ends in `# !`."""
    return next(number for number, line in enumerate(dedent(text).splitlines(), 1) if line.endswith("# !"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.name}".rstrip("-"))
def test_a_mistake_is_told_at_its_line_and_no_more_when_it_is_put_right(case: Case) -> None:
    found = [problem for problem in findings(case.text) if problem.code == case.code]
    assert [problem.origin.line for problem in found] == [marked_line(case.text)], found
    assert all(problem.message and problem.hint for problem in found)
    severity = messages.BY_CODE[case.code].severity
    assert {problem.severity for problem in found} == {Severity.ERROR if case.code == "IST0122" else severity}
    mended = case.text.replace(case.old, case.new, 1)
    assert mended != case.text
    assert [problem for problem in findings(mended) if problem.code == case.code] == []


def test_there_is_a_case_for_every_message() -> None:
    assert {case.code for case in CASES} == set(messages.BY_CODE)


def test_every_message_belongs_to_an_analyzer() -> None:
    listed = {code for analyzer in analyzers.ANALYZERS for code in analyzer.codes}
    assert listed | {message.code for message in analyzers.SCHEMA} == set(messages.BY_CODE)
