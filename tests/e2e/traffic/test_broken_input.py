"""What Envoy refuses: the last good configuration stays, all else flows on, and the author reads Envoy's words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meltemi.base.refs import Ref
from meltemi.kube.errors import Invalid
from meltemi.kube.resources import Obj
from meltemi.testing import workloads
from meltemi.testing.certificates import Issuer
from meltemi.testing.mesh import eventually

from .town import TOWN, Policies, Town

STICKY = "{host: books, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-reader}}}}"


def broken(directory: Path) -> str:
    """A rule that names a file which is not there: only Envoy can know that."""
    return f"{{host: books, trafficPolicy: {{tls: {{mode: SIMPLE, caCertificates: {directory}/nowhere.crt}}}}}}"


def condition(obj: Obj, kind: str) -> dict[str, str]:
    """A condition of an object; empty if it has none of that kind."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((each for each in found if each["type"] == kind), {})


def told(town: Town, ref: Ref, status: str) -> dict[str, str]:
    """Waits until the object's status says whether it is programmed; the condition."""

    def holds(found: list[Obj]) -> bool:
        return any(
            each["metadata"]["name"] == ref.name and condition(each, "Programmed").get("status") == status
            for each in found
        )

    found = town.mesh.until(ref.kind, TOWN, holds, f"the status of {ref} says Programmed={status}")
    return condition(next(each for each in found if each["metadata"]["name"] == ref.name), "Programmed")


def is_sticky(town: Town) -> bool:
    """Whether the good rule holds."""
    replies = town.caller.many("http://books:8080/", {"x-reader": "ada"}, count=9)
    return replies.statuses == {200: 9} and len(replies.pods) == 1


def test_the_last_good_stays_and_the_author_is_told_why(policies: Policies, town: Town, tmp_path: Path) -> None:
    ref = policies.write("DestinationRule", "books", STICKY)
    assert told(town, ref, "True")["reason"] == "Programmed"
    assert is_sticky(town)

    policies.write("DestinationRule", "books", broken(tmp_path))
    refused = told(town, ref, "False")
    assert refused["reason"] == "RejectedByProxy"
    assert "nowhere.crt" in refused["message"]
    assert any("nowhere.crt" in problem.message for problem in town.mesh.problems(ref))
    assert is_sticky(town)

    # All else flows on, for the same service and to the same proxies.
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{headers: {request: {set: {x-later: change}}}, route: [{destination: {host: books}}]}]}",
    )
    assert town.caller.get("http://books:8080/").echo.headers["x-later"] == "change"

    # What is mended takes effect, and the complaint goes.
    policies.write("DestinationRule", "books", "{host: books, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}")
    told(town, ref, "True")
    assert town.mesh.problems(ref) == []
    assert len(town.caller.many("http://books:8080/", count=9).pods) == 3


def test_a_proxy_that_connects_later_gets_the_last_good_too(policies: Policies, town: Town, tmp_path: Path) -> None:
    ref = policies.write("DestinationRule", "books", STICKY)
    told(town, ref, "True")
    policies.write("DestinationRule", "books", broken(tmp_path))
    told(town, ref, "False")
    policies.deploy(workloads.account("late", TOWN), workloads.deployment("late", TOWN, workloads.PORTS[:1]))
    late = town.mesh.pod(TOWN, "app=late")
    replies = late.many("http://books:8080/", {"x-reader": "ada"}, count=9)
    assert replies.statuses == {200: 9}
    assert len(replies.pods) == 1
    assert "sa/late" in replies[0].echo.headers["x-forwarded-client-cert"]
    assert is_sticky(town)


def test_the_last_good_outlives_the_control_plane(policies: Policies, town: Town, tmp_path: Path) -> None:
    ref = policies.write("DestinationRule", "books", STICKY)
    told(town, ref, "True")
    policies.write("DestinationRule", "books", broken(tmp_path))
    told(town, ref, "False")
    town.mesh.kill("meltemi.controlplane")
    assert is_sticky(town)
    # The next one answers as soon as it is there, and proxies come back to it.
    policies.write(
        "VirtualService",
        "books",
        "{hosts: [books], http: [{headers: {request: {set: {x-later: change}}}, route: [{destination: {host: books}}]}]}",
    )
    eventually(
        lambda: town.caller.get("http://books:8080/").echo.headers, lambda headers: headers.get("x-later") == "change"
    )
    told(town, ref, "False")
    assert is_sticky(town)


def test_a_rule_that_was_never_good_leaves_the_service_as_it_was(
    policies: Policies, town: Town, tmp_path: Path
) -> None:
    ref = policies.write("DestinationRule", "books", broken(tmp_path))
    told(town, ref, "False")
    assert town.caller.get("http://books:8080/").status == 200
    assert town.caller.get("tcp://books:9000", messages=("hello",)).ok


def test_a_file_that_comes_later_is_taken_when_the_rule_is_written_again(
    policies: Policies, town: Town, tmp_path: Path
) -> None:
    ref = policies.write("DestinationRule", "books", broken(tmp_path))
    told(town, ref, "False")
    (tmp_path / "nowhere.crt").write_text(Issuer("books").certificate)
    spec = json.loads(json.dumps(town.mesh.get("DestinationRule", TOWN, "books")["spec"]))
    spec["trafficPolicy"]["tls"]["sni"] = "books"
    policies.write("DestinationRule", "books", json.dumps(spec))
    told(town, ref, "True")


def test_what_nobody_could_take_is_refused_by_the_api_with_the_place(town: Town) -> None:
    metadata = {"name": "books", "namespace": TOWN}
    spec = {"hosts": ["books"], "http": [{"route": [{"destination": {"host": "books"}, "weight": -1}]}]}
    obj = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
    with pytest.raises(Invalid) as refusal:
        town.mesh.apply([obj])
    assert [cause.field for cause in refusal.value.status.causes] == ["spec.http[0].route[0].weight"]
