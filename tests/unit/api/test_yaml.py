"""Files become documents whose every value can be led back to its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from meltemi.api.yaml import load, load_file

SHOP = """\
# The shop
apiVersion: v1
kind: Service
metadata:
  name: cart
  labels:
    app.kubernetes.io/name: cart
spec:
  ports:
  - port: 80
  - name: grpc
    port: 90
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"""


def test_documents_know_where_they_begin() -> None:
    loaded = load(SHOP, "shop.yaml")
    assert [str(document.origin) for document in loaded.documents] == ["shop.yaml:2", "shop.yaml:14"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 2),
        ("kind", 3),
        ("metadata.labels[app.kubernetes.io/name]", 7),
        ("spec.ports[0]", 10),
        ("spec.ports[1].port", 12),
    ],
)
def test_a_path_leads_to_its_line(path: str, line: int) -> None:
    assert load(SHOP, "shop.yaml").documents[0].lines.line(path) == line


def test_a_path_that_does_not_exist_leads_to_what_contains_it() -> None:
    assert load(SHOP).documents[0].lines.line("spec.ports[1].targetPort") == 11
    assert load(SHOP).documents[0].lines.line("spec.ports[7]") == 9


def test_values_are_read_as_kubernetes_reads_them() -> None:
    text = """\
on: yes
time: 2026-11-01
ratio: 12:30
mode: 0644
big: 0x1F
none: ~
empty:
float: 1.5
80: port
quoted: "yes"
"""
    assert load(text).documents[0].data == {
        "on": True,
        "time": "2026-11-01",
        "ratio": "12:30",
        "mode": 0o644,
        "big": 31,
        "none": None,
        "empty": None,
        "float": 1.5,
        "80": "port",
        "quoted": "yes",
    }


def test_a_key_given_twice_is_a_fault_of_its_document() -> None:
    (document,) = load("kind: A\nspec:\n  host: a\n  host: b\n", "x.yaml").documents
    (fault,) = document.faults
    assert (fault.path, fault.code) == ("spec.host", "DuplicateKey")
    assert document.lines.line(fault.path) == 4


def test_a_syntax_error_in_one_document_does_not_hide_the_others() -> None:
    loaded = load("kind: A\n---\nkind: B\n  name: b\n---\nkind: C\n---\nkind: [D\n", "x.yaml")
    assert [document.data["kind"] for document in loaded.documents] == ["A", "C"]
    first, second = loaded.problems
    assert str(first.origin) == "x.yaml:4"
    assert "this is not YAML" in first.message
    assert "indentation" in first.hint
    assert str(second.origin) == "x.yaml:9"


def test_a_tab_is_named_as_the_culprit() -> None:
    (problem,) = load("spec:\n\thost: a\n", "x.yaml").problems
    assert problem.origin.line == 2
    assert problem.hint == "indent with spaces: YAML does not allow tabs"


def test_lists_are_taken_apart_with_the_lines_of_their_items() -> None:
    text = """\
apiVersion: v1
kind: List
items:
- kind: A
  metadata:
    name: a
- kind: B
  metadata: {name: b, name: c}
"""
    first, second = load(text, "x.yaml").documents
    assert first.lines.line("metadata.name") == 6
    assert str(second.origin) == "x.yaml:7"
    assert second.faults[0].path == "metadata.name"
    assert first.faults == ()


def test_empty_documents_and_comments_are_passed_over() -> None:
    assert load("---\n# nothing\n---\nkind: A\n---\n").documents[0].data == {"kind": "A"}
    assert load("") == load("# nothing\n")


def test_a_document_that_is_not_an_object_is_a_problem() -> None:
    (problem,) = load("- a\n- b\n", "x.yaml").problems
    assert problem.hint == "begin it with apiVersion and kind"


def test_json_is_read_and_knows_its_lines() -> None:
    (document,) = load('{\n  "kind": "A",\n\t"spec": {"hosts": ["a",\n "b"]}}', "x.json").documents
    assert document.data == {"kind": "A", "spec": {"hosts": ["a", "b"]}}
    assert document.lines.line("spec.hosts[1]") == 4


def test_anchors_and_merges_are_followed() -> None:
    text = "base: &base {a: 1, b: 2}\nmore:\n  <<: *base\n  b: 3\n"
    assert load(text).documents[0].data["more"] == {"a": 1, "b": 3}


def test_an_alias_within_itself_is_a_fault() -> None:
    (document,) = load("a: &a [*a]\n").documents
    assert document.faults[0].message == "an alias contains itself"


def test_aliases_cannot_make_a_document_huge() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (document,) = load("\n".join(rows)).documents
    assert [fault.message for fault in document.faults] == ["aliases make this document too large"]


def test_a_file_that_is_not_utf8_is_a_problem_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"kind: A\nname: \xff\n")
    (problem,) = load_file(path).problems
    assert problem.origin.line == 2
