"""Files are read in one step, and only what has no error comes out."""

from __future__ import annotations

import time
from pathlib import Path

from meltemi.api.decoding import decode
from meltemi.api.reading import combined, files_of, read, read_file
from meltemi.api.yaml import load
from meltemi.base.problems import Severity

BOOKS = """\
apiVersion: v1
kind: Service
metadata: {name: books}
spec:
  ports: [{name: http, port: 80}]
  externalTrafficPolicyy: Local
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: books
spec:
  hosts: [books]
  http:
  - route:
    - destination: {host: books}
    timeout: 1us
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: books}
spec:
  host: books
  trafficPolicy:
    loadBalancer: {localityLbSetting: {enabled: true}}
---
apiVersion: v1
kind: Pdo
metadata: {name: books}
"""


def test_resources_without_errors_come_out_and_everything_wrong_is_told_with_its_line() -> None:
    outcome = read(BOOKS, "books.yaml", namespace="shop")
    assert [str(resource.ref) for resource in outcome.resources] == [
        "Service shop/books",
        "DestinationRule shop/books",
    ]
    assert [document.data["kind"] for document in outcome.documents] == ["Service", "DestinationRule"]
    assert not outcome.ok
    assert [(problem.origin.line, problem.code, problem.severity) for problem in outcome.problems] == [
        (6, "FieldNotHonoured", Severity.WARNING),
        (17, "OutOfRange", Severity.ERROR),
        (25, "FieldNotActedOn", Severity.WARNING),
        (28, "UnknownKind", Severity.ERROR),
    ]


def test_directories_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.yaml", "a/c.yml", "d.json", ".hidden/e.yaml", "f.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text('{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}')
    found = files_of(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a/c.yml", "b.yaml", "d.json"]
    together = combined(read_file(path) for path in found)
    assert together.ok
    assert [resource.origin.file for resource in together.resources] == [str(path) for path in found]


def test_decoding_keeps_up_with_thousands_of_objects() -> None:
    rule = (
        "{match: [{uri: {prefix: /x}}], route: [{destination: {host: a, port: {number: 80}}, weight: 1}], timeout: 1s}"
    )
    head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\n"
    data = load(f"{head}spec: {{hosts: [a], http: [{', '.join([rule] * 5)}]}}").documents[0].data
    started = time.process_time()
    assert all(decode(data).resource for _ in range(2000))
    assert time.process_time() - started < 1.0  # a tenth of that on an idle machine
