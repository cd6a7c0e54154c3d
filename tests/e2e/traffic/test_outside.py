"""What nobody has declared: let through, or refused."""

from __future__ import annotations

from meltemi.testing.clients import EchoPod

from .town import Policies, Town


def undeclared(client: EchoPod, town: Town, port: int = 8080) -> str:
    """What becomes of a call to an address that no service has: "through", a status, or "cut off"."""
    url = f"http://{town.stranger.ip}:{port}/" if port == 8080 else f"tcp://{town.stranger.ip}:{port}"
    reply = client.get(url, messages=("hello",), timeout=5)
    if reply.error:
        return "cut off"
    return "through" if reply.ok else str(reply.status)


def test_unknown_destinations_are_let_through_as_they_are(town: Town) -> None:
    assert undeclared(town.caller, town) == "through"
    assert undeclared(town.caller, town, 19000 - 10000) == "through"
    reply = town.caller.get(f"http://{town.stranger.ip}:8080/", {"host": "elsewhere.example"})
    assert reply.echo.host == "elsewhere.example"
    # A port on which no service of the mesh listens.
    assert town.caller.get(f"http://{town.stranger.ip}:19000/seen").status == 200


def test_registry_only_refuses_them_for_the_clients_of_a_scope(policies: Policies, town: Town) -> None:
    policies.write(
        "Sidecar",
        "caller",
        "{workloadSelector: {labels: {app: caller}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}",
    )
    assert undeclared(town.caller, town) == "502"
    assert undeclared(town.caller, town, 9000) == "cut off"
    assert town.caller.get(f"http://{town.stranger.ip}:19000/seen").error
    assert town.caller.get("http://books:8080/").status == 200
    assert town.caller.get("http://stranger.abroad:8080/").status == 200
    assert undeclared(town.rival, town) == "through"


def test_registry_only_refuses_them_for_everyone(policies: Policies, town: Town) -> None:
    policies.apply(
        """
        apiVersion: meltemi.dev/v1alpha1
        kind: MeshConfig
        metadata: {name: mesh, namespace: istio-system}
        spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
        """
    )
    for client in (town.caller, town.rival):
        assert undeclared(client, town) == "502"
        assert undeclared(client, town, 9000) == "cut off"
        assert client.get("http://books:8080/").status == 200


def test_a_sidecar_may_send_them_to_a_service(policies: Policies, town: Town) -> None:
    policies.write(
        "Sidecar",
        "caller",
        """
        workloadSelector: {labels: {app: caller}}
        egress: [{hosts: [abroad/*]}]
        outboundTrafficPolicy:
          mode: ALLOW_ANY
          egressProxy: {host: books.town.svc.cluster.local, port: {number: 8080}}
        """,
    )
    books = {pod.name for pod in town.books}
    requested = town.caller.get(f"http://{town.stranger.ip}:8080/", {"host": "elsewhere.example"})
    assert requested.echo.pod in books
    assert requested.echo.host == "elsewhere.example"
    connected = town.caller.get(f"http://{town.stranger.ip}:19000/")
    assert connected.echo.pod in books
    assert "sa/caller" in connected.echo.headers["x-forwarded-client-cert"]
    assert town.rival.get(f"http://{town.stranger.ip}:8080/").echo.pod == town.stranger.name
