"""The command line against a running mesh: what it shows, what it refuses, and what it says when Envoy refuses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import yaml

from .rig import BOOKSHOP, Mesh

REJECTED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - match: [{uri: {regex: "((a{999}){999})"}}]
      route: [{destination: {host: reviews}}]
    - route: [{destination: {host: reviews}}]
"""

FAULTY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: good, namespace: bookshop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: faulty, namespace: bookshop}
spec:
  hosts: [reviews]
  http:
    - timeout: soon
      rout: [{destination: {host: reviews}}]
"""


def rows(text: str) -> list[list[str]]:
    """A table's rows, without its head."""
    return [line.split() for line in text.splitlines()[1:]]


def test_status_shows_the_mesh_at_a_glance(bookshop: Mesh) -> None:
    glance = bookshop.meltemi("status").out
    assert "11 of 11 in sync" in glance
    assert "10 of 10 ready" in glance
    assert "istio-ingress/gateway: http://127.0.0.1:" in glance
    told = json.loads(bookshop.meltemi("status", "-o", "json").out)
    assert len(told["proxies"]) == 11


def test_proxy_status_says_how_far_each_proxy_has_come(bookshop: Mesh) -> None:
    told = rows(bookshop.meltemi("proxy-status").out)
    assert len(told) == 11
    assert {word for row in told for word in row[2:7]} <= {"SYNCED", "-"}
    proxies = json.loads(bookshop.meltemi("proxy-status", "-o", "json").out)
    assert {proxy["types"]["cds"]["state"] for proxy in proxies} == {"synced"}


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("listeners", "virtualInbound"),
        ("routes", "reviews.bookshop"),
        ("clusters", "reviews.bookshop"),
        ("endpoints", "reviews-v1"),
        ("secrets", ""),
        ("all", "reviews.bookshop"),
    ],
)
def test_proxy_config_shows_each_kind_and_where_it_came_from(bookshop: Mesh, kind: str, word: str) -> None:
    command = ("proxy-config", kind, "deploy/storefront-v1")
    shown = bookshop.meltemi(*command).out
    assert word in shown
    if kind in ("routes", "clusters", "endpoints", "all"):
        assert "bookshop.yaml:" in shown  # The file and line of the user's object.
    told: Any = json.loads(bookshop.meltemi(*command, "-o", "json").out)
    assert isinstance(told, dict if kind == "all" else list)
    if kind not in ("all", "secrets"):
        assert all(row["name"] and row["version"] and row["content"] for row in told)
    assert yaml.safe_load(bookshop.meltemi(*command, "-o", "yaml").out) is not None


def test_get_and_describe_show_objects_in_every_form(bookshop: Mesh) -> None:
    wide = bookshop.meltemi("get", "pods", "-n", "bookshop", "-o", "wide").out
    assert "10.244." in wide
    assert all(row[1] == "2/2" for row in rows(wide))
    written = yaml.safe_load(bookshop.meltemi("get", "gateway", "bookshop", "-n", "bookshop", "-o", "yaml").out)
    assert written["kind"] == "Gateway"
    assert written["status"]["conditions"]
    listed = json.loads(bookshop.meltemi("get", "deployments", "-A", "-o", "json").out)
    assert len(listed["items"]) == 10
    described = bookshop.meltemi("describe", "virtualservice", "storefront", "-n", "bookshop").out
    for word in ("Conditions:", "Programmed", "Live:", "gateway.yaml:"):
        assert word in described
    missing = bookshop.meltemi("get", "virtualservice", "nobody", "-n", "bookshop", status=1)
    assert "nobody" in missing.err


def test_files_with_mistakes_are_refused_whole_with_file_line_and_field(bookshop: Mesh) -> None:
    file = bookshop.directory / "faulty.yaml"
    file.write_text(FAULTY)
    for verb in ("apply", "validate"):
        refused = bookshop.meltemi(verb, "-f", file, status=1).text
        assert "faulty.yaml:12" in refused
        assert "spec.http[0].timeout" in refused
        assert "faulty.yaml:13" in refused
        assert "rout" in refused
        assert "hint:" in refused
    bookshop.meltemi("get", "configmap", "good", "-n", "bookshop", status=1)


def test_what_envoy_refuses_is_told_in_its_words_and_the_last_good_stays(bookshop: Mesh) -> None:
    refused = bookshop.meltemi("apply", "--wait", "-f", "-", typed=REJECTED, status=1)
    try:
        assert "Envoy refused" in refused.text
        assert "invalid repetition size" in refused.text
        glance = bookshop.meltemi("status", status=1).text
        assert "invalid repetition size" in glance
        assert "REJECTED" in bookshop.meltemi("proxy-status", status=None).out
        described = bookshop.meltemi("describe", "virtualservice", "reviews", "-n", "bookshop", status=None).out
        assert "invalid repetition size" in described
    finally:
        gone = bookshop.meltemi("delete", "-f", "-", typed=REJECTED)
    assert "deleted" in gone.out
    assert "problems        none" in bookshop.meltemi("status", status=None).out


def test_logs_and_commands_reach_workloads_by_any_of_their_names(bookshop: Mesh) -> None:
    assert "serving on port 9080" in bookshop.meltemi("logs", "deploy/ratings-v1").out
    pod = rows(bookshop.meltemi("get", "pods", "-n", "bookshop").out)[0][0]
    assert bookshop.meltemi("exec", pod, "--", "sh", "-c", "hostname").out.strip() == pod
    assert bookshop.meltemi("exec", "deploy/till-v1", "--", "sh", "-c", "exit 7", status=7).out == ""
    echoed = bookshop.meltemi("exec", "-i", "deploy/till-v1", "--", "cat", typed="over the wire")
    assert echoed.out == "over the wire"
    versions = bookshop.meltemi("version").out
    assert "1.40.0" in versions
    assert "revision" in versions


async def test_applying_the_example_again_changes_nothing_and_sends_nothing(bookshop: Mesh) -> None:
    before = {name: proxy["sent"] for name, proxy in (await bookshop.proxies()).items()}
    files = ("-f", BOOKSHOP / "bookshop.yaml", "-f", BOOKSHOP / "gateway.yaml")
    again = await asyncio.to_thread(bookshop.meltemi, "apply", *files, "--wait")
    assert {line.split()[-1] for line in again.out.splitlines()[:-1]} == {"unchanged"}
    assert {name: proxy["sent"] for name, proxy in (await bookshop.proxies()).items()} == before
