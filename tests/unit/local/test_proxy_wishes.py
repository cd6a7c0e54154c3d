"""What pods may wish of their own proxies."""

from __future__ import annotations

import pytest

from meltemi.local.proxy_wishes import ANNOTATION, ProxyWishes, wishes


def test_without_the_annotation_nothing_is_wished() -> None:
    assert wishes({}) == ProxyWishes()


def test_concurrency_and_the_lifetime_of_certificates_are_granted() -> None:
    found = wishes({ANNOTATION: 'concurrency: 2\nproxyMetadata: {SECRET_TTL: 1h30m, OTHER: "1"}\n'})
    assert (found.concurrency, found.certificate_ttl) == (2, 5400)
    assert found.config["proxyMetadata"] == {"SECRET_TTL": "1h30m", "OTHER": "1"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[", "YAML"),
        ("- a", "ProxyConfig"),
        ("concurrency: many", "concurrency"),
        ("concurrency: -1", "concurrency"),
        ("proxyMetadata: {SECRET_TTL: soon}", "duration"),
    ],
)
def test_what_cannot_be_understood_is_told(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        wishes({ANNOTATION: text})
