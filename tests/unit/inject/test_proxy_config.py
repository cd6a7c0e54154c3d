"""Of all that have a say in a proxy's settings: who is heeded."""

from __future__ import annotations

from typing import Any

import pytest

from meltemi.api.mesh.proxy import ProxyConfig as Settings
from meltemi.api.networking import ProxyConfig
from meltemi.inject.proxy_config import ANNOTATION, effective
from meltemi.testing.build import resources

MESH = Settings(concurrency=1, proxy_metadata={"A": "mesh", "B": "mesh"}, drain_duration="9s")


def configs(*wanted: tuple[str, str, str]) -> list[Any]:
    text = "---".join(
        f"""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "2026-01-01T00:00:0{age}Z"}}
spec: {spec}
"""
        for age, (name, namespace, spec) in enumerate(wanted)
    )
    return [each for each in resources(text, "shop") if isinstance(each, ProxyConfig)]


def settled(*wanted: tuple[str, str, str], annotation: str = "", app: str = "a") -> Settings:
    annotations = {ANNOTATION: annotation} if annotation else {}
    return effective(MESH, configs(*wanted), "shop", {"app": app}, annotations, "istio-system")


ROOT = ("root", "istio-system", "{concurrency: 2, environmentVariables: {A: root}}")
AROUND = ("around", "shop", "{concurrency: 3}")
OWN = ("own", "shop", "{selector: {matchLabels: {app: a}}, concurrency: 5, environmentVariables: {C: own}}")


def test_without_anything_else_the_mesh_says_it() -> None:
    assert settled() == MESH


def test_each_step_overrules_the_one_before() -> None:
    assert settled(ROOT).concurrency == 2
    assert settled(ROOT, AROUND).concurrency == 3
    assert settled(ROOT, AROUND, annotation="concurrency: 4").concurrency == 4
    assert settled(ROOT, AROUND, OWN, annotation="concurrency: 4").concurrency == 5


def test_variables_are_joined_and_what_nobody_says_stays() -> None:
    found = settled(ROOT, AROUND, OWN, annotation="proxyMetadata: {B: pod}")
    assert found.proxy_metadata == {"A": "root", "B": "pod", "C": "own"}
    assert found.drain_duration == "9s"


def test_zero_is_a_number_of_threads() -> None:
    assert settled(("zero", "shop", "{concurrency: 0}")).concurrency == 0


def test_of_several_at_one_step_the_oldest_holds() -> None:
    assert settled(AROUND, ("young", "shop", "{concurrency: 7}")).concurrency == 3


def test_what_is_for_others_is_not_heeded() -> None:
    elsewhere = ("there", "bank", "{concurrency: 8}")
    for_all_pods_of_the_root = ("rooted", "istio-system", "{selector: {matchLabels: {app: b}}, concurrency: 9}")
    assert settled(OWN, elsewhere, for_all_pods_of_the_root, app="b").concurrency == 1


@pytest.mark.parametrize(
    ("text", "word"), [("[", "YAML"), ("concurency: 2", "concurency"), ("concurrency: -1", "negative")]
)
def test_an_annotation_that_cannot_be_understood_is_told(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        settled(annotation=text)
