"""What is not to be told, and what a snapshot takes for granted."""

from __future__ import annotations

import pytest

from meltemi.analyze import analyzers, messages, suppression
from meltemi.analyze.snapshot import Snapshot
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.testing.build import resources

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {galley.istio.io/analyze-suppress: "CODE"}}
"""


@pytest.mark.parametrize(
    ("text", "covered"),
    [
        ("IST0103=Pod shop/old", True),
        ("IST0103=Pod old.shop", True),
        ("IST0103=Pod shop/*", True),
        ("IST0103=Pod *.shop", True),
        ("IST0103", True),
        ("*=Pod shop/old", True),
        ("IST0103=Pod old", True),
        ("IST0103=Pod other/*", False),
        ("IST0102=Pod shop/old", False),
        ("IST0103=Deployment shop/old", False),
    ],
)
def test_a_code_is_suppressed_for_the_objects_named(text: str, covered: bool) -> None:
    problem = Problem(ref=Ref("Pod", "shop", "old"), message="", code="IST0103")
    assert suppression.parse(text).covers(problem) is covered


@pytest.mark.parametrize("text", ["", "=Pod a/b", "IST0103=Pod"])
def test_what_names_no_code_or_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="names no"):
        suppression.parse(text)


@pytest.mark.parametrize(("codes", "left"), [("IST0108", 1), ("IST0108, IST0102", 0), ("*", 0)])
def test_an_object_says_what_is_not_to_be_told_of_it(codes: str, left: int) -> None:
    found = analyzers.analyze(Snapshot(resources(NAMESPACE.replace("CODE", codes))))
    assert [problem.code for problem in found] == [messages.NAMESPACE_NOT_INJECTED.code] * left


def test_nothing_is_missing_among_what_could_not_be_read() -> None:
    text = """
    apiVersion: networking.istio.io/v1
    kind: Gateway
    metadata: {name: edge}
    spec:
      servers:
        - port: {number: 443, name: https, protocol: HTTPS}
          hosts: [a.example.org]
          tls: {mode: SIMPLE, credentialName: shop}
    """
    codes = {
        unread: [problem.code for problem in analyzers.analyze(Snapshot(resources(text), unread))]
        for unread in ((), ("Secret",))
    }
    assert codes == {(): ["IST0101"], ("Secret",): []}
