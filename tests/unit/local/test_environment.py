"""A container's environment and command line."""

from __future__ import annotations

import msgspec
import pytest

from meltemi.api.core import ConfigMap, Container, Pod, PodSpec, Sealed, Secret
from meltemi.api.meta import ObjectMeta
from meltemi.local.environment import Objects, command_line, environment, expand, references
from meltemi.local.podinfo import MissingError, Surroundings, quantity

AROUND = Surroundings("10.244.1.7", "10.244.0.1", "local")
OBJECTS = Objects(
    {"settings": ConfigMap(data={"a": "1", "b": "2"})}, {"vault": Secret(data={"key": Sealed(b"open sesame")})}
)


def variables(container: dict[str, object], **base: str) -> dict[str, str]:
    """The environment of a container written as in YAML."""
    decoded = msgspec.convert({"name": "app", **container}, Container)
    meta = ObjectMeta(name="shop", namespace="default", uid="u1", labels={"app": "shop", "tier": "x"})
    pod = Pod(metadata=meta, spec=PodSpec(containers=(decoded,)))
    return environment(pod, decoded, AROUND, OBJECTS, base)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "12"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NONE) $A ${A} $", "$(NONE) $A ${A} $"),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text: str, expected: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expected


def test_later_definitions_see_earlier_ones_and_win() -> None:
    env = [{"name": "X", "value": "$(PATH):y"}, {"name": "Y", "value": "$(X)"}, {"name": "X", "value": "z"}]
    result = variables({"env": env}, PATH="/bin")
    assert (result["X"], result["Y"], result["HOSTNAME"]) == ("z", "/bin:y", "shop")


def test_env_wins_over_env_from() -> None:
    source = [{"configMapRef": {"name": "settings"}}]
    assert variables({"envFrom": source, "env": [{"name": "a", "value": "own"}]})["a"] == "own"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("metadata.name", "shop"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "u1"),
        ("metadata.labels['tier']", "x"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'app="shop"\ntier="x"'),
        ("spec.nodeName", "local"),
        ("spec.serviceAccountName", "default"),
        ("status.podIP", "10.244.1.7"),
        ("status.hostIP", "10.244.0.1"),
    ],
)
def test_fields_of_the_pod_can_be_read(path: str, expected: str) -> None:
    assert variables({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]})["X"] == expected


def test_resources_can_be_read_in_units_of_a_divisor() -> None:
    resources = {"limits": {"cpu": "1500m", "memory": "64Mi"}}
    env = [
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]
    result = variables({"resources": resources, "env": env})
    assert (result["CPU"], result["MIB"]) == ("2", "64")
    assert quantity("nonsense") == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "no", "key": "a"}}, "configmap 'no' not found"),
        ({"configMapKeyRef": {"name": "settings", "key": "z"}}, "configmap 'settings' has no key 'z'"),
        ({"secretKeyRef": {"name": "no", "key": "a"}}, "secret 'no' not found"),
        ({"fieldRef": {"fieldPath": "spec.color"}}, "'spec.color' cannot be read"),
    ],
)
def test_what_is_missing_is_named(source: dict[str, object], message: str) -> None:
    with pytest.raises(MissingError, match=message):
        variables({"env": [{"name": "X", "valueFrom": source}]})


def test_what_is_optional_may_be_missing() -> None:
    optional = {"name": "no", "key": "a", "optional": True}
    container = {
        "env": [{"name": "X", "valueFrom": {"secretKeyRef": optional}}],
        "envFrom": [{"secretRef": {"name": "no", "optional": True}}],
    }
    assert "X" not in variables(container)


def test_a_secret_comes_in_clear_and_references_are_listed() -> None:
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "key"}}}]
    container = {"env": env, "envFrom": [{"configMapRef": {"name": "settings"}}]}
    assert variables(container)["K"] == "open sesame"
    decoded = msgspec.convert({"name": "app", **container}, Container)
    assert references(decoded) == (frozenset({"settings"}), frozenset({"vault"}))


def test_a_command_is_expanded_and_must_be_there() -> None:
    container = Container(name="app", command=("run", "$(A)"), args=("--x=$(B)",))
    assert command_line(container, {"A": "1"}) == ("run", "1", "--x=$(B)")
    with pytest.raises(MissingError, match="images are not used"):
        command_line(Container(name="app", image="nginx", args=("x",)), {})
