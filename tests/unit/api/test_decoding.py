"""Documents become typed resources, or problems that name file, line, path, what is wrong and the fix."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.api.core import ConfigMap, Pod, Secret
from meltemi.api.decoding import Decoded, decode, decode_document, encode, mesh_config_of
from meltemi.api.mesh import MeshConfig
from meltemi.api.networking import DestinationRule, VirtualService
from meltemi.api.security import PeerAuthentication
from meltemi.api.yaml import load
from meltemi.base.problems import Problem
from meltemi.base.refs import Origin, Ref

REVIEWS = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
  namespace: shop
spec:
  hosts:
  - reviews
  http:
  - name: testers
    match:
    - headers:
        end-user:
          exact: jason
      uri:
        prefix: /reviews
    route:
    - destination:
        host: reviews
        subset: v2
        port:
          number: 9080
    timeout: 2.5s
    retries:
      attempts: 3
      perTryTimeout: 500ms
      retryOn: 5xx,connect-failure
  - route:
    - destination: {host: reviews, subset: v1}
      weight: 75
    - destination: {host: reviews, subset: v3}
      weight: 25
"""


def one(text: str, file: str = "x.yaml") -> Decoded:
    """The outcome of the only document of a text."""
    (document,) = load(text, file).documents
    return decode_document(document)


def only_problem(text: str) -> Problem:
    """The only problem of a text."""
    decoded = one(text)
    assert decoded.resource is None
    (problem,) = decoded.problems
    return problem


def virtual_service(rule: str) -> str:
    """A VirtualService with one HTTP rule, which begins in line 9."""
    head = (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        "metadata:\n  name: reviews\nspec:\n  hosts:\n  - reviews\n  http:\n"
    )
    return head + rule


def test_a_virtual_service_becomes_typed_values() -> None:
    resource = one(REVIEWS, "reviews.yaml").resource
    assert isinstance(resource, VirtualService)
    assert resource.ref == Ref("VirtualService", "shop", "reviews")
    assert resource.origin == Origin("reviews.yaml", 1)
    first, second = resource.spec.http
    assert first.match[0].headers["end-user"].exact == "jason"
    assert first.route[0].destination.port is not None
    assert first.route[0].destination.port.number == 9080
    assert first.timeout == "2.5s"
    assert first.retries is not None
    assert first.retries.retry_on == "5xx,connect-failure"
    assert [target.weight for target in second.route] == [75, 25]


def test_encoding_gives_the_document_back() -> None:
    (document,) = load(REVIEWS).documents
    resource = decode_document(document).resource
    assert resource is not None
    assert encode(resource) == document.data


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_all_served_versions_decode_alike(version: str) -> None:
    resource = one(REVIEWS.replace("istio.io/v1", f"istio.io/{version}")).resource
    assert isinstance(resource, VirtualService)
    assert resource.api_version == f"networking.istio.io/{version}"


def test_an_object_without_a_namespace_gets_the_one_given() -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}, "spec": {"ports": [{"port": 80}]}}
    decoded = decode(data, namespace="shop").resource
    assert decoded is not None
    assert decoded.namespace == "shop"
    assert "namespace" not in data["metadata"]


def test_cluster_scoped_objects_get_no_namespace() -> None:
    resource = decode({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}).resource
    assert resource is not None
    assert resource.ref == Ref("Namespace", "", "shop")


def test_what_protobuf_json_allows_is_understood() -> None:
    resource = one("""\
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: cart, creationTimestamp: null}
spec:
  host: cart
  traffic_policy:
    connection_pool: {http: {http1_max_pending_requests: "8", max_retries: 3.0}}
    outlierDetection: {consecutive_5xx_errors: "5", interval: 1s}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: null}
status: {}
""").resource
    assert isinstance(resource, DestinationRule)
    policy = resource.spec.traffic_policy
    assert policy is not None
    assert policy.connection_pool is not None
    assert policy.connection_pool.http is not None
    assert policy.connection_pool.http.http1_max_pending_requests == 8
    assert policy.connection_pool.http.max_retries == 3
    assert policy.outlier_detection is not None
    assert policy.outlier_detection.consecutive_5xx_errors == 5


def test_a_misspelt_field_is_told_with_line_path_and_the_right_name() -> None:
    problem = only_problem(virtual_service("  - route:\n    - destination:\n        host: a\n        subst: v1\n"))
    assert problem == Problem(
        ref=Ref("VirtualService", "default", "reviews"),
        path="spec.http[0].route[0].destination.subst",
        message="there is no field 'subst' here",
        hint="did you mean subset?",
        code="UnknownField",
        origin=Origin("x.yaml", 12),
    )
    assert str(problem) == (
        "x.yaml:12: error: VirtualService default/reviews: spec.http[0].route[0].destination.subst: "
        "there is no field 'subst' here\n  hint: did you mean subset?"
    )


@pytest.mark.parametrize(
    ("rule", "line", "path", "message", "hint"),
    [
        (
            "  - timeout: 5\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].timeout",
            "5 is not a duration",
            "write it with a unit: 5s",
        ),
        (
            "  - timeout: 5 seconds\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].timeout",
            "'5 seconds' is not a duration",
            "write a number with a unit, such as 5s, 250ms or 1h30m",
        ),
        (
            "  - route:\n    - destination:\n        host: a\n        port: {number: 99999}\n",
            12,
            "spec.http[0].route[0].destination.port.number",
            "99999 is not a port number",
            "write a number from 1 to 65535",
        ),
        (
            "  - match:\n      uri: {prefix: /}\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].match",
            "an object is not a list",
            "begin each item with a dash: '- '",
        ),
        (
            "  - route:\n    - destination: {subset: v1}\n",
            10,
            "spec.http[0].route[0].destination.host",
            "the field host is missing",
            "add host",
        ),
        (
            "  - match:\n    - ignoreUriCase: 'true'\n    route:\n    - destination: {host: a}\n",
            10,
            "spec.http[0].match[0].ignoreUriCase",
            "'true' is not true or false",
            "remove the quotes: true",
        ),
        (
            "  - headers:\n      request:\n        set:\n          x-count: 1\n    route:\n    - destination: {host: a}\n",
            12,
            "spec.http[0].headers.request.set[x-count]",
            "1 is not a text",
            'put it in quotes: "1"',
        ),
        (
            "  - redirect: {derivePort: from_request_port}\n",
            9,
            "spec.http[0].redirect.derivePort",
            "'from_request_port' is not one of FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT",
            "did you mean FROM_REQUEST_PORT?",
        ),
        (
            "  - fault: {delay: {fixedDelay: 1s, percentage: {value: 120}}}\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].fault.delay.percentage.value",
            "120 is not a percentage",
            "write a number from 0 to 100",
        ),
        (
            "  - route: reviews\n",
            9,
            "spec.http[0].route",
            "'reviews' is not a list",
            "write [reviews]",
        ),
        (
            "  - match: '*'\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].match",
            "'*' is not a list",
            'write ["*"]',
        ),
        (
            "  - route:\n    -\n",
            10,
            "spec.http[0].route[0]",
            "the item is empty",
            "remove the dash, or write the item",
        ),
        (
            "  - rewrite: {uri: /a, uRi: /b}\n    route:\n    - destination: {host: a}\n",
            9,
            "spec.http[0].rewrite.uRi",
            "there is no field 'uRi' here",
            "did you mean uri?",
        ),
        (
            "  - mirrorPercentage: {value: 1}\n    mirror_percentage: {value: 2}\n    route:\n    - destination: {host: a}\n",
            10,
            "spec.http[0].mirror_percentage",
            "the field is given twice, as mirrorPercentage and mirror_percentage",
            "keep one of the two",
        ),
    ],
)
def test_each_mistake_is_told_with_its_fix(rule: str, line: int, path: str, message: str, hint: str) -> None:
    problem = only_problem(virtual_service(rule))
    assert (problem.origin, problem.path, problem.message, problem.hint) == (
        Origin("x.yaml", line),
        path,
        message,
        hint,
    )


def test_all_mistakes_are_told_at_once() -> None:
    decoded = one(
        virtual_service(
            "  - timeout: 5\n    weight: 3\n    route:\n    - destination: {hots: a}\n      weight: many\n"
        ).replace("name: reviews", "name: Reviews")
    )
    assert decoded.resource is None
    assert [(problem.origin.line, problem.path) for problem in decoded.problems] == [
        (4, "metadata.name"),
        (9, "spec.http[0].timeout"),
        (10, "spec.http[0].weight"),
        (12, "spec.http[0].route[0].destination.hots"),
        (12, "spec.http[0].route[0].destination.host"),
        (13, "spec.http[0].route[0].weight"),
    ]


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        ("kind: Service\nmetadata: {name: a}\n", "apiVersion", "add apiVersion at the top"),
        ("apiVersion: v1\nmetadata: {name: a}\n", "kind", "add kind at the top"),
        ("apiVersion: v1\nkind: Servcie\nmetadata: {name: a}\n", "kind", "did you mean Service?"),
        (
            "apiVersion: security.istio.io/v1alpha1\nkind: PeerAuthentication\nmetadata: {name: a}\n",
            "apiVersion",
            "write one of security.istio.io/v1, security.istio.io/v1beta1",
        ),
        ("apiVersion: v1\nkind: Service\nspec: {ports: []}\n", "metadata", "add metadata with a name"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", "metadata.name", "add a name under metadata"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a, lables: {}}\n", "metadata.lables", "did you mean labels?"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n$origin: {}\n", "", ""),
    ],
)
def test_the_head_of_an_object_is_checked(text: str, path: str, hint: str) -> None:
    decoded = one(text)
    if not path:
        assert decoded.resource is not None
        assert decoded.resource.origin == Origin("x.yaml", 1)
        return
    assert [(problem.path, problem.hint) for problem in decoded.problems] == [(path, hint)]


def test_a_key_given_twice_takes_the_object_out() -> None:
    problem = only_problem("apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  name: b\n")
    assert (problem.code, problem.origin.line) == ("DuplicateKey", 5)
    assert problem.ref == Ref("Service", "", "b")


def test_an_origin_cannot_be_forged() -> None:
    decoded = one(REVIEWS + "$origin: {file: other.yaml, line: 7}\n")
    assert decoded.resource is None
    assert decoded.problems[0].code == "UnknownField"


def test_kubernetes_kinds_pass_over_fields_that_are_not_modelled() -> None:
    resource = one("""\
apiVersion: v1
kind: Pod
metadata: {name: cart, managedFields: [{manager: me}]}
spec:
  tolerations: [{operator: Exists}]
  containers:
  - name: cart
    image: cart:1
    imagePullPolicy: Always
    stdinOnce: true
    readinessProbe: {httpGet: {port: http, path: /ready}, periodSeconds: 2}
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    resources: {requests: {cpu: 1, memory: 64Mi}}
status:
  podIP: 10.0.0.1
  conditions: [{type: Ready, status: "True", lastTransitionTime: null}]
""").resource
    assert isinstance(resource, Pod)
    assert resource.status.pod_ip == "10.0.0.1"
    assert resource.status.ready
    assert resource.spec.containers[0].readiness_probe is not None
    assert resource.spec.containers[0].readiness_probe.http_get is not None
    assert resource.spec.containers[0].readiness_probe.http_get.port == "http"


def test_kubernetes_kinds_are_not_read_as_protobuf() -> None:
    problem = only_problem("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  replicas: '2'\n")
    assert (problem.path, problem.hint, problem.origin.line) == ("spec.replicas", "remove the quotes: 2", 5)


def test_a_secret_never_shows_what_it_holds() -> None:
    resource = one("""\
apiVersion: v1
kind: Secret
metadata: {name: login}
data: {password: aHVudGVyMg==}
stringData: {token: opensesame}
""").resource
    assert isinstance(resource, Secret)
    assert "hunter2" not in repr(resource)
    assert "aHVudGVyMg" not in repr(resource)
    assert "opensesame" not in repr(resource)
    assert {key: value.reveal() for key, value in resource.values.items()} == {
        "password": b"hunter2",
        "token": b"opensesame",
    }
    assert encode(resource)["data"] == {"password": "aHVudGVyMg=="}
    assert encode(resource)["stringData"] == {"token": "opensesame"}


def test_a_broken_secret_is_told_without_its_value() -> None:
    decoded = one("apiVersion: v1\nkind: Secret\nmetadata: {name: login}\ndata:\n  password: hunter2!\n  pin: 1234\n")
    texts = [str(problem) for problem in decoded.problems]
    assert [problem.origin.line for problem in decoded.problems] == [5, 6]
    assert not any("hunter2" in text or "1234" in text for text in texts)


def test_ports_of_a_peer_authentication_are_numbers() -> None:
    text = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: cart}
spec:
  selector: {matchLabels: {app: cart}}
  portLevelMtls:
    8080: {mode: DISABLE}
"""
    resource = one(text).resource
    assert isinstance(resource, PeerAuthentication)
    assert resource.spec.port_level_mtls[8080].mode == "DISABLE"
    assert encode(resource)["spec"]["portLevelMtls"] == {"8080": {"mode": "DISABLE"}}
    assert only_problem(text.replace("8080", "http")).path == "spec.portLevelMtls[http]"


def test_a_bare_mesh_configuration_is_an_object_too() -> None:
    resource = one("trustDomain: shop.example\nmeshMTLS: {minProtocolVersion: TLSV1_3}\n", "mesh.yaml").resource
    assert isinstance(resource, MeshConfig)
    assert resource.ref == Ref("MeshConfig", "", "default")
    assert resource.spec.trust_domain == "shop.example"
    assert resource.spec.mesh_mtls is not None


def test_problems_of_a_bare_mesh_configuration_have_its_own_paths_and_lines() -> None:
    problem = only_problem("trustDomain: a\ndefaultConfig:\n  concurency: 2\n")
    assert (problem.path, problem.origin.line, problem.hint) == (
        "defaultConfig.concurency",
        3,
        "did you mean concurrency?",
    )


def test_the_mesh_configuration_is_read_from_istios_config_map() -> None:
    meta = {"name": "istio", "namespace": "istio-system"}
    data: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {}}
    good = decode({**data, "data": {"mesh": "trustDomain: a\n"}}).resource
    bad = decode({**data, "data": {"mesh": "trustDomian: a\nenableTracing: true\n"}}).resource
    assert isinstance(good, ConfigMap)
    assert isinstance(bad, ConfigMap)
    decoded = mesh_config_of(good).resource
    assert isinstance(decoded, MeshConfig)
    assert decoded.spec.trust_domain == "a"
    (problem,) = mesh_config_of(bad).problems
    assert (problem.ref, problem.path) == (good.ref, "data.mesh.trustDomian")
