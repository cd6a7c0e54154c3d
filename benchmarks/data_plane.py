"""What the mesh costs a request: two sidecars as Meltemi configures them, against two hand-written Envoys with mTLS.

    python -m benchmarks.data_plane [--quick] [--without metrics|sizes|filters]

Everything runs in a network namespace of its own. Both pairs carry HTTP/1.1 requests over HTTP/2 with mutual TLS to the
same Envoy, which answers with a kilobyte. The sidecars get what the pipeline makes of a service, its pods, STRICT mTLS
and an authorization policy, over delta ADS, and traffic is redirected into them as on a pod (their metrics count every
request); of the listeners each gets those of its side, as both are in one namespace. The hand-written pair has explicit
listeners and nothing else. Both sidecars share one core; the load generator and the answering Envoy have the other.

Compared is the CPU of both Envoys of a pair per request, at a fixed rate and saturated, in slices that take turns
(A hand-written, B Meltemi, A' hand-written again). `--without` takes something out of the sidecars' listeners, to tell what
it costs: all metrics, the two histograms of sizes, or all HTTP filters but the router.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.processes import Worker
from benchmarks.report import Row, finish, median, print_table
from meltemi.agent.command import proxy_environment
from meltemi.agent.spec import Address, ProxySpec
from meltemi.api.meta import Resource as ApiResource
from meltemi.base.spiffe import SpiffeId
from meltemi.ca.authority import Authority
from meltemi.controlplane.admission import Admission
from meltemi.controlplane.revisions import Revisions
from meltemi.envoy.resource import LISTENER, Resource
from meltemi.envoy.resource import finish as finish_resource
from meltemi.flow import Fact, Put
from meltemi.local.capture import OUTPUT, Match, Redirect, Return, Rule
from meltemi.local.door import Door
from meltemi.local.links import LOOPBACK, Links
from meltemi.local.nftables import write_rules
from meltemi.model.proxies import Placement, Proxy
from meltemi.pipeline import Pipeline, build
from meltemi.protos.envoy.config.listener.v3.listener_pb2 import Listener
from meltemi.protos.envoy.extensions.access_loggers.stats.v3.stats_pb2 import Config as StatsLog
from meltemi.protos.envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)
from meltemi.testing.build import resources
from meltemi.testing.envoys import bootstrap, envoy, free_ports, loopback, served
from meltemi.testing.sandboxed import run_sandboxed
from meltemi.testing.secrets import authority, identity_secrets
from meltemi.xds.hub import Hub, Layers

RATE, CONNECTIONS, SATURATING = 800, 16, 32
POD, VIRTUAL, PORT = "10.244.0.2", "10.96.0.10", 8080
BODY = "x" * 1024
PAY = SpiffeId("cluster.local", "shop", "pay")
CART = SpiffeId("cluster.local", "shop", "cart")
SECONDS = 240.0

OBJECTS = f"""
apiVersion: v1
kind: Service
metadata: {{name: pay, namespace: shop}}
spec:
  clusterIP: {VIRTUAL}
  selector: {{app: pay}}
  ports: [{{name: http, port: {PORT}}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: pay-1
  namespace: shop
  labels: {{app: pay, version: v1, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: pay, containers: [{{name: pay, ports: [{{containerPort: {PORT}}}]}}]}}
status: {{podIP: {POD}, phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: v1
kind: Pod
metadata:
  name: cart-1
  namespace: shop
  labels: {{app: cart, version: v1, security.istio.io/tlsMode: istio}}
spec: {{serviceAccountName: cart, containers: [{{name: cart}}]}}
status: {{podIP: 10.244.0.3, phase: Running, conditions: [{{type: Ready, status: "True"}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: pay-1
  namespace: shop
  labels: {{kubernetes.io/service-name: pay}}
addressType: IPv4
ports: [{{name: http, port: {PORT}}}]
endpoints: [{{addresses: [{POD}], conditions: {{ready: true}}, targetRef: {{kind: Pod, namespace: shop, name: pay-1}}}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: shop}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: only-cart, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: pay}}}}
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/shop/sa/cart]}}}}]
    to: [{{operation: {{methods: [GET]}}}}]
"""


class OneSide:
    """What is on the shelves of a proxy, but for the listeners of the other side."""

    def __init__(self, shelves: Layers, hidden: frozenset[str], without: str) -> None:
        self._shelves = shelves
        self._hidden = hidden
        self._without = without

    def lookup(self, type_url: str, name: str) -> Resource | None:
        """The resource of that name."""
        if type_url == LISTENER and name in self._hidden:
            return None
        found = self._shelves.lookup(type_url, name)
        return _lessened(found, self._without) if found and type_url == LISTENER and self._without else found

    def finder(self, type_url: str) -> Callable[[str], Resource | None]:
        """The same, for many names."""
        return lambda name: self.lookup(type_url, name)

    def names(self, type_url: str) -> Collection[str]:
        """All names of a type."""
        names = self._shelves.names(type_url)
        return [name for name in names if name not in self._hidden] if type_url == LISTENER else names

    def hosts_of(self, route_configuration: str) -> Collection[str]:
        """The virtual hosts of a route configuration."""
        return self._shelves.hosts_of(route_configuration)


def _lessened(resource: Resource, without: str) -> Resource:
    """A listener without some part of it."""
    listener = Listener.FromString(resource.body)
    for chain in (*listener.filter_chains, listener.default_filter_chain):
        for each in chain.filters:
            if each.typed_config.type_url.endswith("HttpConnectionManager"):
                manager = HttpConnectionManager.FromString(each.typed_config.value)
                _lessen(manager, without)
                each.typed_config.value = manager.SerializeToString(deterministic=True)
    return finish_resource(resource.name, listener)


def _lessen(manager: HttpConnectionManager, without: str) -> None:
    if without == "metrics":
        manager.ClearField("access_log")
    elif without == "filters":
        del manager.http_filters[:-1]
    else:
        for log in manager.access_log:
            config = StatsLog.FromString(log.typed_config.value)
            kept = [each for each in config.histograms if not each.stat.name.endswith("bytes")]
            del config.histograms[:]
            config.histograms.extend(kept)
            log.typed_config.value = config.SerializeToString(deterministic=True)


class SidedHub(Hub):
    """A hub for two sidecars in one network namespace."""

    def __init__(self, without: str) -> None:
        super().__init__()
        self._without = without

    def _layers(self, proxy: Proxy, placement: Placement) -> Any:
        server = proxy.identity == PAY
        hidden = {"virtualOutbound", f"0.0.0.0_{PORT}"} if server else {"virtualInbound"}
        return OneSide(super()._layers(proxy, placement), frozenset(hidden), self._without)


class Pair:
    """Two Envoys that requests cross, and where a client enters."""

    def __init__(self, name: str, address: str, port: int) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.pids: list[int] = []

    def cpu(self) -> float:
        """Seconds of CPU of both Envoys so far."""
        nanoseconds = 0
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                nanoseconds += int((task / "schedstat").read_text().split()[0])
        return nanoseconds / 1e9


class Rig:
    """Both pairs, and the Envoy behind them."""

    def __init__(self) -> None:
        self.issuer: Authority = authority()
        self.stack = AsyncExitStack()

    async def envoy(self, name: str, config: dict[str, Any], core: int, environment: Any = None) -> int:
        """Start an Envoy on a core; its process id."""
        directory = Path(name)
        directory.mkdir()
        with on_core(core):
            process = await self.stack.enter_async_context(envoy(config, directory, environment))
        return process.pid

    async def app(self) -> int:
        """The Envoy that answers, on all addresses."""
        listener = _http_listener(
            "app", "0.0.0.0", PORT, {"direct_response": {"status": 200, "body": {"inline_string": BODY}}}
        )
        config = {"static_resources": {"listeners": [listener]}}
        return await self.envoy("app", config, core=0)

    async def by_hand(self) -> Pair:
        """Two Envoys with as little as carries requests over mutual TLS."""
        entry, middle = free_ports(2)
        tls = {CART: _tls(self.issuer, CART, PAY), PAY: _tls(self.issuer, PAY, CART)}
        client = _static("127.0.0.1", entry, middle, upstream=tls[CART], http2=True)
        server = _static("127.0.0.1", middle, PORT, downstream=tls[PAY])
        pair = Pair("by hand", "127.0.0.1", entry)
        pair.pids = [await self.envoy("client", client, core=1), await self.envoy("server", server, core=1)]
        return pair

    async def sidecars(self, without: str) -> Pair:
        """Two sidecars as Meltemi configures them."""
        hub = SidedHub(without)
        revisions = Revisions(build(), hub)
        revisions.put(facts(revisions.pipeline))
        revisions.flush()
        if problems := revisions.pipeline.graph.problems():
            raise RuntimeError(f"the pipeline has problems: {problems}")
        admission = Admission(revisions)
        pair = Pair("Meltemi", VIRTUAL, PORT)
        admins = free_ports(2)
        for identity, address, admin in ((PAY, POD, admins[0]), (CART, "10.244.0.3", admins[1])):
            account = identity.service_account
            port = await self.stack.enter_async_context(served(hub, admission, identity, issuer=self.issuer))
            labels = {"app": account, "version": "v1", "security.istio.io/tlsMode": "istio"}
            spec = ProxySpec(
                pod=f"{account}-1", namespace="shop", service_account=account, ip=address, labels=labels,
                sds_socket="/unused", token="/unused", roots="/unused", workload=account, cluster_id="local",
                control_plane=Address("127.0.0.1", port), authority=Address("127.0.0.1", port),
            )  # fmt: skip
            config = bootstrap(port, admin, identity, pod=f"{account}-1", labels=labels)
            pair.pids.append(await self.envoy(account, config, 1, proxy_environment(spec)))
        await eventually(lambda: _both_warm(admins))
        return pair


def facts(pipeline: Pipeline) -> list[Fact]:
    """The objects as facts."""
    objects: list[ApiResource] = resources(OBJECTS, "shop")
    return [Put(pipeline.facts[each.kind], (each.namespace, each.name), each) for each in objects]


def _tls(issuer: Authority, identity: SpiffeId, peer: SpiffeId) -> dict[str, Any]:
    secrets = identity_secrets(issuer, identity)
    own, roots = secrets["default"].tls_certificate, secrets["ROOTCA"].validation_context
    return {
        "tls_certificates": [
            {
                "certificate_chain": {"inline_string": own.certificate_chain.inline_bytes.decode()},
                "private_key": {"inline_string": own.private_key.inline_bytes.decode()},
            }
        ],
        "validation_context": {
            "trusted_ca": {"inline_string": roots.trusted_ca.inline_bytes.decode()},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": str(peer)}}],
        },
        "alpn_protocols": ["h2"],
    }


def _http_listener(name: str, address: str, port: int, action: dict[str, Any], tls: Any = None) -> dict[str, Any]:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain: dict[str, Any] = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if tls:
        context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
        config = {"@type": context, "common_tls_context": tls, "require_client_certificate": True}
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": config}
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [chain],
    }


def _static(
    address: str, port: int, target: int, *, downstream: Any = None, upstream: Any = None, http2: bool = False
) -> dict[str, Any]:
    """An Envoy that passes requests on to a port of this machine."""
    cluster: dict[str, Any] = {
        "name": "next",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "next",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": loopback(target)}}]}],
        },
    }
    if upstream:
        context = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
        config = {"@type": context, "common_tls_context": upstream}
        cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": config}
    if http2:
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        explicit: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
        cluster["typed_extension_protocol_options"] = {options: {"@type": f"type.googleapis.com/{options}", **explicit}}
    listener = _http_listener("in", address, port, {"route": {"cluster": "next"}}, downstream)
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def on_core(core: int) -> Any:
    """Processes that are started here run on one core, if there are two."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds."""
    for _ in range(600):
        if await condition():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("what the benchmark measures did not start")


async def _both_warm(admins: list[int]) -> bool:
    async with aiohttp.ClientSession() as http:
        for admin in admins:
            try:
                async with http.get(f"http://127.0.0.1:{admin}/ready") as response:
                    if response.status != 200:
                        return False
                async with http.get(f"http://127.0.0.1:{admin}/stats?filter=warming|virtual_hosts") as response:
                    lines = (await response.text()).splitlines()
            except OSError:
                return False
            if any(not line.endswith(": 0") for line in lines if "warming" in line):
                return False
    return True


async def _answers(pair: Pair) -> bool:
    """Whether a request gets through."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as http,
            http.get(f"http://{pair.address}:{pair.port}/", headers={"host": HOST}) as response,
        ):
            return response.status == 200 and len(await response.read()) == len(BODY)
    except (OSError, aiohttp.ClientError, TimeoutError):
        return False


HOST = f"pay.shop:{PORT}"


def _capture() -> None:
    """Redirect what is for the service to the client's sidecar, and what is for the pod to the server's."""
    links = Links()
    links.set_up(LOOPBACK)
    links.make_local(IPv4Network(f"{POD}/32"))
    links.make_local(IPv4Network(f"{VIRTUAL}/32"))
    links.close()
    write_rules(
        [
            Rule(OUTPUT, Match(source=IPv4Network("127.0.0.6/32")), Return()),
            Rule(OUTPUT, Match(destination=IPv4Network(f"{VIRTUAL}/32")), Redirect(15001)),
            Rule(OUTPUT, Match(destination=IPv4Network(f"{POD}/32")), Redirect(15006)),
        ]
    )


async def _measure(quick: bool, without: str) -> list[dict[str, Any]]:
    _capture()
    rig = Rig()
    async with rig.stack:
        await rig.app()
        pairs = {"A": await rig.by_hand(), "B": await rig.sidecars(without)}
        for pair in pairs.values():
            await eventually(partial(_answers, pair))
        pairs["A'"] = pairs["A"]
        with on_core(0):
            generator = Worker("benchmarks.load")
        try:
            return await asyncio.to_thread(_slices, generator, pairs, quick)
        finally:
            generator.end()


def _slices(generator: Worker, pairs: dict[str, Pair], quick: bool) -> list[dict[str, Any]]:
    found = []
    for load, rate, connections in (("fixed", RATE, CONNECTIONS), ("saturated", 0, SATURATING)):
        for turn in range(2 if quick else 7):
            for side, pair in pairs.items():
                before = pair.cpu()
                seconds = 0.5 if turn == 0 else 1.5  # the first slices only warm up
                got = generator.do(
                    "run",
                    address=pair.address,
                    port=pair.port,
                    host=HOST,
                    seconds=seconds,
                    connections=connections,
                    rate=rate,
                )
                cpu = (pair.cpu() - before) / got["requests"] * 1e6
                if turn:
                    found.append({"load": load, "side": side, "cpu": cpu, **got})
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few slices, to try the benchmark")
    parser.add_argument("--without", default="", choices=["metrics", "sizes", "filters"], help="take something out")
    parser.add_argument("--json", action="store_true", help="print rows for `python -m benchmarks`")
    chosen = parser.parse_args()
    reader, writer = os.pipe()

    async def scenario(_: Door) -> None:
        found = await _measure(chosen.quick, chosen.without)
        with os.fdopen(os.dup(writer), "w") as file:
            json.dump(found, file)

    run_sandboxed(scenario, seconds=SECONDS)
    os.close(writer)
    with os.fdopen(reader) as file:
        found = json.load(file)
    report(found)


def report(found: list[dict[str, Any]]) -> None:
    """Print what was found."""

    def of(load: str, side: str, what: str = "cpu") -> float:
        return median([each[what] for each in found if each["load"] == load and each["side"] == side])

    rows, budgets = [], []
    for load in ("fixed", "saturated"):
        a, b, again = (of(load, side) for side in ("A", "B", "A'"))
        rate = of(load, "B", "requests") / of(load, "B", "wall")
        rows.append(
            [
                f"{load} ({rate:,.0f} a second)", f"{a:.0f} us", f"{b:.0f} us", f"{b / a:.2f}", f"{again / a:.2f}",
                f"{of(load, 'A', 'p50'):.0f} / {of(load, 'A', 'p99'):.0f}",
                f"{of(load, 'B', 'p50'):.0f} / {of(load, 'B', 'p99'):.0f}",
            ]
        )  # fmt: skip
        budgets.append(
            Row(
                what=f"CPU per request, two sidecars to a hand-written mTLS pair, {load}",
                budget="<= 1.10",
                measured=f"{b / a:.2f} ({b:.0f} us to {a:.0f} us)",
                within=b / a <= 1.10,
                noise=again / a,
            )
        )
    if "--json" not in sys.argv:
        print()
        head = ("load", "A by hand", "B Meltemi", "B / A", "A' / A", "p50 / p99 of A, us", "of B")
        print_table(head, rows)
        failed = sum(each["failed"] for each in found)
        print(f"{sum(each['requests'] for each in found):,} requests, {failed} failed\n")
    finish(budgets, "Budget of the data plane")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"({time.monotonic() - began:.0f} s)", file=sys.stderr)
