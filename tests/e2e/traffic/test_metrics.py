"""Istio's standard metrics, from both ends, on the merged endpoint of each pod."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from meltemi.testing.clients import EchoPod
from meltemi.testing.mesh import Mesh, eventually

from .town import Policies, Town

MERGED = 15020

Labels = dict[str, str]


def samples(mesh: Mesh, pod: EchoPod, name: str, **labels: str) -> list[tuple[Labels, float]]:
    """The samples of one name with these labels."""
    lines = mesh.fetch(pod.ip, MERGED, "/stats/prometheus").body.splitlines()
    text = "".join(f"{line}\n" for line in lines if line.startswith(name))
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def total(mesh: Mesh, pods: list[EchoPod], name: str, **labels: str) -> float:
    """The sum of them over some pods."""
    return sum(value for pod in pods for _, value in samples(mesh, pod, name, **labels))


COMMON = {
    "source_workload": "caller-v1",
    "source_workload_namespace": "town",
    "source_principal": "spiffe://cluster.local/ns/town/sa/caller",
    "source_app": "caller",
    "source_version": "v1",
    "source_canonical_service": "caller",
    "source_canonical_revision": "v1",
    "source_cluster": "local",
    "destination_workload": "books-v2",
    "destination_workload_namespace": "town",
    "destination_principal": "spiffe://cluster.local/ns/town/sa/books",
    "destination_app": "books",
    "destination_version": "v2",
    "destination_service": "books.town.svc.cluster.local",
    "destination_service_name": "books",
    "destination_service_namespace": "town",
    "destination_canonical_service": "books",
    "destination_canonical_revision": "v2",
    "destination_cluster": "local",
}


def only_v2(policies: Policies) -> None:
    """All traffic goes to one pod, so that one set of labels tells of it."""
    policies.write("DestinationRule", "books", "{host: books, subsets: [{name: v2, labels: {version: v2}}]}")
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http: [{retries: {attempts: 0}, route: [{destination: {host: books, subset: v2}}]}]
        tcp: [{match: [{port: 9000}], route: [{destination: {host: books, subset: v2, port: {number: 9000}}}]}]
        """,
    )


def difference(ask: object, mesh: Mesh, pod: EchoPod, name: str, labels: Labels, expected: float) -> Labels:
    """Waits until a counter has grown by as much as expected over what `ask` does; the labels of the sample."""
    assert callable(ask)
    before = total(mesh, [pod], name, **labels)
    ask()
    eventually(lambda: total(mesh, [pod], name, **labels) - before, lambda grown: grown == expected)
    return next(found for found, _ in samples(mesh, pod, name, **labels))


def test_http_requests_are_counted_at_both_ends_with_all_labels(policies: Policies, town: Town) -> None:
    only_v2(policies)
    for status, count in (("200", 7), ("418", 3)):
        for reporter, pod in (("source", town.caller), ("destination", town.v2)):
            labels = {
                "reporter": reporter,
                "request_protocol": "http",
                "response_code": status,
                "destination_service_name": "books",
                "destination_version": "v2",
                "source_workload": "caller-v1",
            }

            def ask(status: str = status, count: int = count) -> None:
                assert set(town.caller.many(f"http://books:8080/?status={status}", count=count).statuses) == {
                    int(status)
                }

            found = difference(ask, town.mesh, pod, "istio_requests_total", labels, count)
            security = "unknown" if reporter == "source" else "mutual_tls"
            expected = {**COMMON, "connection_security_policy": security, "response_flags": "-"}
            assert {name: found.get(name) for name in expected} == expected


def test_durations_and_sizes_are_measured(policies: Policies, town: Town) -> None:
    only_v2(policies)
    # A status that nothing else here answers with keeps these requests apart from all others.
    assert town.caller.many("http://books:8080/?status=207&delay=0.05", count=4).statuses == {207: 4}
    for reporter, pod in (("source", town.caller), ("destination", town.v2)):
        labels = {"reporter": reporter, "response_code": "207", "destination_version": "v2"}
        for name, least in (("request_duration_milliseconds", 200), ("request_bytes", 1), ("response_bytes", 400)):
            # Envoy adds up what it has measured every few seconds.
            eventually(
                lambda name=name, pod=pod, labels=labels: total(town.mesh, [pod], f"istio_{name}_count", **labels),
                lambda count: count == 4,
            )
            assert total(town.mesh, [pod], f"istio_{name}_sum", **labels) >= least
            assert samples(town.mesh, pod, f"istio_{name}_bucket", le="+Inf", **labels)


def test_grpc_calls_are_counted_with_their_status(policies: Policies, town: Town) -> None:
    only_v2(policies)
    for code, count in (("0", 4), ("9", 2)):
        for reporter, pod in (("source", town.caller), ("destination", town.v2)):
            labels = {
                "reporter": reporter,
                "request_protocol": "grpc",
                "grpc_response_status": code,
                "destination_service_name": "books",
            }
            headers = {} if code == "0" else {"x-echo-status": code}

            def ask(headers: dict[str, str] = headers, count: int = count) -> None:
                town.caller.many("grpc://books:7070", headers, count=count)

            difference(ask, town.mesh, pod, "istio_requests_total", labels, count)


def test_tcp_connections_and_bytes_are_counted(policies: Policies, town: Town) -> None:
    only_v2(policies)

    def ask() -> None:
        assert all(reply.ok for reply in town.caller.many("tcp://books:9000", messages=("12345",), count=3))

    for reporter, pod in (("source", town.caller), ("destination", town.v2)):
        labels = {
            "reporter": reporter,
            "request_protocol": "tcp",
            "destination_service_name": "books",
            "destination_workload": "books-v2",
            # A server learns of a TCP client what its certificate says: who it is, not which workload.
            **({"source_workload": "caller-v1"} if reporter == "source" else {}),
        }
        difference(ask, town.mesh, pod, "istio_tcp_connections_opened_total", labels, 3)
        difference(ask, town.mesh, pod, "istio_tcp_connections_closed_total", labels, 3)
        difference(ask, town.mesh, pod, "istio_tcp_received_bytes_total", labels, 18)
        assert total(town.mesh, [pod], "istio_tcp_sent_bytes_total", **labels) > 0
        found = samples(town.mesh, pod, "istio_tcp_connections_opened_total", **labels)[0][0]
        principals = ("source_principal", "destination_principal")
        assert {name: found[name] for name in principals} == {name: COMMON[name] for name in principals}


def test_what_is_refused_is_told_by_its_flags(policies: Policies, town: Town) -> None:
    policies.write(
        "VirtualService",
        "books",
        """
        hosts: [books]
        http:
          - timeout: 0.1s
            match: [{uri: {prefix: /slow}}]
            route: [{destination: {host: books}}]
          - fault: {abort: {httpStatus: 503, percentage: {value: 100}}}
            route: [{destination: {host: books}}]
        """,
    )
    for url, flags, status in (("/slow?delay=2", "UT", "504"), ("/", "FI", "503")):
        labels = {"reporter": "source", "response_flags": flags, "response_code": status}

        def ask(url: str = url) -> None:
            town.caller.get(f"http://books:8080{url}")

        difference(ask, town.mesh, town.caller, "istio_requests_total", labels, 1)


def test_a_stranger_is_counted_as_unknown_and_in_plain_text(town: Town) -> None:
    labels = {
        "reporter": "destination",
        "source_workload": "unknown",
        "connection_security_policy": "none",
        "source_principal": "unknown",
    }
    before = total(town.mesh, town.books, "istio_requests_total", **labels)
    town.stranger.many("http://books.town:8080/", count=6)
    eventually(
        lambda: total(town.mesh, town.books, "istio_requests_total", **labels) - before, lambda grown: grown == 6
    )
