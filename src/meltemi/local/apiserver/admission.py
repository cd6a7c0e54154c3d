"""Whether an object may be stored: its metadata, what must not change, and what `meltemi.api` says of it.

Rules are functions that yield causes; whoever calls turns them into one refusal (422) that names every field at once.
Source: Kubernetes API conventions and `apimachinery` validation for names and labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meltemi.base.problems import Problem
from meltemi.kube.errors import Cause
from meltemi.kube.resources import Obj
from meltemi.local.apiserver import addresses, selectors
from meltemi.local.apiserver.catalogue import Kind

Validator = Callable[[Kind, Obj], Iterable[Problem]]
"""What is wrong with an object of a kind; errors refuse it, the rest become warnings."""

Mutator = Callable[[Kind, Obj, Obj | None], object]
"""Amends an object that is about to be created; it gets the object of its namespace, too."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    "and must start and end with an alphanumeric character"
)
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
    "start with an alphabetic character, and end with an alphanumeric character"
)


def no_rules(kind: Kind, obj: Obj) -> Iterable[Problem]:
    """The validator that finds nothing."""
    return ()


def no_change(kind: Kind, obj: Obj, namespace: Obj | None) -> None:
    """The mutator that leaves everything as it is."""


def metadata_causes(kind: Kind, obj: Obj) -> Iterator[Cause]:
    """What is wrong with the name, labels and annotations."""
    metadata = obj["metadata"]
    name = metadata.get("name")
    pattern, longest, rule = _name_rule(kind)
    if not name or not isinstance(name, str):
        yield Cause("metadata.name", "Required value: name or generateName is required", "FieldValueRequired")
    elif len(name) > longest or not pattern.fullmatch(name):
        yield Cause("metadata.name", f'Invalid value: "{name}": {rule}', "FieldValueInvalid")
    for field in ("labels", "annotations"):
        entries = metadata.get(field)
        if entries is None:
            continue
        if not isinstance(entries, dict):
            yield Cause(f"metadata.{field}", "must be a map of strings", "FieldValueTypeInvalid")
            continue
        for key, value in entries.items():
            yield from _entry_causes(f"metadata.{field}", key, value, is_label=field == "labels")


def core_causes(kind: Kind, obj: Obj) -> Iterator[Cause]:
    """Rules of core kinds that join several fields."""
    spec = obj.get("spec") if isinstance(obj.get("spec"), dict) else {}
    assert isinstance(spec, dict)
    if kind.group == "apps":
        yield from _workload_causes(spec)
    elif kind.id == "pods":
        yield from _containers_causes(spec, "spec")
    elif kind.id == "services":
        yield from _service_causes(spec)


def change_causes(kind: Kind, before: Obj, after: Obj) -> Iterator[Cause]:
    """What must not change during an object's life."""
    old, new = before.get("spec") or {}, after.get("spec") or {}
    if kind.group == "apps" and old.get("selector") != new.get("selector"):
        yield Cause("spec.selector", "Invalid value: field is immutable", "FieldValueInvalid")
    if kind.id == "services" and _address(old) and new.get("type") != "ExternalName" and _address(old) != _address(new):
        yield Cause("spec.clusterIP", "Invalid value: field is immutable", "FieldValueInvalid")
    if kind.id == "pods" and _frozen_part(old) != _frozen_part(new):
        message = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`, "
            "`spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` "
            "and `spec.terminationGracePeriodSeconds`"
        )
        yield Cause("spec", message, "FieldValueForbidden")
    for field in ("data", "binaryData", "stringData", "immutable"):
        if kind.id in ("configmaps", "secrets") and before.get("immutable") and before.get(field) != after.get(field):
            yield Cause(field, "Forbidden: field is immutable when `immutable` is set", "FieldValueForbidden")


def cause_of(problem: Problem) -> Cause:
    """A problem of the validator as a cause of a refusal."""
    text = f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    return Cause(problem.path, text, f"FieldValue{problem.code}" if problem.code == "Invalid" else problem.code)


def _name_rule(kind: Kind) -> tuple[re.Pattern[str], int, str]:
    if kind.id == "services":
        return _LABEL_1035, 63, _LABEL_1035_RULE
    if kind.id == "namespaces":
        return _LABEL, 63, _LABEL_RULE
    return _SUBDOMAIN, 253, _SUBDOMAIN_RULE


def _entry_causes(field: str, key: Any, value: Any, *, is_label: bool) -> Iterator[Cause]:
    prefix, slash, name = str(key).rpartition("/")
    if not _QUALIFIED.fullmatch(name) or len(name) > 63 or (slash and not _SUBDOMAIN.fullmatch(prefix.lower())):
        yield Cause(field, f'Invalid value: "{key}" is not a qualified name', "FieldValueInvalid")
    if not isinstance(value, str):
        yield Cause(f"{field}[{key}]", "must be a string (put it in quotes)", "FieldValueTypeInvalid")
    elif is_label and value and (not _QUALIFIED.fullmatch(value) or len(value) > 63):
        yield Cause(
            field,
            f'Invalid value: "{value}": a valid label must be an empty string or consist of '
            "alphanumeric characters, '-', '_' or '.', at most 63",
            "FieldValueInvalid",
        )


def _workload_causes(spec: Obj) -> Iterator[Cause]:
    selector, template = spec.get("selector"), spec.get("template")
    if not isinstance(selector, dict) or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        yield Cause("spec.selector", "Required value", "FieldValueRequired")
        return
    if not isinstance(template, dict):
        yield Cause("spec.template", "Required value", "FieldValueRequired")
        return
    try:
        matched = selectors.of_label_selector(selector).matches(template)
    except (KeyError, TypeError, AttributeError):
        yield Cause("spec.selector", "Invalid value: not a label selector", "FieldValueInvalid")
        return
    if not matched:
        message = "Invalid value: `selector` does not match template `labels`"
        yield Cause("spec.template.metadata.labels", message, "FieldValueInvalid")
    replicas = spec.get("replicas")
    if not isinstance(replicas, int) or replicas < 0:
        yield Cause("spec.replicas", "Invalid value: must be greater than or equal to 0", "FieldValueInvalid")
    inner = template.get("spec")
    yield from _containers_causes(inner if isinstance(inner, dict) else {}, "spec.template.spec")


def _containers_causes(spec: Obj, path: str) -> Iterator[Cause]:
    containers = spec.get("containers")
    if not isinstance(containers, list) or not containers:
        yield Cause(f"{path}.containers", "Required value", "FieldValueRequired")
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        name = container.get("name") if isinstance(container, dict) else None
        if not isinstance(name, str) or not _LABEL.fullmatch(name):
            yield Cause(
                f"{path}.containers[{index}].name", f"Invalid value: {name!r}: {_LABEL_RULE}", "FieldValueInvalid"
            )
        elif name in seen:
            yield Cause(f"{path}.containers[{index}].name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        else:
            seen.add(name)


def _service_causes(spec: Obj) -> Iterator[Cause]:
    ports = [port for port in spec.get("ports") or () if isinstance(port, dict)]
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield Cause("spec.ports", "Required value", "FieldValueRequired")
    names: set[str] = set()
    for index, port in enumerate(ports):
        number, name = port.get("port"), port.get("name") or ""
        if not isinstance(number, int) or not 0 < number < 65536:
            message = f"Invalid value: {number}: must be between 1 and 65535, inclusive"
            yield Cause(f"spec.ports[{index}].port", message, "FieldValueInvalid")
        if len(ports) > 1 and not name:
            yield Cause(f"spec.ports[{index}].name", "Required value", "FieldValueRequired")
        elif name and name in names:
            yield Cause(f"spec.ports[{index}].name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
        names.add(name)
    address = _address(spec)
    if address and address != "None" and not addresses.is_in_range(address):
        message = f'Invalid value: "{address}": provided IP is not in the range {addresses.NETWORK}'
        yield Cause("spec.clusterIP", message, "FieldValueInvalid")


def _address(spec: Obj) -> str:
    return spec.get("clusterIP") or ""


def _frozen_part(spec: Obj) -> Obj:
    """The part of a pod's spec that must not change."""
    free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "containers", "initContainers")
    frozen = {name: value for name, value in spec.items() if name not in free and name != "nodeName"}
    for field in ("containers", "initContainers"):
        frozen[field] = [{n: v for n, v in container.items() if n != "image"} for container in spec.get(field) or ()]
    return frozen
