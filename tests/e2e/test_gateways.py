"""Gateways with a real Envoy at the edge and another before the workload: TLS modes, routes, and who is believed."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from meltemi.base.refs import Ref
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import private_pem
from meltemi.envoy import secrets
from meltemi.envoy.resource import Resource
from meltemi.local.door import Door
from meltemi.model.clients import ProxyKind
from meltemi.model.gateways import GatewayServer, ServerTls, ServerTlsMode
from meltemi.model.routes import Forward, HttpMatch, Route, Target, TcpMatch, TcpRoute, VirtualHost, WeightedTarget
from meltemi.model.security import Attribute, Authorization, Condition, MutualTls, Policy, Rule, ValueMatch, Verdict
from meltemi.model.services import Protocol
from meltemi.testing.certificates import Issuer
from meltemi.testing.sandboxed import run_sandboxed
from meltemi.testing.secrets import authority

from .http3_client import get_over_quic
from .inbound_rig import BYTES, CART, EDGE, HOST, HTTP, OWN_TLS, PAY, InboundRig, certificate, client_context

pytestmark = pytest.mark.e2e

Test = Callable[[InboundRig], Awaitable[None]]

PLAIN, SECURE, RAW = 18080, 18443, 19000
SIMPLE = ServerTls(mode=ServerTlsMode.SIMPLE, credentials=("kubernetes://istio-system/shop",))
MUTUAL = ServerTls(
    mode=ServerTlsMode.MUTUAL,
    credentials=("kubernetes://istio-system/shop",),
    ca_credential="kubernetes://istio-system/shop-cacert",
)
CLIENT = SpiffeId("outside.example", "people", "ada")


def within(
    test: Test,
    *servers: GatewayServer,
    rules: Authorization | None = None,
    names: Sequence[str] = ("shop.example",),
) -> None:
    """Run a test in a sandbox, with the workload behind its Envoy and a gateway with these servers before it."""

    async def scenario(_: Door) -> None:
        async with InboundRig() as rig:
            rig.hub.vault.put(*_credential(rig, *names))
            await rig.start(PAY)
            await rig.start(EDGE, ProxyKind.GATEWAY)
            await rig.publish(*rig.server_side(MutualTls.STRICT), *rig.edge_side(*servers, rules=rules))
            await test(rig)

    run_sandboxed(scenario)


def _credential(rig: InboundRig, *names: str) -> tuple[str, Resource]:
    chain, key = rig.credential(EDGE, *names)
    [resource] = secrets.of_kubernetes("istio-system", "shop", {"tls.crt": chain, "tls.key": key})
    return resource.name, resource


def to_pay(port: int = HTTP) -> Forward:
    return Forward((WeightedTarget(Target("shop", HOST, port)),))


def host(name: str, *, require_tls: bool = False) -> VirtualHost:
    return VirtualHost(f"{name}:80", (name,), (Route(name="pay", match=HttpMatch(), action=to_pay()),), require_tls)


def plaintext(*hosts: VirtualHost) -> GatewayServer:
    return GatewayServer(name=f"http.{PLAIN}", port=PLAIN, protocol=Protocol.HTTP, virtual_hosts=hosts)


def https(tls: ServerTls, *names: str) -> GatewayServer:
    return GatewayServer(
        name=f"https.{SECURE}.{names[0]}",
        port=SECURE,
        protocol=Protocol.HTTPS,
        hosts=names,
        tls=tls,
        virtual_hosts=tuple(map(host, names)),
    )


async def get(
    rig: InboundRig, url: str, context: ssl.SSLContext | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str]]:
    """A request from outside. The host of the URL is asked for, and the gateway is where it is found."""
    name = url.partition("://")[2].partition(":")[0].partition("/")[0]
    connector = aiohttp.TCPConnector(resolver=_Here(), force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get(
            url, ssl=context or True, headers={"host": name, **(headers or {})}, allow_redirects=False
        ) as response,
    ):
        await response.read()
        return response.status, response.headers


class _Here(aiohttp.abc.AbstractResolver):
    """Finds every name on loopback."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


def outside(rig: InboundRig, own: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
    """A client that checks the gateway's certificate and its name."""
    context = client_context(rig.issuer.trust_bundle, own, ("http/1.1",), rig.directory)
    context.check_hostname = True
    return context


async def accepts(rig: InboundRig, roots: str, url: str, own: tuple[bytes, bytes]) -> None:
    """Make an authority known whose certificates clients may show, and wait until this one is let in."""
    [resource] = secrets.of_kubernetes("istio-system", "shop-cacert", {"ca.crt": roots.encode()})
    rig.hub.vault.put(resource.name, resource)
    async with asyncio.timeout(10):
        while await fails(get(rig, url, outside(rig, own))):
            pass


async def fails(connecting: Awaitable[object]) -> bool:
    try:
        await connecting
    except (aiohttp.ClientError, ConnectionError, ssl.SSLError, TimeoutError):
        return True
    return False


# === requests ===


def test_requests_are_routed_by_host_and_enter_the_mesh_as_the_gateways() -> None:
    async def test(rig: InboundRig) -> None:
        status, _ = await get(rig, f"http://shop.example:{PLAIN}/")
        assert status == 200
        [headers] = rig.seen
        assert f"URI={EDGE}" in headers["x-forwarded-client-cert"]
        assert (await get(rig, f"http://other.example:{PLAIN}/"))[0] == 404

    within(test, plaintext(host("shop.example")))


def test_a_client_from_outside_is_not_believed() -> None:
    async def test(rig: InboundRig) -> None:
        lies = {
            "x-forwarded-client-cert": "URI=spiffe://cluster.local/ns/shop/sa/admin",
            "x-envoy-peer-metadata": "bGllcw==",
            "x-envoy-decorator-operation": "lie",
        }
        assert (await get(rig, f"http://shop.example:{PLAIN}/", headers=lies))[0] == 200
        [headers] = rig.seen
        assert "admin" not in headers["x-forwarded-client-cert"]
        assert "x-envoy-peer-metadata" not in headers
        [(_, labels, _)] = await rig.statistics("pay", "envoy_istio_requests_total")
        assert labels["source_workload"] == "gateway-v2"
        assert labels["source_principal"] == str(EDGE)

    within(test, plaintext(host("shop.example")))


def test_the_clients_address_is_that_of_its_connection() -> None:
    async def test(rig: InboundRig) -> None:
        await get(rig, f"http://shop.example:{PLAIN}/", headers={"x-forwarded-for": "10.9.9.9"})
        [headers] = rig.seen
        assert headers["X-Forwarded-For"].split(",")[-1] == "127.0.0.1"

    within(test, plaintext(host("shop.example")))


def test_plaintext_is_sent_to_https_where_that_is_asked_for() -> None:
    async def test(rig: InboundRig) -> None:
        status, headers = await get(rig, f"http://shop.example:{PLAIN}/cart?a=b")
        assert (status, headers["location"]) == (301, "https://shop.example/cart?a=b")

    within(test, plaintext(host("shop.example", require_tls=True)))


def test_metrics_of_a_gateway_say_what_it_called() -> None:
    async def test(rig: InboundRig) -> None:
        await get(rig, f"http://shop.example:{PLAIN}/")
        [(_, labels, _)] = await rig.statistics("gateway", "envoy_istio_requests_total")
        assert labels["reporter"] == "source"
        assert labels["source_workload"] == "gateway-v2"
        assert labels["source_principal"] == str(EDGE)
        assert labels["destination_workload"] == "pay-v2"
        assert labels["destination_principal"] == str(PAY)
        assert labels["destination_service"] == HOST
        assert labels["response_code"] == "200"

    within(test, plaintext(host("shop.example")))


def test_policies_hold_at_the_edge() -> None:
    admin = (Condition(Attribute.PATH, (ValueMatch("/admin", "prefix"),)),)
    policy = Policy(
        ref=Ref("AuthorizationPolicy", "istio-system", "no-admin"),
        verdict=Verdict.DENY,
        rules=(Rule("admin", (), (admin,)),),
    )

    async def test(rig: InboundRig) -> None:
        assert (await get(rig, f"http://shop.example:{PLAIN}/"))[0] == 200
        assert (await get(rig, f"http://shop.example:{PLAIN}/admin"))[0] == 403

    within(test, plaintext(host("shop.example")), rules=Authorization((policy,)))


def test_connect_is_refused_as_no_route_is_for_it() -> None:
    async def test(rig: InboundRig) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", PLAIN)
        writer.write(b"CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"404"
        assert rig.seen == []
        writer.close()

    within(test, plaintext(host("shop.example")))


# === TLS ===


def test_simple_tls_shows_the_certificate_of_the_name_and_asks_for_none() -> None:
    async def test(rig: InboundRig) -> None:
        status, _ = await get(rig, f"https://shop.example:{SECURE}/", outside(rig))
        assert status == 200
        assert await fails(get(rig, f"https://other.example:{SECURE}/", outside(rig)))

    within(test, https(SIMPLE, "shop.example"))


def test_a_renewed_certificate_is_shown_to_the_next_client() -> None:
    async def test(rig: InboundRig) -> None:
        async def serial() -> int:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", SECURE, ssl=outside(rig), server_hostname="shop.example"
            )
            number = writer.get_extra_info("peercert")["serialNumber"]
            writer.close()
            return int(number, 16)

        first = await serial()
        rig.hub.vault.put(*_credential(rig, "shop.example"))
        async with asyncio.timeout(10):
            while await serial() == first:
                pass

    within(test, https(SIMPLE, "shop.example"))


def test_mutual_tls_takes_clients_of_the_named_authority_only() -> None:
    clients = authority()

    async def test(rig: InboundRig) -> None:
        url = f"https://shop.example:{SECURE}/"
        await accepts(rig, clients.trust_bundle, url, certificate(clients, CLIENT))
        assert f"URI={CLIENT}" in rig.seen[-1]["x-forwarded-client-cert"]
        assert await fails(get(rig, url, outside(rig)))
        assert await fails(get(rig, url, outside(rig, rig.credential(CLIENT))))

    within(test, https(MUTUAL, "shop.example"))


def test_clients_may_show_a_certificate_or_none_but_not_a_forged_one() -> None:
    clients = authority()
    optional = replace(MUTUAL, mode=ServerTlsMode.OPTIONAL_MUTUAL)

    async def test(rig: InboundRig) -> None:
        url = f"https://shop.example:{SECURE}/"
        await accepts(rig, clients.trust_bundle, url, certificate(clients, CLIENT))
        assert f"URI={CLIENT}" in rig.seen[-1]["x-forwarded-client-cert"]
        assert (await get(rig, url, outside(rig)))[0] == 200
        assert str(CLIENT) not in rig.seen[-1]["x-forwarded-client-cert"]
        assert await fails(get(rig, url, outside(rig, rig.credential(CLIENT))))

    within(test, https(optional, "shop.example"))


def test_clients_of_the_mesh_are_known_by_their_mesh_identity_at_the_edge_too() -> None:
    async def test(rig: InboundRig) -> None:
        context = client_context(rig.issuer.trust_bundle, rig.credential(CART), ("http/1.1",), rig.directory)
        assert (await get(rig, f"https://shop.example:{SECURE}/", context))[0] == 200
        assert f"URI={CART}" in rig.seen[-1]["x-forwarded-client-cert"]
        context = client_context(rig.issuer.trust_bundle, None, ("http/1.1",), rig.directory)
        assert await fails(get(rig, f"https://shop.example:{SECURE}/", context))

    within(test, https(ServerTls(mode=ServerTlsMode.ISTIO_MUTUAL), "shop.example"))


def test_a_client_certificate_that_the_server_does_not_list_is_refused() -> None:
    clients = authority()
    known, unknown = (certificate(clients, CLIENT) for _ in range(2))
    leaf = x509.load_pem_x509_certificate(known[0])
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    by_key = replace(MUTUAL, key_digests=(b64encode(sha256(spki).digest()).decode(),))
    by_hash = replace(MUTUAL, certificate_digests=(leaf.fingerprint(hashes.SHA256()).hex(),))

    async def test(rig: InboundRig) -> None:
        for name in ("key.example", "hash.example"):
            url = f"https://{name}:{SECURE}/"
            await accepts(rig, clients.trust_bundle, url, known)
            assert await fails(get(rig, url, outside(rig, unknown)))

    within(test, https(by_key, "key.example"), https(by_hash, "hash.example"), names=("key.example", "hash.example"))


def test_a_client_certificate_that_its_authority_has_revoked_is_refused(tmp_path: Path) -> None:
    issuer = Issuer("clients")
    good, revoked = (issuer.client("ada.example") for _ in range(2))
    (tmp_path / "revoked.pem").write_text(issuer.revoking(revoked))

    async def test(rig: InboundRig) -> None:
        url = f"https://shop.example:{SECURE}/"
        await accepts(rig, issuer.certificate, url, (good.certificate.encode(), good.key.encode()))
        assert await fails(get(rig, url, outside(rig, (revoked.certificate.encode(), revoked.key.encode()))))

    within(test, https(replace(MUTUAL, revoked_file=str(tmp_path / "revoked.pem")), "shop.example"))


def test_of_two_certificates_each_client_is_shown_the_one_that_it_understands() -> None:
    both = replace(SIMPLE, credentials=("kubernetes://istio-system/shop", "kubernetes://istio-system/shop-rsa"))

    async def test(rig: InboundRig) -> None:
        key = rsa.generate_private_key(65537, 2048)
        issued = rig.issuer.issue(key.public_key(), EDGE, timedelta(hours=1), datetime.now(UTC), ("shop.example",))
        chain = "".join(issued.chain[:-1]).encode()
        [resource] = secrets.of_kubernetes("istio-system", "shop-rsa", {"tls.crt": chain, "tls.key": private_pem(key)})
        rig.hub.vault.put(resource.name, resource)
        for kind in ("RSA", "ECDSA"):
            context = outside(rig)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
            async with asyncio.timeout(10):
                while await fails(get(rig, f"https://shop.example:{SECURE}/", context)):
                    pass

    within(test, https(both, "shop.example"))


def test_a_credential_that_is_missing_does_not_keep_other_names_from_being_served() -> None:
    missing = ServerTls(mode=ServerTlsMode.SIMPLE, credentials=("kubernetes://istio-system/none",))

    async def test(rig: InboundRig) -> None:
        assert (await get(rig, f"https://shop.example:{SECURE}/", outside(rig)))[0] == 200
        assert await fails(get(rig, f"https://none.example:{SECURE}/", outside(rig)))

    within(test, https(SIMPLE, "shop.example"), https(missing, "none.example"))


def test_tls_is_passed_through_by_name_unopened() -> None:
    def passing(name: str, port: int) -> TcpRoute:
        return TcpRoute(match=TcpMatch(sni_hosts=(name,)), targets=to_pay(port).targets)

    server = GatewayServer(
        name=f"tls.{SECURE}",
        port=SECURE,
        protocol=Protocol.TLS,
        hosts=("own.example",),
        tls=ServerTls(mode=ServerTlsMode.PASSTHROUGH),
        tcp_routes=(passing("own.example", OWN_TLS),),
    )

    async def test(rig: InboundRig) -> None:
        assert (await get(rig, f"https://own.example:{SECURE}/", outside(rig)))[0] == 200
        assert await fails(get(rig, f"https://shop.example:{SECURE}/", outside(rig)))

    within(test, server)


# === HTTP/3 ===


def test_requests_over_quic_reach_what_those_over_tcp_do() -> None:
    async def test(rig: InboundRig) -> None:
        status, headers = await get(rig, f"https://shop.example:{SECURE}/", outside(rig))
        assert (status, headers["alt-svc"]) == (200, f'h3=":{SECURE}"; ma=86400')
        answer = await get_over_quic("shop.example", SECURE, rig.issuer.trust_bundle, path="/over-quic")
        assert answer[":status"] == "200"
        assert f"URI={EDGE}" in rig.seen[-1]["x-forwarded-client-cert"]
        opened = await get_over_quic("shop.example", SECURE, rig.issuer.trust_bundle, websocket=True)
        assert opened[":status"] == "200"
        assert rig.seen[-1]["Upgrade"] == "websocket"
        _, headers = await get(rig, f"https://plain.example:{SECURE}/", outside(rig))
        assert "alt-svc" not in headers
        assert await fails(get_over_quic("plain.example", SECURE, rig.issuer.trust_bundle, seconds=1))

    within(
        test,
        replace(https(SIMPLE, "shop.example"), http3_port=SECURE),
        https(SIMPLE, "plain.example"),
        names=("shop.example", "plain.example"),
    )


def test_a_server_that_is_added_later_is_reached_over_quic_as_well() -> None:
    servers = [replace(https(SIMPLE, name), http3_port=SECURE) for name in ("shop.example", "late.example")]

    async def test(rig: InboundRig) -> None:
        await get_over_quic("shop.example", SECURE, rig.issuer.trust_bundle)
        await rig.publish(*rig.server_side(MutualTls.STRICT), *rig.edge_side(*servers))
        for name in ("shop.example", "late.example"):
            assert (await get_over_quic(name, SECURE, rig.issuer.trust_bundle))[":status"] == "200"

    within(test, servers[0], names=("shop.example", "late.example"))


def test_clients_over_quic_are_asked_for_their_certificates_too() -> None:
    clients = authority()
    optional = replace(MUTUAL, mode=ServerTlsMode.OPTIONAL_MUTUAL)

    async def test(rig: InboundRig) -> None:
        own = certificate(clients, CLIENT)
        await accepts(rig, clients.trust_bundle, f"https://shop.example:{SECURE}/", own)
        for name in ("shop.example", "optional.example"):
            answer = await get_over_quic(name, SECURE, rig.issuer.trust_bundle, own)
            assert answer[":status"] == "200"
            assert f"URI={CLIENT}" in rig.seen[-1]["x-forwarded-client-cert"]
            assert await fails(get_over_quic(name, SECURE, rig.issuer.trust_bundle, rig.credential(CLIENT)))
        assert await fails(get_over_quic("shop.example", SECURE, rig.issuer.trust_bundle))
        answer = await get_over_quic("optional.example", SECURE, rig.issuer.trust_bundle)
        assert answer[":status"] == "200"
        assert str(CLIENT) not in rig.seen[-1]["x-forwarded-client-cert"]

    within(
        test,
        replace(https(MUTUAL, "shop.example"), http3_port=SECURE),
        replace(https(optional, "optional.example"), http3_port=SECURE),
        names=("shop.example", "optional.example"),
    )


# === connections ===


def test_connections_are_passed_on() -> None:
    server = GatewayServer(
        name=f"tcp.{RAW}", port=RAW, protocol=Protocol.TCP, tcp_routes=(TcpRoute(targets=to_pay(BYTES).targets),)
    )

    async def test(rig: InboundRig) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", RAW)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    within(test, server)


def test_tls_of_connections_is_opened_at_the_edge() -> None:
    server = GatewayServer(
        name=f"tls.{RAW}",
        port=RAW,
        protocol=Protocol.TLS,
        hosts=("shop.example",),
        tls=SIMPLE,
        tcp_routes=(TcpRoute(targets=to_pay(BYTES).targets),),
    )

    async def test(rig: InboundRig) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", RAW, ssl=outside(rig), server_hostname="shop.example"
        )
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()

    within(test, server)
