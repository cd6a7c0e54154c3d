"""DNS that the agent answers, where a pod's proxyMetadata asks for it."""

from __future__ import annotations

import json
import sys

import pytest

from meltemi.inject.proxy_config import ANNOTATION
from meltemi.testing import workloads
from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import eventually

from .town import ABROAD, TOWN, Policies, Town

_ASK = """
import json, sys
import dns.message, dns.query, dns.rcode
with open("/etc/resolv.conf") as file:
    server = next(line.split()[1] for line in file if line.startswith("nameserver"))
found = []
for protocol, kind, name in json.loads(sys.argv[1]):
    answer = getattr(dns.query, protocol)(dns.message.make_query(name, kind), server, timeout=10)
    records = sorted(record.to_text() for group in answer.answer for record in group)
    found.append([dns.rcode.to_text(answer.rcode()), *records])
print(json.dumps(found))
"""

Question = tuple[str, str, str]  # protocol, type and name
Answer = tuple[str, ...]  # the code, and the records


def ask(town: Town, pod: EchoPod, *questions: Question) -> list[Answer]:
    """What a process of the pod is answered by the pod's resolver."""
    return list(map(tuple, json.loads(town.mesh.run(pod, [sys.executable, "-c", _ASK, json.dumps(questions)]))))


@pytest.fixture
def captured(policies: Policies, town: Town) -> tuple[EchoPod, EchoPod]:
    """Two pods whose DNS the agent answers: one of the town, one of abroad that has a sidecar as well."""
    for name, namespace in (("asker", TOWN), ("guest", ABROAD)):
        policies.deploy(
            workloads.account(name, namespace),
            workloads.deployment(
                name,
                namespace,
                workloads.PORTS[:1],
                annotations={ANNOTATION: "proxyMetadata: {ISTIO_META_DNS_CAPTURE: 'true'}"},
                labels={"sidecar.istio.io/inject": "true"},
            ),
        )
    return town.mesh.pod(TOWN, "app=asker"), town.mesh.pod(ABROAD, "app=guest")


def vaults(town: Town, address: str) -> str:
    """A ServiceEntry that only its namespace may see."""
    return f"""
        hosts: ["*.vault.example"]
        addresses: [{address}]
        location: MESH_EXTERNAL
        resolution: STATIC
        ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
        endpoints: [{{address: {town.stranger.ip}}}]
        exportTo: ["."]
        """


FIRST = ("udp", "A", "first.vault.example")
OVER_TCP = ("tcp", "A", "first.vault.example")
BOOKS = ("udp", "A", "books.town.svc.cluster.local")


def test_a_pod_learns_the_names_that_it_may_see(
    captured: tuple[EchoPod, EchoPod], policies: Policies, town: Town
) -> None:
    asker, guest = captured
    policies.write("ServiceEntry", "vaults", vaults(town, "240.1.1.1"))
    told = ("NOERROR", "240.1.1.1")
    assert ask(town, asker, FIRST, OVER_TCP, ("udp", "AAAA", "first.vault.example")) == [told, told, ("NOERROR",)]
    assert asker.get("http://first.vault.example/").echo.pod == town.stranger.name
    # Who may not see it, and who asks the cluster, do not learn of it; of services all do.
    books = ask(town, asker, BOOKS, ("udp", "A", "books"))
    assert books[0] == books[1]
    assert len(books[0]) == 2
    for pod in (guest, town.caller):
        first, over_tcp, known = ask(town, pod, FIRST, OVER_TCP, BOOKS)
        assert told not in (first, over_tcp)
        assert known == books[0]
    # What the mesh has no names for, the cluster answers.
    outside = (("udp", "TXT", "dns-version.cluster.local"), ("tcp", "A", "nobody.town.svc.cluster.local"))
    assert ask(town, asker, *outside) == [("NOERROR", '"1.1.0"'), ("NXDOMAIN",)]


def test_names_are_known_while_the_control_plane_is_away(
    captured: tuple[EchoPod, EchoPod], policies: Policies, town: Town
) -> None:
    asker, _ = captured
    policies.write("ServiceEntry", "vaults", vaults(town, "240.1.1.1"))
    town.mesh.kill("meltemi.controlplane")
    assert ask(town, asker, FIRST) == [("NOERROR", "240.1.1.1")]
    # When it is back, what is new is told, and nobody is counted twice.
    policies.write("ServiceEntry", "vaults", vaults(town, "240.1.1.2"), wait=False)
    eventually(lambda: ask(town, asker, FIRST), lambda found: found == [("NOERROR", "240.1.1.2")], seconds=20)
    ids = eventually(
        lambda: [each.id for each in town.mesh.proxies()], lambda found: f"{asker.name}.{TOWN}" in found, seconds=20
    )
    assert len(ids) == len(set(ids))


def test_a_host_that_was_given_an_address_leads_to_what_dns_says_stands_behind_it(
    captured: tuple[EchoPod, EchoPod], policies: Policies, town: Town
) -> None:
    asker, _ = captured
    policies.write(
        "ServiceEntry",
        "given",
        """
        hosts: [given.example]
        location: MESH_EXTERNAL
        resolution: DNS
        ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
        endpoints: [{address: stranger.abroad.svc.cluster.local}]
        exportTo: ["."]
        """,
    )
    (found,) = eventually(lambda: ask(town, asker, ("tcp", "A", "given.example")), lambda found: len(found[0]) == 2)
    assert found[1].startswith("240.240.")
    reply = eventually(lambda: asker.get("http://given.example/"), lambda reply: reply.status == 200)
    assert reply.echo.pod == town.stranger.name
