"""What pods may wish of their own proxies."""

from __future__ import annotations

import pytest

from meltemi.api.mesh.proxy import ProxyConfig as Settings
from meltemi.inject.proxy_config import ANNOTATION
from meltemi.local.proxy_wishes import ProxyWishes, wishes


def test_without_the_annotation_nothing_is_wished() -> None:
    assert wishes({}) == ProxyWishes()


def test_concurrency_and_the_lifetime_of_certificates_are_granted() -> None:
    found = wishes({ANNOTATION: 'concurrency: 2\nproxyMetadata: {SECRET_TTL: 1h30m, OTHER: "1"}\n'})
    assert (found.concurrency, found.certificate_ttl) == (2, 5400)
    assert found.config["proxyMetadata"] == {"SECRET_TTL": "1h30m", "OTHER": "1"}


def test_draining_log_files_and_the_environment_are_granted() -> None:
    default = Settings(
        drain_duration="5s",
        file_flush_interval="250ms",
        file_flush_min_size_kb=8,
        mesh_id="m",
        proxy_metadata={"ISTIO_META_SHOE": "blue"},
    )
    found = wishes({}, default=default)
    assert (found.drain_seconds, found.flush_seconds, found.flush_size, found.mesh_id) == (5, 0.25, 8, "m")
    assert found.environment == {"ISTIO_META_SHOE": "blue"}


@pytest.mark.parametrize(
    ("word", "captures"), [("true", True), ("True", True), ("1", True), ("false", False), ("", False)]
)
def test_the_agent_answers_dns_where_the_metadata_says_so(word: str, captures: bool) -> None:
    found = wishes({ANNOTATION: f"proxyMetadata: {{ISTIO_META_DNS_CAPTURE: '{word}'}}"})
    assert found.captures_dns is captures
    assert found.environment == {"ISTIO_META_DNS_CAPTURE": word}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "YAML"),
        ("- a", "ProxyConfig"),
        ("concurrency: many", "concurrency"),
        ("concurrency: -1", "concurrency"),
        ("proxyMetadata: {SECRET_TTL: soon}", "soon"),
    ],
)
def test_what_cannot_be_understood_is_told(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        wishes({ANNOTATION: text})
