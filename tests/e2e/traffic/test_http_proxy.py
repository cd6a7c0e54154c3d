"""The explicit HTTP proxy of sidecars, for applications that are told of a proxy (MeshConfig `proxyHttpPort`)."""

from __future__ import annotations

from .town import Policies, Town

MESH = """
apiVersion: meltemi.dev/v1alpha1
kind: MeshConfig
metadata: {name: mesh, namespace: istio-system}
spec: {proxyHttpPort: 15007}
"""
PROXY = "127.0.0.1:15007"


def test_requests_to_the_proxy_go_to_the_service_and_port_that_they_name(policies: Policies, town: Town) -> None:
    policies.apply(MESH)
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - match: [{uri: {exact: /answered}}]
            directResponse: {status: 418}
          - route: [{destination: {host: books}}]
        """,
    )
    reply = town.caller.get("http://books:8080/", to=PROXY)
    assert reply.status == 200
    assert reply.echo.host == "books:8080"
    assert town.caller.get("http://books.town.svc.cluster.local:8080/answered", to=PROXY).status == 418
    assert town.caller.get("http://books:8600/", to=PROXY).status == 200
    assert town.caller.get("http://books:1/", to=PROXY).status == 502
    assert town.caller.get("http://unknown.example/", to=PROXY).status == 502
    chat = town.caller.get("ws://books:8080/chat", to=PROXY, messages=("a", "b"))
    assert chat.ok, chat
    assert len(chat.messages) == 2
