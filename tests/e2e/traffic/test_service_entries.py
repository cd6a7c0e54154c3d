"""ServiceEntry: services that the mesh does not have, made known to it."""

from __future__ import annotations

from meltemi.testing.mesh import eventually

from .town import ABROAD, TOWN, Policies, Town


def test_static_endpoints_are_called_by_a_name_of_ones_own(policies: Policies, town: Town) -> None:
    policies.write(
        "ServiceEntry",
        "shop",
        f"""
        hosts: [shop.example]
        addresses: [240.1.1.1]
        location: MESH_EXTERNAL
        resolution: STATIC
        ports:
          - {{number: 80, name: http, protocol: HTTP, targetPort: 8080}}
          - {{number: 9000, name: tcp, protocol: TCP}}
        endpoints: [{{address: {town.stranger.ip}}}]
        """,
    )
    reply = town.caller.get("http://shop.example/")
    assert (reply.status, reply.echo.host) == (200, "shop.example")
    assert reply.echo.pod == town.stranger.name
    assert town.caller.get("tcp://240.1.1.1:9000", messages=("hello",)).ok


def test_names_are_resolved_by_dns(policies: Policies, town: Town) -> None:
    policies.write(
        "ServiceEntry",
        "shop",
        """
        hosts: [shop.example]
        location: MESH_EXTERNAL
        resolution: DNS
        ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
        endpoints: [{address: stranger.abroad.svc.cluster.local}]
        """,
    )
    reply = town.caller.get("http://shop.example/", to=f"{town.stranger.ip}:80", timeout=5)
    assert (reply.status, reply.echo.pod) == (200, town.stranger.name)


def test_without_resolution_the_connection_goes_where_the_client_wanted(policies: Policies, town: Town) -> None:
    policies.write("Sidecar", "default", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}")
    refused = town.caller.get("http://shop.example/", to=f"{town.stranger.ip}:8080")
    assert refused.status == 502
    policies.write(
        "ServiceEntry",
        "shop",
        f"""
        hosts: ["*.example"]
        addresses: [{town.stranger.ip}/32]
        location: MESH_EXTERNAL
        resolution: NONE
        ports:
          - {{number: 8080, name: http, protocol: HTTP}}
          - {{number: 9000, name: tcp, protocol: TCP}}
        """,
    )
    reply = town.caller.get("http://shop.example/", {"host": "shop.example:8080"}, to=f"{town.stranger.ip}:8080")
    assert (reply.status, reply.echo.pod) == (200, town.stranger.name)
    assert town.caller.get(f"tcp://{town.stranger.ip}:9000", messages=("hello",)).ok


def test_workloads_may_be_the_endpoints_and_then_have_their_identities(policies: Policies, town: Town) -> None:
    policies.write(
        "ServiceEntry",
        "library",
        """
        hosts: [library.example]
        addresses: [240.1.1.2]
        location: MESH_INTERNAL
        resolution: STATIC
        ports: [{number: 8080, name: http, protocol: HTTP}]
        workloadSelector: {labels: {app: books}}
        """,
    )
    replies = town.caller.many("http://library.example:8080/", count=40)
    assert replies.pods.keys() == {pod.name for pod in town.books}
    assert "sa/caller" in replies[0].echo.headers["x-forwarded-client-cert"]


def test_policies_hold_for_declared_services_as_for_ones_own(policies: Policies, town: Town) -> None:
    policies.write(
        "ServiceEntry",
        "shop",
        f"""
        hosts: [shop.example]
        addresses: [240.1.1.1]
        location: MESH_EXTERNAL
        resolution: STATIC
        ports: [{{number: 8080, name: http, protocol: HTTP}}]
        endpoints: [{{address: {town.stranger.ip}}}]
        """,
    )
    policies.write(
        "VirtualService",
        "shop",
        """
        hosts: [shop.example]
        http:
          - match: [{uri: {prefix: /slow}}]
            timeout: 0.2s
            route: [{destination: {host: shop.example}}]
          - headers: {request: {set: {x-via: mesh}}}
            route: [{destination: {host: shop.example}}]
        """,
    )
    assert town.caller.get("http://shop.example:8080/").echo.headers["x-via"] == "mesh"
    assert town.caller.get("http://shop.example:8080/slow?delay=3").status == 504


def test_a_declared_service_is_known_where_it_is_exported_to(policies: Policies, town: Town) -> None:
    policies.write("Sidecar", "default", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['*/*']}]}")
    entry = f"""
        hosts: [shop.example]
        exportTo: [{{where}}]
        location: MESH_EXTERNAL
        resolution: STATIC
        ports: [{{{{number: 8080, name: http, protocol: HTTP}}}}]
        endpoints: [{{{{address: {town.stranger.ip}}}}}]
        """
    for where, status in (("'.'", 502), ("town", 200), ("elsewhere", 502), ("'*'", 200)):
        policies.write("ServiceEntry", "shop", entry.format(where=where), namespace=ABROAD)
        reply = town.caller.get("http://shop.example:8080/", to=f"{town.stranger.ip}:8080")
        assert (where, reply.status) == (where, status)


def test_an_external_name_leads_to_another_service(policies: Policies, town: Town) -> None:
    policies.deploy(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "elsewhere", "namespace": ABROAD},
            "spec": {
                "type": "ExternalName",
                "externalName": "stranger.abroad.svc.cluster.local",
                "ports": [{"name": "http", "port": 8080}],
            },
        }
    )
    reply = town.caller.get("http://elsewhere.abroad:8080/", timeout=5)
    assert (reply.status, reply.echo.pod) == (200, town.stranger.name)


def test_hosts_without_addresses_are_given_some_that_tell_them_apart(policies: Policies, town: Town) -> None:
    for name, pod in (("ledger", town.v2), ("stocks", town.stranger)):
        policies.write(
            "ServiceEntry",
            name,
            f"""
            hosts: [{name}.example]
            location: MESH_EXTERNAL
            resolution: STATIC
            ports: [{{number: 9100, name: tcp, protocol: TCP, targetPort: 8080}}]
            endpoints: [{{address: {pod.ip}}}]
            """,
        )
    for name, pod in (("ledger", town.v2), ("stocks", town.stranger)):
        # The address is written into the status, and DNS and the sidecars follow it: nothing tells when all of them have.
        reply = eventually(
            lambda name=name: town.caller.get(f"http://{name}.example:9100/", timeout=5),
            lambda reply: reply.status == 200,
        )
        assert reply.echo.pod == pod.name
        written = town.mesh.get("ServiceEntry", TOWN, name)["status"]["addresses"]
        assert [each["host"] for each in written] == [f"{name}.example"] * 2
        assert written[0]["value"].startswith("240.240.")
    assert not town.stranger.get("http://ledger.example:9100/", timeout=5).ok


def test_ranges_of_addresses_tell_hosts_apart_and_one_answer_of_dns_is_enough(policies: Policies, town: Town) -> None:
    for name, block, pod in (("ledger", "198.51.100.0/24", town.v2), ("stocks", "203.0.113.0/25", town.stranger)):
        policies.write(
            "ServiceEntry",
            name,
            f"""
            hosts: [{name}.example]
            addresses: [{block}]
            location: MESH_EXTERNAL
            resolution: STATIC
            ports: [{{number: 9200, name: tcp, protocol: TCP, targetPort: 8080}}]
            endpoints: [{{address: {pod.ip}}}]
            """,
        )
    policies.write(
        "ServiceEntry",
        "shop",
        """
        hosts: [shop.example]
        addresses: [192.0.2.9]
        location: MESH_EXTERNAL
        resolution: DNS_ROUND_ROBIN
        ports: [{number: 9200, name: tcp, protocol: TCP, targetPort: 8080}]
        endpoints: [{address: stranger.abroad.svc.cluster.local}]
        """,
    )
    for address, pod in (("198.51.100.7", town.v2), ("203.0.113.8", town.stranger), ("192.0.2.9", town.stranger)):
        reply = town.caller.get("http://any.example/", to=f"{address}:9200", timeout=5)
        assert (address, reply.status, reply.echo.pod) == (address, 200, pod.name)
