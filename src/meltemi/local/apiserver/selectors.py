"""Label and field selectors, as in `kubectl get -l 'app in (a, b), !old' --field-selector spec.nodeName=local`.

Source: Kubernetes `labels.Parse` and `fields.ParseSelector`. A field may be any path to a scalar, where Kubernetes
allows a few per kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from meltemi.kube.resources import Obj

_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s,()=!]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\s*$")
_COMMA = re.compile(r",(?![^(]*\))")


class Requirement(msgspec.Struct, frozen=True):
    """One condition: `in`, `notin`, `exists` or `absent`, on a label key or a field path."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def holds(self, value: str | None) -> bool:
        """Whether a value (None: absent) meets the condition. As in Kubernetes, absent meets `notin`."""
        if self.operator == "in":
            return value in self.values
        if self.operator == "notin":
            return value not in self.values
        return (value is not None) == (self.operator == "exists")


class Selector(msgspec.Struct, frozen=True):
    """Conditions on labels and on fields, all of which must hold."""

    labels: tuple[Requirement, ...] = ()
    fields: tuple[Requirement, ...] = ()

    def matches(self, obj: Obj) -> bool:
        """Whether an object is selected."""
        if self.labels:
            labels = (obj.get("metadata") or {}).get("labels") or {}
            if not all(requirement.holds(labels.get(requirement.key)) for requirement in self.labels):
                return False
        return all(requirement.holds(_field(obj, requirement.key)) for requirement in self.fields)


def parse(labels: str = "", fields: str = "") -> Selector:
    """The selector of a request. Raises ValueError with a message for the user."""
    return Selector(
        tuple(_label_requirement(part) for part in _COMMA.split(labels) if part.strip()),
        tuple(_field_requirement(part) for part in fields.split(",") if part.strip()),
    )


def of_label_selector(selector: Mapping[str, Any]) -> Selector:
    """The selector that a `LabelSelector` object (`matchLabels`, `matchExpressions`) stands for."""
    equal = [Requirement(key, "in", frozenset({value})) for key, value in (selector.get("matchLabels") or {}).items()]
    operators = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "absent"}
    expressions = [
        Requirement(entry["key"], operators[entry["operator"]], frozenset(entry.get("values") or ()))
        for entry in selector.get("matchExpressions") or ()
    ]
    return Selector((*equal, *expressions))


def _label_requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], match["op"], values)
    if match := _EQUAL.match(text):
        return Requirement(match["key"], "notin" if match["op"] == "!=" else "in", frozenset({match["value"]}))
    if match := _EXISTS.match(text):
        return Requirement(match["key"], "absent" if match["not"] else "exists")
    raise ValueError(
        f"{text.strip()!r} is not a label selector (write key=value, key!=value, key in (a, b), key or !key)"
    )


def _field_requirement(text: str) -> Requirement:
    match = _EQUAL.match(text)
    if match is None:
        raise ValueError(f"{text.strip()!r} is not a field selector (write path=value or path!=value)")
    return Requirement(match["key"], "notin" if match["op"] == "!=" else "in", frozenset({match["value"]}))


def _field(obj: Obj, path: str) -> str:
    """The scalar at a path as text; empty where there is none, as Kubernetes has it."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, (str, int, float)) else ""
