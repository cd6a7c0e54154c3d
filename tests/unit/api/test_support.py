"""No field is silently ignored."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import inspect

from meltemi.api import core, paths
from meltemi.api.decoding import decode_document, relocate
from meltemi.api.meta import Resource
from meltemi.api.shaping import core_of, fields_of
from meltemi.api.support import (
    ACTED_ON,
    NEVER_ACTED_ON,
    NOT_ACTED_ON,
    WITHOUT_EFFECT_HERE,
    WITHOUT_MEANING_HERE,
    unhonoured,
    unsupported,
)
from meltemi.api.yaml import load
from meltemi.base.problems import Severity


def warned(text: str) -> list[tuple[str, int]]:
    """Paths and lines of the fields without effect."""
    (document,) = load(text, "x.yaml").documents
    resource = decode_document(document).resource
    assert resource is not None
    found = [relocate(problem, document.lines) for problem in unsupported(resource)]
    assert all(problem.code == NOT_ACTED_ON and problem.severity is Severity.WARNING for problem in found)
    return [(problem.path, problem.origin.line) for problem in found]


def resolves(struct: type[msgspec.Struct], names: list[str]) -> bool:
    """Whether a dotted path leads to a field."""
    kind: inspect.Type = inspect.type_info(struct)
    for name in names:
        kind = core_of(kind)
        while isinstance(kind, inspect.VarTupleType | inspect.DictType):
            kind = core_of(kind.item_type if isinstance(kind, inspect.VarTupleType) else kind.value_type)
        if not isinstance(kind, inspect.StructType) or name not in fields_of(kind.cls):
            return False
        kind = fields_of(kind.cls)[name].type
    return True


@pytest.mark.parametrize("kind", list(ACTED_ON), ids=lambda kind: kind.__name__)
def test_every_path_of_the_table_exists(kind: type[Resource]) -> None:
    assert [path for path in sorted(ACTED_ON[kind]) if not resolves(kind, path.split("."))] == []


@pytest.mark.parametrize("kind", list(NEVER_ACTED_ON), ids=lambda kind: kind.__name__)
def test_what_is_never_acted_on_exists_and_is_not_acted_on(kind: type[Resource]) -> None:
    never = NEVER_ACTED_ON[kind]
    assert [path for path in sorted(never) if not resolves(kind, path.split("."))] == []
    assert never.keys().isdisjoint(ACTED_ON[kind])


def test_a_field_that_will_never_have_effect_says_why() -> None:
    text = """\
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  hboneIdleTimeout: 5s
"""
    (document,) = load(text, "x.yaml").documents
    resource = decode_document(document).resource
    assert resource is not None
    (problem,) = unsupported(resource)
    assert problem.path == "spec.hboneIdleTimeout"
    assert "ambient mode" in problem.message


def test_settings_of_proxies_that_the_mesh_acts_on_are_not_told() -> None:
    text = """\
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh}
spec:
  enablePrometheusMerge: false
  defaultConfig: {concurrency: 2, proxyMetadata: {A: b}, holdApplicationUntilProxyStarts: true}
"""
    assert warned(text) == [("spec.defaultConfig.holdApplicationUntilProxyStarts", 6)]


def test_a_field_without_effect_is_told_with_its_line() -> None:
    assert warned("""\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart}
spec:
  host: cart
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting:
        failover:
        - {from: a, to: b}
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      loadBalancer: {localityLbSetting: {enabled: true}}
""") == [
        ("spec.trafficPolicy.loadBalancer.localityLbSetting", 9),
        ("spec.subsets[1].trafficPolicy.loadBalancer.localityLbSetting", 18),
    ]


def test_fields_that_count_are_not_told() -> None:
    text = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart}
spec:
  hosts: [cart]
  http:
  - match: [{headers: {a: {exact: b}}, uri: {prefix: /}}]
    route: [{destination: {host: cart, subset: v1, port: {number: 80}}, headers: {request: {remove: [x]}}}]
    fault: {delay: {fixedDelay: 1s, percentage: {value: 10}}}
    corsPolicy: {allowOrigins: [{exact: "*"}]}
"""
    assert warned(text) == []


def test_a_kind_that_nothing_acts_on_is_told_once() -> None:
    text = """\
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: all}
spec:
  accessLogging: [{disabled: true}]
"""
    assert warned(text) == [("spec", 4)]


def test_deep_paths_of_an_untold_branch_are_told_at_the_top_only() -> None:
    text = """\
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec:
  trustDomain: a
  ca: {address: "ca:1", tlsSettings: {mode: SIMPLE}}
"""
    assert warned(text) == [("spec.ca", 6)]


def test_one_machine_tells_which_fields_of_a_pod_it_does_not_honour() -> None:
    (document,) = load("""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, managedFields: []}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    spec:
      nodeSelector: {disk: ssd}
      hostPID: true
      containers:
      - name: cart
        image: cart:1
        imagePullPolicy: Always
        volumeDevices: [{name: a, devicePath: /dev/a}]
""").documents
    assert [(problem.path, problem.severity) for problem in unhonoured(document.data)] == [
        ("spec.template.spec.hostPID", Severity.WARNING),
        ("spec.template.spec.containers[0].volumeDevices", Severity.WARNING),
    ]


def test_a_field_that_is_decoded_and_not_honoured_is_told_unless_it_asks_for_what_is_so_anyhow() -> None:
    documents = load("""\
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    spec:
      hostNetwork: true
      enableServiceLinks: false
      containers:
      - name: cart
        securityContext: {runAsUser: 1000}
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  sessionAffinity: ClientIP
  internalTrafficPolicy: Cluster
""").documents
    assert [[problem.path for problem in unhonoured(document.data)] for document in documents] == [
        ["spec.template.spec.containers[0].securityContext", "spec.template.spec.hostNetwork"],
        ["spec.sessionAffinity"],
    ]


@pytest.mark.parametrize("kind", list(WITHOUT_EFFECT_HERE), ids=lambda kind: kind.__name__)
def test_every_field_that_is_not_honoured_exists(kind: type[Resource]) -> None:
    assert [path for path in sorted(WITHOUT_EFFECT_HERE[kind]) if not resolves(kind, path.split("."))] == []


def test_fields_passed_over_in_silence_are_those_of_placing_and_packaging() -> None:
    assert "spec.containers.image" in WITHOUT_MEANING_HERE[core.Pod]


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("spec.http[0].route", ("spec", "http", 0, "route")),
        ("metadata.labels[app.kubernetes.io/name]", ("metadata", "labels", "app.kubernetes.io/name")),
        ("", ()),
    ],
)
def test_paths_are_taken_apart(path: str, parts: tuple[str | int, ...]) -> None:
    assert paths.split(path) == parts


def test_paths_are_the_same_field_for_all_items() -> None:
    assert paths.without_indexes("spec.http[3].route[1].weight") == "spec.http.route.weight"
