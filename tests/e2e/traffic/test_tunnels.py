"""DestinationRule: connections that an HTTP proxy outside the mesh carries on to where the client cannot go by itself."""

from __future__ import annotations

from meltemi.testing import workloads
from meltemi.testing.workloads import EchoPort

from .town import ABROAD, Policies, Town

PROXY = EchoPort(name="tcp-proxy", number=3128, serves="tcp")
LINES = 9000


def test_a_proxy_carries_connections_on_to_the_target(policies: Policies, town: Town) -> None:
    proxy = workloads.deployment("forward", ABROAD, ())
    container = proxy["spec"]["template"]["spec"]["containers"][0]
    container["command"] += ["--gate", str(PROXY.number)]
    policies.deploy(workloads.account("forward", ABROAD), workloads.service("forward", ABROAD, [PROXY]), proxy)
    url = f"tcp://forward.{ABROAD}:{PROXY.number}"
    assert not town.caller.get(url, messages=("hello",), timeout=2).ok
    policies.write(
        "DestinationRule",
        "forward",
        f"{{host: forward.{ABROAD}.svc.cluster.local, trafficPolicy: {{"
        f"tunnel: {{protocol: CONNECT, targetHost: {town.stranger.ip}, targetPort: {LINES}}}}}}}",
    )
    assert town.caller.many(url, messages=("hello",), count=3).pods == {town.stranger.name: 3}
