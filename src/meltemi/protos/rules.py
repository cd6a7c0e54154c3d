"""Would Envoy refuse this message? Its field rules, interpreted before Envoy sees it.

Envoy checks every message that it is given against the protoc-gen-validate rules of its API (`validate.rules`), and
refuses the whole resource at the first that is not kept. The descriptors carry the same rules. They are compiled once
for each message type into a short list of checks; parts of the API under which there is no rule at all (metadata, for
one) are not walked. Invariant: a message that gives no violation here passes Envoy's own check of the same rules.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import DecodeError, Message

from meltemi.protos.constraints import Constraint, constraints, nanoseconds
from meltemi.protos.google.protobuf.descriptor_pb2 import FieldOptions, MessageOptions, OneofOptions
from meltemi.protos.messages import unpack
from meltemi.protos.validate import validate_pb2
from meltemi.protos.validate.validate_pb2 import FieldRules

ANY = "google.protobuf.Any"
DURATION = "google.protobuf.Duration"


class Violation(msgspec.Struct, frozen=True, order=True):
    """A rule that is not kept: `path` within the message (`filters[0].typed_config.stat_prefix`), and Envoy's words."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def violations(message: Message) -> Iterator[Violation]:
    """Every rule of Envoy's that the message or a part of it breaks, in the order of the fields' declaration.

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


def _check(message: Message, path: _Path, found: list[Violation]) -> None:
    for check in _plan(message.DESCRIPTOR):
        check(message, path, found)


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
def _plan(message: Descriptor) -> tuple[Check, ...]:
    """The checks of a message type: of each field, then of each oneof that must be set."""
    options = MessageOptions.FromString(message.GetOptions().SerializeToString())
    if options.Extensions[validate_pb2.disabled] or options.Extensions[validate_pb2.ignored]:
        return ()
    fields = (_field(field, _rules(field)) for field in message.fields)
    oneofs = (_required_oneof(oneof) for oneof in message.oneofs if _is_required(oneof))
    return (*(check for check in fields if check), *oneofs)


def _rules(field: FieldDescriptor) -> FieldRules:
    """The rules of a field; none set if it has none. (`GetOptions` knows the default pool's classes only.)"""
    return FieldOptions.FromString(field.GetOptions().SerializeToString()).Extensions[validate_pb2.rules]


def _is_required(oneof: OneofDescriptor) -> bool:
    return OneofOptions.FromString(oneof.GetOptions().SerializeToString()).Extensions[validate_pb2.required]


def _required_oneof(oneof: OneofDescriptor) -> Check:
    name = oneof.name

    def check(message: Message, path: _Path, found: list[Violation]) -> None:
        if message.WhichOneof(name) is None:
            found.append(path.breaks("is required", f".{name}"))

    return check


def _field(field: FieldDescriptor, rules: FieldRules) -> Check | None:
    """The check of one field of a message, or None if nothing can be wrong with it."""
    if field.is_repeated:
        entry = field.message_type if field.message_type and field.message_type.GetOptions().map_entry else None
        return _map(field, entry, rules) if entry else _list(field, rules)
    value = _value(field, rules)
    # A member of a oneof is asked for only by its being chosen.
    required = _must_be_set(rules) and field.containing_oneof is None
    if value is None and not required:
        return None
    name, segment = field.name, f".{field.name}"

    def check_present(message: Message, path: _Path, found: list[Violation]) -> None:
        if message.HasField(name):
            if value is not None:
                value(getattr(message, name), path.then(segment), found)
        elif required:
            found.append(path.breaks("value is required", segment))

    def check_always(message: Message, path: _Path, found: list[Violation]) -> None:
        if value is not None:
            value(getattr(message, name), path.then(segment), found)

    return check_present if field.has_presence else check_always


def _must_be_set(rules: FieldRules) -> bool:
    kind = rules.WhichOneof("type")
    return rules.message.required or (kind is not None and getattr(getattr(rules, kind), "required", False))


def _list(field: FieldDescriptor, rules: FieldRules) -> Check | None:
    """The check of a repeated field: how many items, whether they differ, and each of them."""
    given = rules.repeated
    item = _value(field, given.items)
    low, high = given.min_items, given.max_items if given.HasField("max_items") else None
    unique, ignore_empty = given.unique, given.ignore_empty
    if item is None and not low and high is None and not unique:
        return None
    name, segment = field.name, f".{field.name}"

    def check(message: Message, path: _Path, found: list[Violation]) -> None:
        items = getattr(message, name)
        if not items and (ignore_empty or not low):
            return
        if len(items) < low:
            found.append(path.breaks(f"value must contain at least {low} item(s)", segment))
        if high is not None and len(items) > high:
            found.append(path.breaks(f"value must contain no more than {high} item(s)", segment))
        seen = []
        for index, value in enumerate(items):
            if unique and value in seen:
                found.append(path.breaks("repeated value must contain unique items", f"{segment}[{index}]"))
            elif unique:
                seen.append(value)
            if item is not None:
                item(value, path.then(f"{segment}[{index}]"), found)

    return check


def _map(field: FieldDescriptor, entry: Descriptor, rules: FieldRules) -> Check | None:
    """The check of a map: how many entries, each key, each value."""
    given = rules.map
    key = _value(entry.fields_by_name["key"], given.keys)
    value = _value(entry.fields_by_name["value"], given.values)
    low, high = given.min_pairs, given.max_pairs if given.HasField("max_pairs") else None
    if key is None and value is None and not low and high is None:
        return None
    name, segment, ignore_empty = field.name, f".{field.name}", given.ignore_empty

    def check(message: Message, path: _Path, found: list[Violation]) -> None:
        entries = getattr(message, name)
        if not entries and (ignore_empty or not low):
            return
        if len(entries) < low:
            found.append(path.breaks(f"value must contain at least {low} pair(s)", segment))
        if high is not None and len(entries) > high:
            found.append(path.breaks(f"value must contain no more than {high} pair(s)", segment))
        for each in sorted(entries):
            place = path.then(f"{segment}[{each!r}]".replace("'", '"'))
            if key is not None:
                key(each, place, found)
            if value is not None:
                value(entries[each], place, found)

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
    return _check if not rules.message.skip and _has_rules(message) else None


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
