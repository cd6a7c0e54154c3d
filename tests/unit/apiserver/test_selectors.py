"""Label and field selectors."""

from __future__ import annotations

import pytest

from meltemi.local.apiserver.selectors import of_label_selector, parse

POD = {
    "metadata": {"name": "web-1", "labels": {"app": "web", "tier": "front"}},
    "spec": {"nodeName": "local", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("labels", "is_match"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=api", False),
        ("app!=api", True),
        ("other!=x", True),
        ("app", True),
        ("!app", False),
        ("!other", True),
        ("app in (web, api),tier", True),
        ("app notin (web, api)", False),
        ("other notin (a)", True),
        ("app=web,tier=back", False),
    ],
)
def test_label_selectors_read_as_in_kubectl(labels: str, is_match: bool) -> None:
    assert parse(labels).matches(POD) is is_match


@pytest.mark.parametrize(
    ("fields", "is_match"),
    [
        ("spec.nodeName=local", True),
        ("spec.nodeName!=local", False),
        ("status.phase=Running,metadata.name=web-1", True),
        ("spec.hostNetwork=true", True),
        ("spec.missing=", True),
        ("spec.missing=x", False),
    ],
)
def test_field_selectors_look_at_any_scalar(fields: str, is_match: bool) -> None:
    assert parse("", fields).matches(POD) is is_match


@pytest.mark.parametrize("text", ["a=b=c", "in (a)", "a in b", "=x"])
def test_a_malformed_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector"):
        parse(text)


def test_a_label_selector_object_combines_labels_and_expressions() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}],
    }
    assert of_label_selector(selector).matches(POD)
    assert not of_label_selector({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}).matches(POD)
