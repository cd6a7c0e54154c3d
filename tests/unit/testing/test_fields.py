"""Every field that is acted on is set by some test that shows effects, and the compatibility page can name it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meltemi.api import networking
from meltemi.api.mesh import MeshConfig
from meltemi.api.meta import Resource
from meltemi.api.support import ACTED_ON
from meltemi.testing import fields

TESTS = Path(__file__).parents[2]

UNSEEN: dict[type[Resource], frozenset[str]] = {
    # What an agent is told is tested as a value and by annotation: unit/agent/test_bootstrap, e2e/traffic/test_proxy_settings.
    MeshConfig: frozenset(
        {
            "spec.defaultConfig",
            "spec.defaultConfig.concurrency",
            "spec.defaultConfig.drainDuration",
            "spec.defaultConfig.fileFlushInterval",
            "spec.defaultConfig.fileFlushMinSizeKb",
            "spec.defaultConfig.meshId",
            "spec.defaultConfig.proxyMetadata",
            "spec.defaultConfig.proxyStatsMatcher",
            "spec.defaultConfig.proxyStatsMatcher.inclusionPrefixes",
            "spec.defaultConfig.proxyStatsMatcher.inclusionRegexps",
            "spec.defaultConfig.proxyStatsMatcher.inclusionSuffixes",
            "spec.defaultConfig.runtimeValues",
            "spec.defaultConfig.serviceCluster",
            "spec.defaultConfig.tracingServiceName",
        }
    ),
}
"""Fields whose tests set them in ways that cannot be read from a text. To be shortened, never extended without a reason."""


@pytest.fixture(scope="module")
def tests() -> dict[type[Resource], dict[tuple[str, str], tuple[str, ...]]]:
    return fields.tests_of(TESTS)


@pytest.mark.parametrize("kind", list(ACTED_ON), ids=lambda kind: kind.__name__)
def test_every_field_that_is_acted_on_is_set_by_a_test(kind: type[Resource], tests: object) -> None:
    assert isinstance(tests, dict)
    untested = {
        f"{field.path}.{field.name}" for field in fields.fields(kind) if (field.struct, field.name) not in tests[kind]
    }
    assert untested == UNSEEN.get(kind, frozenset())


def test_objects_are_found_whole_in_texts_and_beside_the_names_of_kinds(tmp_path: Path) -> None:
    place = tmp_path / "e2e"
    place.mkdir()
    (place / "test_a.py").write_text(
        '''
write("Gateway", "front", "{selector: {a: b}}")
apply(f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [{host}], http: [{{match: [{{uri: {{exact: /a}}}}]}}]}}
""")
send({"kind": "ServiceEntry", "spec": {"hosts": [host]}})
'''
    )
    found = fields.tests_of(tmp_path)
    assert found[networking.Gateway] == {("GatewaySpec", "selector"): ("e2e/test_a",)}
    assert found[networking.VirtualService].keys() == {
        ("VirtualServiceSpec", "hosts"),
        ("VirtualServiceSpec", "http"),
        ("HttpRoute", "match"),
        ("HttpMatchRequest", "uri"),
        ("StringMatch", "exact"),
    }
    assert found[networking.ServiceEntry].keys() == {("ServiceEntrySpec", "hosts")}
    assert found[MeshConfig] == {}


def test_a_field_below_one_that_is_not_acted_on_is_none() -> None:
    named = {f"{field.path}.{field.name}" for field in fields.fields(networking.VirtualService)}
    assert "spec.http.fault.delay.fixedDelay" in named
    assert "spec.http.fault.delay.exponentialDelay" not in named
