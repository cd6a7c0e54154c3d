"""exportTo and Sidecar: who knows of a service and of a rule."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from meltemi.testing import workloads
from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import eventually

from .town import ABROAD, TOWN, Policies, Town

FAR = "far"


@pytest.fixture(scope="module")
def visitor(town: Town) -> Iterator[EchoPod]:
    """A meshed client in another namespace."""
    with town.mesh.namespace(FAR):
        ports = workloads.PORTS[:1]
        town.mesh.deploy(workloads.account("visitor", FAR), workloads.deployment("visitor", FAR, ports))
        yield town.mesh.pod(FAR, "app=visitor")


MARKED = """
hosts: [books.town.svc.cluster.local]
exportTo: [{where}]
http: [{{headers: {{request: {{set: {{x-rule: marked}}}}}}, route: [{{destination: {{host: books.town.svc.cluster.local}}}}]}}]
"""


def mark(client: EchoPod) -> str:
    """The mark that a rule has set on a client's request; empty if it holds not for that client."""
    return client.get("http://books.town:8080/").echo.headers.get("x-rule", "")


@pytest.mark.parametrize(("where", "seen_far"), [("'.'", ""), ("'*'", "marked"), (FAR, "marked"), ("elsewhere", "")])
def test_a_rule_holds_where_it_is_exported_to(
    policies: Policies, town: Town, visitor: EchoPod, where: str, seen_far: str
) -> None:
    policies.write("VirtualService", "books", MARKED.format(where=where))
    assert mark(visitor) == seen_far
    assert mark(town.caller) == ("marked" if where in ("'.'", "'*'") else "")


def test_a_destination_rule_holds_where_it_is_exported_to(policies: Policies, town: Town, visitor: EchoPod) -> None:
    policies.write(
        "DestinationRule",
        "books",
        "{host: books, exportTo: ['.'], trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, tls: {mode: DISABLE}}}",
    )
    assert "x-forwarded-client-cert" not in town.caller.get("http://books.town:8080/").echo.headers
    assert "sa/visitor" in visitor.get("http://books.town:8080/").echo.headers["x-forwarded-client-cert"]


def test_a_service_that_is_not_exported_does_not_exist_elsewhere(
    policies: Policies, town: Town, visitor: EchoPod
) -> None:
    policies.write(
        "Sidecar",
        "default",
        "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}",
        namespace=FAR,
    )
    hidden = workloads.service("diary", TOWN, workloads.PORTS, selector={"app": "books"})
    hidden["metadata"]["annotations"] = {"networking.istio.io/exportTo": "."}
    policies.deploy(hidden)
    assert town.caller.get("http://diary.town:8080/").status == 200
    assert visitor.get("http://diary.town:8080/").status == 502
    assert visitor.get("http://books.town:8080/").status == 200


def test_a_sidecar_scope_narrows_what_its_clients_know(policies: Policies, town: Town) -> None:
    policies.write(
        "Sidecar",
        "caller",
        """
        workloadSelector: {labels: {app: caller}}
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        egress: [{hosts: [./*]}]
        """,
    )
    assert town.caller.get("http://books:8080/").status == 200
    assert town.caller.get("http://stranger.abroad:8080/").status == 502
    assert town.caller.get("tcp://stranger.abroad:9001", hear_first=True, timeout=2).error
    assert town.rival.get("http://stranger.abroad:8080/").status == 200
    known = {row.name for row in town.mesh.proxy_config(f"{town.caller.name}.{TOWN}", "clusters")}
    assert "outbound|8080||books.town.svc.cluster.local" in known
    assert not [name for name in known if ABROAD in name]


def test_a_scope_may_show_a_service_at_one_port_only(policies: Policies, town: Town) -> None:
    policies.write(
        "Sidecar",
        "caller",
        """
        workloadSelector: {labels: {app: caller}}
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        egress:
        - {port: {number: 8080, protocol: HTTP, name: http}, hosts: [./books.town.svc.cluster.local]}
        - {port: {number: 9000, protocol: TCP, name: tcp}, hosts: [./books.town.svc.cluster.local]}
        """,
    )
    assert town.caller.get("http://books:8080/").status == 200
    assert town.caller.get("tcp://books:9000", messages=("a",)).ok
    assert town.caller.get("http://books:8081/", timeout=2).error
    assert town.caller.get("tcp://books:9001", hear_first=True, timeout=2).error
    assert town.caller.get("http://stranger.abroad:8080/").status == 502
    assert town.rival.get("http://books:8081/").status == 200


def test_what_the_rules_of_a_host_in_scope_lead_to_is_reached(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{route: [{destination: {host: stranger.abroad.svc.cluster.local, port: {number: 8080}}}]}]}",
    )
    policies.write(
        "Sidecar",
        "caller",
        """
        workloadSelector: {labels: {app: caller}}
        outboundTrafficPolicy: {mode: REGISTRY_ONLY}
        egress: [{hosts: [./*]}]
        """,
    )
    reply = town.caller.get("http://books:8080/")
    assert reply.status == 200
    assert reply.echo.pod == town.stranger.name
    assert town.caller.get("http://stranger.abroad:8080/").status == 502


def test_a_scope_that_is_widened_again_brings_services_back(policies: Policies, town: Town) -> None:
    for hosts, status in (("./*", 502), ("./*, abroad/*", 200), ("./*", 502)):
        policies.write(
            "Sidecar",
            "caller",
            f"{{workloadSelector: {{labels: {{app: caller}}}}, outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}, egress: [{{hosts: [{hosts}]}}]}}",
        )
        assert town.caller.get("http://stranger.abroad:8080/").status == status


def test_ingress_of_a_scope_leads_to_another_port_of_the_application(policies: Policies, town: Town) -> None:
    policies.write(
        "Sidecar",
        "books",
        """
        workloadSelector: {labels: {app: books}}
        ingress: [{port: {number: 8080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:8081"}]
        egress: [{hosts: ["*/*"]}]
        """,
    )
    reply = eventually(
        lambda: town.caller.get("http://books:8080/"),
        lambda reply: reply.status == 200 and reply.echo.peer == "127.0.0.1",
    )
    assert "sa/caller" in reply.echo.headers["x-forwarded-client-cert"]


def test_an_application_may_talk_to_its_own_proxy_instead_of_being_captured(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{headers: {request: {set: {x-rule: marked}}}, route: [{destination: {host: books, port: {number: 8081}}}]}]}",
    )
    policies.deploy(workloads.service("desk", TOWN, workloads.PORTS[:1], selector={"app": "books"}))
    policies.write(
        "Sidecar",
        "caller",
        """
        workloadSelector: {labels: {app: caller}}
        egress:
        - port: {number: 3080, protocol: HTTP, name: http}
          captureMode: NONE
          hosts: [./desk.town.svc.cluster.local]
        - port: {number: 8081, protocol: HTTP, name: http-many}
          bind: 127.0.0.2
          captureMode: NONE
          hosts: [./*, abroad/*]
        - port: {number: 9000, protocol: TCP, name: tcp}
          captureMode: NONE
          hosts: [./books.town.svc.cluster.local]
        """,
    )
    many = "http://127.0.0.2:8081/"
    reply = town.caller.get(many, {"host": "books"})
    books = {pod.name for pod in town.books}
    assert reply.echo.pod in books
    assert reply.echo.headers["x-rule"] == "marked"
    assert "sa/caller" in reply.echo.headers["x-forwarded-client-cert"]
    assert town.caller.get(many, {"host": "stranger.abroad"}).echo.pod == town.stranger.name
    assert town.caller.get(many, {"host": "nobody.example"}).status == 502
    assert town.caller.get("http://127.0.0.1:3080/").echo.pod in books
    assert town.caller.get("tcp://127.0.0.1:9000", messages=("hello",)).messages[0].split()[1] in books
