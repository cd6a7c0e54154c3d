"""AuthorizationPolicy: who may do what, decided by the server's sidecar."""

from __future__ import annotations

from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import eventually

from .town import Policies, Town

BOOKS = "http://books.town:8080"


def allowed(client: EchoPod, path: str = "/", **more: str) -> bool:
    """Whether a request gets through. What an old connection still had in it is passed by."""
    reply = client.get(f"{BOOKS}{path}", **more)
    assert reply.status in (200, 403), reply
    if reply.status == 403:
        assert reply.body == "RBAC: access denied"
    return reply.status == 200


def test_only_those_on_the_list_get_in(policies: Policies, town: Town) -> None:
    policies.write(
        "AuthorizationPolicy",
        "books",
        """
        selector: {matchLabels: {app: books}}
        action: ALLOW
        rules:
          - from: [{source: {principals: [cluster.local/ns/town/sa/caller]}}]
        """,
    )
    eventually(lambda: [allowed(town.rival) for _ in range(6)], lambda got: not any(got))
    assert all(allowed(town.caller) for _ in range(6))
    assert not allowed(town.stranger)


def test_what_is_denied_is_denied_whatever_is_allowed(policies: Policies, town: Town) -> None:
    policies.write(
        "AuthorizationPolicy",
        "everybody",
        "{selector: {matchLabels: {app: books}}, action: ALLOW, rules: [{}]}",
    )
    policies.write(
        "AuthorizationPolicy",
        "not-rival",
        """
        selector: {matchLabels: {app: books}}
        action: DENY
        rules:
          - from: [{source: {principals: ["*/sa/rival"]}}]
            to: [{operation: {paths: [/admin/*, "*.key"], notMethods: [GET]}}]
        """,
    )
    eventually(lambda: [allowed(town.rival, "/admin/x", method="PUT") for _ in range(6)], lambda got: not any(got))
    assert not allowed(town.rival, "/some.key", method="DELETE")
    assert allowed(town.rival, "/admin/x")
    assert allowed(town.rival, "/", method="PUT")
    assert allowed(town.caller, "/admin/x", method="PUT")


def test_rules_look_at_method_path_host_and_headers(policies: Policies, town: Town) -> None:
    policies.write(
        "AuthorizationPolicy",
        "books",
        """
        selector: {matchLabels: {app: books}}
        rules:
          - to: [{operation: {methods: [GET], paths: [/open/*]}}]
          - to: [{operation: {hosts: ["books.town:8080"], paths: [/hosted]}}]
          - when: [{key: "request.headers[x-pass]", values: [yes-*]}]
          - from: [{source: {namespaces: [town], notPrincipals: [cluster.local/ns/town/sa/rival]}}]
            to: [{operation: {paths: [/home]}}]
        """,
    )
    eventually(lambda: [allowed(town.caller, "/closed") for _ in range(6)], lambda got: not any(got))
    assert allowed(town.caller, "/open/x")
    assert not allowed(town.caller, "/open/x", method="POST")
    assert allowed(town.caller, "/hosted")
    assert town.caller.get(f"{BOOKS}/", {"x-pass": "yes-please"}).status == 200
    assert town.caller.get(f"{BOOKS}/", {"x-pass": "no"}).status == 403
    assert allowed(town.caller, "/home")
    assert not allowed(town.rival, "/home")
    assert not allowed(town.stranger, "/home")


def test_nothing_is_allowed_by_a_policy_without_rules(policies: Policies, town: Town) -> None:
    policies.write("AuthorizationPolicy", "nothing", "{}")
    eventually(lambda: [allowed(town.caller) for _ in range(6)], lambda got: not any(got))


def test_tcp_is_allowed_by_port_and_identity(policies: Policies, town: Town) -> None:
    policies.write(
        "AuthorizationPolicy",
        "books",
        """
        selector: {matchLabels: {app: books}}
        rules:
          - from: [{source: {principals: [cluster.local/ns/town/sa/caller]}}]
            to: [{operation: {ports: ["9000"]}}]
        """,
    )

    def talks(client: EchoPod, port: int) -> bool:
        return client.get(f"tcp://books.town:{port}", messages=("a",), timeout=3).ok

    eventually(lambda: [talks(town.rival, 9000) for _ in range(6)], lambda got: not any(got))
    assert all(talks(town.caller, 9000) for _ in range(6))
    assert not talks(town.stranger, 9000)
    assert not talks(town.caller, 8501)
    assert not allowed(town.caller)


def test_grpc_is_denied_with_its_own_status(policies: Policies, town: Town) -> None:
    policies.write(
        "AuthorizationPolicy",
        "books",
        """
        selector: {matchLabels: {app: books}}
        action: DENY
        rules: [{to: [{operation: {paths: [/echo/server]}}]}]
        """,
    )
    refused = eventually(
        lambda: [town.caller.get("grpc://books:7070", kind="server") for _ in range(6)],
        lambda replies: all(reply.status == 7 for reply in replies),
    )
    assert refused[0].body == "RBAC: access denied"
    assert town.caller.get("grpc://books:7070", kind="unary").status == 0
