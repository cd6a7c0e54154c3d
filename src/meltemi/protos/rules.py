"""Would Envoy refuse this message? Its field rules, interpreted before Envoy sees it.

Envoy checks every message that it is given against the protoc-gen-validate rules of its API (`validate.rules`), and
refuses the whole resource at the first that is not kept. The descriptors carry the same rules. They are compiled once
for each message type into a short list of checks; parts of the API under which there is no rule at all (metadata, for
one) are not walked. Invariant: a message that gives no violation here passes Envoy's own check of the same rules.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import DecodeError, Message

from meltemi.protos.constraints import Constraint, constraints, nanoseconds
from meltemi.protos.google.protobuf.descriptor_pb2 import FieldOptions, MessageOptions, OneofOptions
from meltemi.protos.messages import unpack
from meltemi.protos.validate import validate_pb2
from meltemi.protos.validate.validate_pb2 import FieldRules, MapRules, RepeatedRules

ANY = "google.protobuf.Any"
DURATION = "google.protobuf.Duration"


class Violation(msgspec.Struct, frozen=True, order=True):
    """A rule that is not kept: `path` within the message (`filters[0].typed_config.stat_prefix`), and Envoy's words."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def violations(message: Message) -> Iterator[Violation]:
    """Every rule of Envoy's that the message or a part of it breaks, what is not set before what is.

    What is packed in an Any is checked too, unless it is of a type that Envoy's API has not got.
    """
    found: list[Violation] = []
    check = _check_any if message.DESCRIPTOR.full_name == ANY else _check
    check(message, _ROOT, found)
    return iter(found)


class _Path(msgspec.Struct, frozen=True, gc=False):
    """Where in the message we are. It becomes text only when there is something to say."""

    above: _Path | None
    segment: str

    def then(self, segment: str) -> _Path:
        return _Path(self, segment)

    def breaks(self, message: str, *segments: str) -> Violation:
        whole, path = list(reversed(segments)), self
        while path.above is not None:
            whole.append(path.segment)
            path = path.above
        return Violation("".join(reversed(whole)).removeprefix("."), message)


_ROOT = _Path(None, "")

Check = Callable[[Any, _Path, list[Violation]], None]
"""Adds to the list what is wrong with a value at a path."""


class _Plan(NamedTuple):
    """What to check in a message type: each field that is set, what must not be unset, which oneofs must be chosen.

    `unset` gives the words for a field that is not set, and so has an empty value that breaks its rules.
    """

    set: dict[FieldDescriptor, Check]
    unset: dict[FieldDescriptor, tuple[str, ...]]
    oneofs: tuple[str, ...]


def _check(message: Message, path: _Path, found: list[Violation]) -> None:
    plan = _plan(message.DESCRIPTOR)
    fields = dict(message.ListFields())
    for field, words in plan.unset.items():
        if field not in fields:
            found += [path.breaks(each, f".{field.name}") for each in words]
    for field, value in fields.items():
        if check := plan.set.get(field):
            check(value, path.then(f".{field.name}"), found)
    for oneof in plan.oneofs:
        if message.WhichOneof(oneof) is None:
            found.append(path.breaks("is required", f".{oneof}"))


def _check_any(packed: Any, path: _Path, found: list[Violation]) -> None:
    if not packed.type_url:
        return
    try:
        content = unpack(packed)
    except KeyError:
        return
    except DecodeError:
        found.append(path.breaks(f"value is not a {packed.type_url.rpartition('/')[2]}"))
        return
    _check(content, path, found)


@functools.cache
def _plan(message: Descriptor) -> _Plan:
    """The plan of a message type, made once."""
    plan = _Plan({}, {}, tuple(oneof.name for oneof in message.oneofs if _is_required(oneof)))
    options = MessageOptions.FromString(message.GetOptions().SerializeToString())
    if options.Extensions[validate_pb2.disabled] or options.Extensions[validate_pb2.ignored]:
        return plan._replace(oneofs=())
    for field in message.fields:
        rules = _rules(field)
        if check := _field(field, rules):
            plan.set[field] = check
        if words := _when_unset(field, rules, check):
            plan.unset[field] = words
    return plan


def _rules(field: FieldDescriptor) -> FieldRules:
    """The rules of a field; none set if it has none. (`GetOptions` knows the default pool's classes only.)"""
    return FieldOptions.FromString(field.GetOptions().SerializeToString()).Extensions[validate_pb2.rules]


def _is_required(oneof: OneofDescriptor) -> bool:
    return OneofOptions.FromString(oneof.GetOptions().SerializeToString()).Extensions[validate_pb2.required]


def _when_unset(field: FieldDescriptor, rules: FieldRules, check: Check | None) -> tuple[str, ...]:
    """What is wrong with a message in which the field is not set."""
    if field.containing_oneof:  # It is asked for only by being chosen.
        return ()
    if field.has_presence:
        kind = rules.WhichOneof("type")
        required = rules.message.required or (kind and getattr(getattr(rules, kind), "required", False))
        return ("value is required",) if required else ()
    if check is None:
        return ()
    found: list[Violation] = []
    check((() if field.is_repeated else field.default_value), _ROOT, found)
    return tuple(violation.message for violation in found)


def _field(field: FieldDescriptor, rules: FieldRules) -> Check | None:
    """The check of a field's value, or None if nothing can be wrong with it."""
    if not field.is_repeated:
        return _value(field, rules)
    if field.message_type and field.message_type.GetOptions().map_entry:
        return _map(field.message_type, rules.map)
    return _list(field, rules.repeated)


def _list(field: FieldDescriptor, rules: RepeatedRules) -> Check | None:
    """The check of a repeated field: how many items, whether they differ, and each of them."""
    count = _count(rules, rules.min_items, rules.max_items if rules.HasField("max_items") else None, "item(s)")
    item, unique = _value(field, rules.items), rules.unique

    def check_items(items: Any, path: _Path, found: list[Violation]) -> None:
        seen = set()
        for index, value in enumerate(items):
            if unique and value in seen:
                found.append(path.breaks("repeated value must contain unique items", f"[{index}]"))
            elif unique:
                seen.add(value)
            if item is not None:
                item(value, path.then(f"[{index}]"), found)

    return _both(count, check_items if item or unique else None)


def _map(entry: Descriptor, rules: MapRules) -> Check | None:
    """The check of a map: how many entries, each key, each value."""
    count = _count(rules, rules.min_pairs, rules.max_pairs if rules.HasField("max_pairs") else None, "pair(s)")
    keys = _value(entry.fields_by_name["key"], rules.keys)
    values = _value(entry.fields_by_name["value"], rules.values)

    def check_entries(entries: Any, path: _Path, found: list[Violation]) -> None:
        for key in sorted(entries):
            place = path.then(f'["{key}"]')
            if keys is not None:
                keys(key, place, found)
            if values is not None:
                values(entries[key], place, found)

    return _both(count, check_entries if keys or values else None)


def _count(rules: RepeatedRules | MapRules, low: int, high: int | None, unit: str) -> Check | None:
    if not low and high is None:
        return None
    ignore_empty = rules.ignore_empty

    def check(collection: Any, path: _Path, found: list[Violation]) -> None:
        count = len(collection)
        if count < low and not (ignore_empty and not count):
            found.append(path.breaks(f"value must contain at least {low} {unit}"))
        if high is not None and count > high:
            found.append(path.breaks(f"value must contain no more than {high} {unit}"))

    return check


def _value(field: FieldDescriptor, rules: FieldRules) -> Check | None:
    """The check of one value of a field: the whole of a singular one, an item, a key, a map's value."""
    kind = rules.WhichOneof("type")
    given = getattr(rules, kind) if kind else None
    found = constraints(kind, given, field.enum_type) if kind and kind not in ("repeated", "map") else ()
    ignore_empty = bool(getattr(given, "ignore_empty", False))
    message = field.message_type
    if message is None:
        return _scalar(found, ignore_empty) if found else None
    if message.full_name == DURATION:
        return _of(nanoseconds, _scalar(found, ignore_empty=False)) if found else None
    if message.full_name == ANY:
        own = _of(lambda packed: packed.type_url, _scalar(found, ignore_empty=False)) if found else None
        return _both(own, None if rules.message.skip else _check_any)
    if found:  # A wrapper: what it wraps has the rules.
        return _of(lambda wrapper: wrapper.value, _scalar(found, ignore_empty))
    # Rules for an Any on another message (ExtensionConfigSource has them) end protoc-gen-validate's descent.
    return _check if not rules.message.skip and kind != "any" and _has_rules(message) else None


def _scalar(given: tuple[Constraint, ...], ignore_empty: bool) -> Check:
    def check(value: Any, path: _Path, found: list[Violation]) -> None:
        if ignore_empty and not value:
            return
        for holds, otherwise in given:
            if not holds(value):
                found.append(path.breaks(otherwise))

    return check


def _of(take: Callable[[Any], Any], check: Check) -> Check:
    return lambda value, path, found: check(take(value), path, found)


def _both(first: Check | None, second: Check | None) -> Check | None:
    if first is None or second is None:
        return first or second

    def check(value: Any, path: _Path, found: list[Violation]) -> None:
        first(value, path, found)
        second(value, path, found)

    return check


@functools.cache
def _has_rules(message: Descriptor) -> bool:
    """Whether anything can be wrong in a message of this type, however deep. An Any can hold anything."""
    waiting, known = [message], {message}
    while waiting:
        current = waiting.pop()
        if current.full_name == ANY or any(map(_is_required, current.oneofs)):
            return True
        for field in current.fields:
            if _rules(field).ListFields():
                return True
            if field.message_type and field.message_type not in known:
                known.add(field.message_type)
                waiting.append(field.message_type)
    return False
