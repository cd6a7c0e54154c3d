"""The server side of a workload, with real Envoys: what gets in, who may do what, and what is told of it."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import time
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.local.door import Door
from meltemi.model.security import Attribute, Authorization, Condition, MutualTls, Policy, Rule, ValueMatch, Verdict
from meltemi.protos.google.protobuf.struct_pb2 import Value
from meltemi.testing.sandboxed import run_sandboxed
from meltemi.testing.secrets import authority

from .inbound_rig import (
    AUTO,
    BYTES,
    CART,
    GREETING,
    GREETS,
    HTTP,
    PAY,
    THIEF,
    UNDECLARED,
    WORKLOAD,
    InboundRig,
    certificate,
    client_context,
)

pytestmark = pytest.mark.e2e

Test = Callable[[InboundRig], Awaitable[None]]

STRICT, PERMISSIVE, DISABLE = MutualTls.STRICT, MutualTls.PERMISSIVE, MutualTls.DISABLE


def within(test: Test, *clients: SpiffeId, mode: MutualTls = PERMISSIVE, rules: Authorization | None = None) -> None:
    """Run a test in a sandbox, with the workload and these clients behind their Envoys."""

    async def scenario(_: Door) -> None:
        async with InboundRig() as rig:
            offers = rig.server_side(mode, rules)
            for identity in (PAY, *clients):
                await rig.start(identity)
            for identity in clients:
                offers += rig.client_side(identity)
            await rig.publish(*offers)
            await test(rig)

    run_sandboxed(scenario)


def policy(verdict: Verdict, *rules: Rule, name: str = "rules") -> Policy:
    return Policy(ref=Ref("AuthorizationPolicy", "shop", name), verdict=verdict, rules=rules)


def who(*principals: str) -> tuple[tuple[Condition, ...], ...]:
    return ((Condition(Attribute.PRINCIPAL, tuple(map(ValueMatch, principals))),),)


def what(attribute: Attribute, *values: ValueMatch) -> tuple[tuple[Condition, ...], ...]:
    return ((Condition(attribute, values),),)


async def refused(connecting: Awaitable[object]) -> bool:
    """Whether a connection is closed before anything was answered."""
    try:
        await connecting
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
        return True
    return False


PING = b"ping pong"  # more than the head of a TLS record: shorter words are waited for in vain


async def exchange(rig: InboundRig, client: str, port: int, said: bytes = PING) -> bytes:
    """What comes back for some bytes; nothing if the connection is closed."""
    reader, writer = await rig.connect(client, port)
    writer.write(said)
    try:
        async with asyncio.timeout(10):
            return await reader.read(1024)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def greeting(rig: InboundRig, client: str) -> tuple[bytes, float]:
    """What a server that speaks first says, and the seconds it takes to be heard."""
    start = time.monotonic()
    reader, writer = await rig.connect(client, GREETS)
    said = await reader.readexactly(len(GREETING))
    writer.close()
    return said, time.monotonic() - start


# === what gets in ===


def test_connect_crosses_ports_of_tcp_and_is_answered_by_proxies_of_http() -> None:
    connect = b"CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n"

    async def status(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
        reader, writer = connection
        writer.write(connect)
        line = await reader.readline()
        writer.close()
        return line

    async def test(rig: InboundRig) -> None:
        assert (await status(await rig.connect("cart", HTTP))).split()[1] == b"404"
        assert (await status(await rig.connect("", HTTP))).split()[1] == b"404"
        assert rig.seen == []
        assert await status(await rig.connect("cart", BYTES)) == connect.splitlines(keepends=True)[0]

    within(test, CART)


def test_permissive_takes_mutual_tls_and_plaintext() -> None:
    async def test(rig: InboundRig) -> None:
        for client in ("cart", ""):
            assert await rig.get(client) == (200, "HTTP/1.1")
            assert await exchange(rig, client, BYTES) == PING

    within(test, CART)


def test_strict_refuses_plaintext_on_every_port() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.get("cart") == (200, "HTTP/1.1")
        assert await exchange(rig, "cart", BYTES) == PING
        for port in (HTTP, AUTO, UNDECLARED):
            assert await refused(rig.get("", port=port))
        assert await exchange(rig, "", BYTES) == b""
        assert len(rig.seen) == 1

    within(test, CART, mode=STRICT)


def test_disable_takes_plaintext_only() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.get("") == (200, "HTTP/1.1")
        assert await rig.get("", port=UNDECLARED) == (200, "HTTP/1.1")
        assert (await rig.get("cart"))[0] == 503

    within(test, CART, mode=DISABLE)


def test_ports_that_no_service_declares_reach_the_application() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.get("", port=UNDECLARED) == (200, "HTTP/1.1")

    within(test)


def test_what_is_spoken_on_an_undeclared_protocol_is_found_out() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.get("cart", port=AUTO) == (200, "HTTP/1.1")
        assert await rig.get("", port=AUTO) == (200, "HTTP/1.1")
        counted = {
            (labels["source_principal"], labels["request_protocol"])
            for name, labels, _ in await rig.statistics("pay", "envoy_istio")
            if name == "envoy_istio_requests_total"
        }
        assert counted == {(str(CART), "http"), ("unknown", "http")}

    within(test, CART)


def test_a_server_that_speaks_first_is_heard_at_once_over_mutual_tls_and_after_a_second_in_plaintext() -> None:
    async def test(rig: InboundRig) -> None:
        said, seconds = await greeting(rig, "cart")
        assert said == GREETING
        assert seconds < 0.8
        said, seconds = await greeting(rig, "")
        assert said == GREETING
        assert 0.9 < seconds < 3

    within(test, CART)


def test_a_server_that_speaks_first_is_heard_at_once_where_only_plaintext_is_taken() -> None:
    async def test(rig: InboundRig) -> None:
        said, seconds = await greeting(rig, "")
        assert said == GREETING
        assert seconds < 0.8

    within(test, mode=DISABLE)


def test_an_applications_own_tls_is_passed_on_unopened() -> None:
    async def test(rig: InboundRig) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        own = client_context(rig.issuer.trust_bundle).wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            own.do_handshake()
        hello = outgoing.read()
        assert await exchange(rig, "", BYTES, hello) == hello

    within(test)


# === who gets in ===


async def handshake(rig: InboundRig, context: ssl.SSLContext) -> ssl.SSLObject:
    """A connection with TLS straight to the workload's HTTP port, as a sidecar would open it; one answer is awaited."""
    reader, writer = await asyncio.open_connection(WORKLOAD, HTTP, ssl=context, server_hostname=WORKLOAD)
    writer.write(b"GET / HTTP/1.1\r\nhost: pay\r\nconnection: close\r\n\r\n")
    await reader.readuntil(b"\r\n")
    connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return connection


def test_only_certificates_of_the_mesh_and_of_its_trust_domain_are_let_in() -> None:
    async def test(rig: InboundRig) -> None:
        def context(own: tuple[bytes, bytes] | None) -> ssl.SSLContext:
            return client_context(rig.issuer.trust_bundle, own, ("istio-http/1.1",), rig.directory)

        connection = await handshake(rig, context(rig.credential(CART)))
        assert connection.version() == "TLSv1.3"
        other_domain = SpiffeId("elsewhere.local", "shop", "cart")
        for own in (None, rig.credential(other_domain), certificate(authority(), CART)):
            assert await refused(handshake(rig, context(own)))

    within(test, mode=STRICT)


def test_tls_sessions_are_resumed() -> None:
    async def test(rig: InboundRig) -> None:
        context = client_context(rig.issuer.trust_bundle, rig.credential(CART), ("istio-http/1.1",), rig.directory)
        session: ssl.SSLSession | None = None

        def connect(known: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
            with context.wrap_socket(socket.create_connection((WORKLOAD, HTTP)), session=known) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: pay\r\nconnection: close\r\n\r\n")
                while connection.recv(1024):
                    pass
                return bool(connection.session_reused), connection.session

        reused, session = await asyncio.to_thread(connect, None)
        assert not reused
        reused, _ = await asyncio.to_thread(connect, session)
        assert reused

    within(test)


# === what the application gets ===


def test_the_application_gets_http1_although_the_sidecars_speak_http2() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.get("cart") == (200, "HTTP/1.1")
        assert await rig.count("pay", "http.inbound_0.0.0.0_8080;.downstream_rq_http2_total") == 1

    within(test, CART)


def test_websockets_go_through() -> None:
    async def test(rig: InboundRig) -> None:
        async with rig.http.ws_connect(f"http://127.0.0.1:{rig.ports['cart', HTTP]}/") as stream:
            await stream.send_str("hello")
            assert (await stream.receive()).data == "echo hello"

    within(test, CART)


def test_the_application_learns_who_called_and_nothing_of_the_meshs_headers() -> None:
    async def test(rig: InboundRig) -> None:
        await rig.get("cart", headers={"x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/shop/sa/admin"})
        [headers] = rig.seen
        shown = headers["x-forwarded-client-cert"]
        assert f"By={PAY};" in shown
        assert shown.endswith(f"URI={CART}")
        assert "admin" not in shown
        assert not [name for name in headers if "peer-metadata" in name.lower()]

    within(test, CART)


# === what is told ===


def test_metrics_say_who_called_whom() -> None:
    async def test(rig: InboundRig) -> None:
        await rig.get("cart")
        [(_, labels, value)] = await rig.statistics("pay", "envoy_istio_requests_total")
        assert value == 1
        assert labels == {
            "reporter": "destination",
            "source_workload": "cart-v2",
            "source_workload_namespace": "shop",
            "source_principal": str(CART),
            "source_app": "cart",
            "source_version": "v2",
            "source_canonical_service": "cart",
            "source_canonical_revision": "v2",
            "source_cluster": "local",
            "destination_workload": "pay-v2",
            "destination_workload_namespace": "shop",
            "destination_principal": str(PAY),
            "destination_app": "pay",
            "destination_version": "v2",
            "destination_canonical_service": "pay",
            "destination_canonical_revision": "v2",
            "destination_cluster": "local",
            "destination_service": "pay.shop.svc.cluster.local",
            "destination_service_name": "pay",
            "destination_service_namespace": "shop",
            "request_protocol": "http",
            "response_code": "200",
            "response_flags": "-",
            "connection_security_policy": "mutual_tls",
        }
        names = {name for name, _, _ in await rig.statistics("pay", "envoy_istio")}
        for histogram in ("request_duration_milliseconds", "request_bytes", "response_bytes"):
            assert f"envoy_istio_{histogram}_count" in names

    within(test, CART)


def test_nobody_is_believed_who_has_not_shown_a_certificate() -> None:
    async def test(rig: InboundRig) -> None:
        lie = Value()
        lie.struct_value.update({"workload": "admin", "namespace": "shop"})
        header = base64.b64encode(lie.SerializeToString()).decode()
        await rig.get("", headers={"x-envoy-peer-metadata": header})
        await rig.get("cart", headers={"x-envoy-peer-metadata": header})
        told = {labels["source_workload"] for _, labels, _ in await rig.statistics("pay", "envoy_istio_requests_total")}
        assert told == {"unknown", "cart-v2"}
        assert not [name for headers in rig.seen for name in headers if "peer-metadata" in name.lower()]

    within(test, CART)


def test_grpc_calls_are_told_apart_by_their_status() -> None:
    async def test(rig: InboundRig) -> None:
        assert await rig.call_grpc("cart") == 0
        assert await rig.call_grpc("cart", ("x-echo-status", "8")) == 8
        counted = sorted(
            (labels["request_protocol"], labels["grpc_response_status"], labels["response_code"])
            for _, labels, _ in await rig.statistics("pay", "envoy_istio_requests_total")
        )
        assert counted == [("grpc", "0", "200"), ("grpc", "8", "200")]

    within(test, CART)


def test_connections_are_counted_with_their_bytes() -> None:
    async def test(rig: InboundRig) -> None:
        assert await exchange(rig, "cart", BYTES, b"12345") == b"12345"
        async with asyncio.timeout(5):
            while not await rig.statistics("pay", "envoy_istio_tcp_connections_closed_total"):
                pass
        found = {name: (labels, value) for name, labels, value in await rig.statistics("pay", "envoy_istio_tcp")}
        labels, opened = found["envoy_istio_tcp_connections_opened_total"]
        assert opened == 1
        assert labels["reporter"] == "destination"
        assert labels["request_protocol"] == "tcp"
        assert labels["source_principal"] == str(CART)
        assert labels["destination_service"] == "pay.shop.svc.cluster.local"
        assert labels["connection_security_policy"] == "mutual_tls"
        assert found["envoy_istio_tcp_received_bytes_total"][1] == 5
        assert found["envoy_istio_tcp_sent_bytes_total"][1] == 5

    within(test, CART)


# === who may do what ===


def test_an_allow_list_lets_in_whom_it_names_for_what_it_names() -> None:
    reading = Rule(
        "read",
        who("cluster.local/ns/shop/sa/cart"),
        ((*what(Attribute.METHOD, ValueMatch("GET"))[0], *what(Attribute.PATH, ValueMatch("/books/", "prefix"))[0]),),
    )

    async def test(rig: InboundRig) -> None:
        assert (await rig.get("cart", "/books/1"))[0] == 200
        assert await rig.get("cart", "/books/1", method="POST") == (403, "RBAC: access denied")
        assert (await rig.get("cart", "/orders"))[0] == 403
        assert (await rig.get("cart", "/books/../orders"))[0] == 403
        assert (await rig.get("thief", "/books/1"))[0] == 403
        assert (await rig.get("", "/books/1"))[0] == 403
        told = await rig.statistics("pay", "envoy_istio_requests_total")
        assert {labels["response_code"] for _, labels, _ in told} == {"200", "403"}
        assert {labels["source_workload"] for _, labels, _ in told} == {"cart-v2", "thief-v2", "unknown"}
        assert {labels["destination_service_name"] for _, labels, _ in told} == {"pay"}

    within(test, CART, THIEF, rules=Authorization((policy(Verdict.ALLOW, reading),)))


def test_denying_goes_before_allowing() -> None:
    everybody = policy(Verdict.ALLOW, Rule("all", who("cluster.local/ns/shop/sa/cart")), name="allow")
    nobody = policy(Verdict.DENY, Rule("admin", (), what(Attribute.PATH, ValueMatch("/admin", "prefix"))), name="deny")

    async def test(rig: InboundRig) -> None:
        assert (await rig.get("cart", "/"))[0] == 200
        assert (await rig.get("cart", "/admin/x"))[0] == 403

    within(test, CART, rules=Authorization((everybody, nobody)))


def test_namespaces_templates_headers_and_hosts_are_heeded() -> None:
    rule = Rule(
        "all of it",
        ((Condition(Attribute.NAMESPACE, (ValueMatch("sho", "prefix"),)),),),
        (
            (
                Condition(Attribute.PATH, (ValueMatch("/users/{*}/books/{**}", "template"),)),
                Condition(Attribute.HOST, (ValueMatch("pay.example", ignore_case=True),)),
            ),
        ),
        (Condition(Attribute.HEADER, (), (ValueMatch("bot", "prefix"),), key=("x-agent",)),),
    )

    async def test(rig: InboundRig) -> None:
        async def status(path: str = "/users/7/books/a/b", host: str = "PAY.example:80", agent: str = "me") -> int:
            return (await rig.get("cart", path, headers={"host": host, "x-agent": agent}))[0]

        assert await status() == 200
        assert await status(path="/users/7/8/books/a") == 403
        assert await status(host="pay.example.org") == 403
        assert await status(agent="bot-1") == 403
        assert (await rig.get("thief", "/users/7/books/a", headers={"host": "pay.example", "x-agent": "me"}))[0] == 403

    within(test, CART, THIEF, rules=Authorization((policy(Verdict.ALLOW, rule),)))


def test_connections_are_judged_by_who_opens_them() -> None:
    async def test(rig: InboundRig) -> None:
        assert await exchange(rig, "cart", BYTES) == PING
        assert await exchange(rig, "thief", BYTES) == b""
        assert await exchange(rig, "", BYTES) == b""

    rule = Rule("cart", who("cluster.local/ns/shop/sa/cart"))
    within(test, CART, THIEF, rules=Authorization((policy(Verdict.ALLOW, rule),)))


def test_a_rule_about_requests_allows_no_connection_and_denies_all_of_them() -> None:
    get = Rule("get", (), what(Attribute.METHOD, ValueMatch("GET")))

    async def test(rig: InboundRig) -> None:
        assert (await rig.get("cart"))[0] == 200
        assert await exchange(rig, "cart", BYTES) == b""

    within(test, CART, rules=Authorization((policy(Verdict.ALLOW, get),)))

    async def denied(rig: InboundRig) -> None:
        assert (await rig.get("cart"))[0] == 403
        assert (await rig.get("cart", method="PUT"))[0] == 200
        assert await exchange(rig, "cart", BYTES) == b""

    within(denied, CART, rules=Authorization((policy(Verdict.DENY, get),)))


def test_a_dry_run_refuses_nothing_and_is_counted() -> None:
    tried = Policy(
        ref=Ref("AuthorizationPolicy", "shop", "tried"), verdict=Verdict.DENY, rules=(Rule("all"),), dry_run=True
    )

    async def test(rig: InboundRig) -> None:
        assert (await rig.get("cart"))[0] == 200
        scope = "http.inbound_0.0.0.0_8080;.rbac.istio_dry_run_deny_"
        assert await rig.count("pay", f"{scope}.shadow_denied") == 1
        assert await rig.count("pay", f"{scope}.policy.all.shadow_denied") == 1

    within(test, CART, rules=Authorization((tried,)))


def test_a_change_of_policy_holds_at_once_for_connections_that_are_open() -> None:
    nothing = Rule("all", (), what(Attribute.METHOD, ValueMatch("", "present")))

    async def test(rig: InboundRig) -> None:
        async with rig.http.ws_connect(f"http://127.0.0.1:{rig.ports['cart', HTTP]}/") as stream:
            statuses = []
            for rules in (Authorization(), Authorization((policy(Verdict.DENY, nothing),)), Authorization()) * 3:
                await rig.publish(*rig.server_side(PERMISSIVE, rules))
                statuses.append((await rig.get("cart"))[0])
            assert statuses == [200, 403, 200] * 3
            await stream.send_str("still here")
            assert (await stream.receive()).data == "echo still here"
        assert await rig.count("pay", "http.inbound_0.0.0.0_8080;.downstream_cx_total") == 1

    within(test, CART)
