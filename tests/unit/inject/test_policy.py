"""Which pods get a proxy."""

from __future__ import annotations

import pytest

from meltemi.inject.policy import TLS_MODE, Obj, Template, injected, mark, wanted

ENABLED = {"istio-injection": "enabled"}


@pytest.mark.parametrize(
    ("labels", "annotations", "namespace", "expected"),
    [
        ({}, {}, {}, None),
        ({}, {}, ENABLED, Template.SIDECAR),
        ({}, {}, {"istio-injection": "disabled"}, None),
        ({"sidecar.istio.io/inject": "false"}, {}, ENABLED, None),
        ({"sidecar.istio.io/inject": "true"}, {}, {}, Template.SIDECAR),
        ({}, {"sidecar.istio.io/inject": "false"}, ENABLED, None),
        ({"istio.io/rev": "default"}, {}, {}, Template.SIDECAR),
        ({}, {}, {"istio.io/rev": "default"}, Template.SIDECAR),
        ({}, {}, {"istio.io/rev": "canary"}, None),
        ({"sidecar.istio.io/inject": "true"}, {"inject.istio.io/templates": "gateway"}, {}, Template.GATEWAY),
    ],
)
def test_labels_decide(
    labels: dict[str, str], annotations: dict[str, str], namespace: dict[str, str], expected: Template | None
) -> None:
    assert wanted(labels, annotations, namespace) is expected


def test_a_pod_on_the_hosts_network_gets_none() -> None:
    assert wanted({}, {}, ENABLED, host_network=True) is None


def test_a_sidecars_pod_is_marked_with_what_others_must_know() -> None:
    pod: Obj = {
        "metadata": {
            "name": "cart-v1-5d8f-x",
            "labels": {"pod-template-hash": "5d8f"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "cart-v1-5d8f", "controller": True}],
        }
    }
    assert mark(pod, {"metadata": {"labels": ENABLED}}) is Template.SIDECAR
    labels = pod["metadata"]["labels"]
    assert labels[TLS_MODE] == "istio"
    assert labels["service.istio.io/canonical-name"] == "cart-v1"
    assert labels["service.istio.io/canonical-revision"] == "latest"
    assert injected(pod["metadata"]["annotations"]) is Template.SIDECAR


@pytest.mark.parametrize("status", ["", "no json", "[]", "{}"])
def test_a_pod_that_was_not_injected_says_so(status: str) -> None:
    assert injected({"sidecar.istio.io/status": status}) is None


def test_a_gateway_speaks_for_itself_and_takes_no_mutual_tls_for_others() -> None:
    pod: Obj = {"metadata": {"name": "gw", "annotations": {"inject.istio.io/templates": "gateway"}}}
    assert mark(pod, {"metadata": {"labels": ENABLED}}) is Template.GATEWAY
    assert TLS_MODE not in pod["metadata"]["labels"]
