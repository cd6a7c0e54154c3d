"""What a single value must be like: one field's `validate.rules` turned into constraints.

protoc-gen-validate compiles these rules into Envoy's C++; here they are read from the descriptors. A constraint is a
predicate and the words that Envoy itself uses where it is not met, so that a prediction can be found in Envoy's log.
Invariant: a kind of rule that is not known here is an error when constraints are made, never silently passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from google.protobuf.descriptor import EnumDescriptor

from meltemi.base.durations import format_duration
from meltemi.protos.validate.validate_pb2 import HTTP_HEADER_NAME, StringRules


class Constraint(NamedTuple):
    """A predicate over a value of the field, and what is said of a value for which it is false."""

    holds: Callable[[Any], bool]
    otherwise: str


class UnknownRule(Exception):
    """The descriptors carry a rule that this module cannot interpret; the message names it."""


def constraints(kind: str, rules: Any, enum: EnumDescriptor | None = None) -> tuple[Constraint, ...]:
    """The constraints of one field's rules: `kind` is the member of FieldRules that they are in (`string`, `uint32`).

    They take scalars as they are, a Duration as `nanoseconds` of it, an Any's type URL. `enum` is the field's type
    where it is one. Whether the field must be set and whether it may be empty (`ignore_empty`) are not constraints.
    """
    given = {field.name: value for field, value in rules.ListFields()}
    for name in ("required", "ignore_empty"):
        given.pop(name, None)
    if kind == "duration":
        given = {name: nanoseconds(value) for name, value in given.items()}
    made = [*_headers(given, rules), *_enumerated(given, enum), *_range(given, kind), *_lengths(given, kind)]
    for name, value in given.items():
        if name not in _SIMPLE or (kind, name) in _NOT_INTERPRETED:
            raise UnknownRule(f"{kind}.{name}")
        made.append(_SIMPLE[name](value))
    return tuple(made)


def nanoseconds(duration: Any) -> int:
    """A `google.protobuf.Duration` as a number that can be compared exactly."""
    return int(duration.seconds * 1_000_000_000 + duration.nanos)


def _one_of(values: Sequence[Any], shown: str = "") -> Constraint:
    allowed = frozenset(values)
    return Constraint(lambda value: value in allowed, f"value must be in list {shown or _list(values)}")


def _none_of(values: Sequence[Any], shown: str = "") -> Constraint:
    refused = frozenset(values)
    return Constraint(lambda value: value not in refused, f"value must not be in list {shown or _list(values)}")


def _pattern(pattern: str) -> Constraint:
    # RE2's full match: its classes are ASCII's, and `$` is not satisfied before a last line feed, as in Python's search.
    full_match = re.compile(pattern, re.ASCII).fullmatch
    return Constraint(lambda value: full_match(value) is not None, f'value does not match regex pattern "{pattern}"')


_SIMPLE: dict[str, Callable[[Any], Constraint]] = {
    "const": lambda const: Constraint(lambda value: bool(value == const), f"value must equal {_word(const)}"),
    "in": _one_of,
    "not_in": _none_of,
    "pattern": _pattern,
    "prefix": lambda prefix: Constraint(
        lambda value: bool(value.startswith(prefix)), f'value does not have prefix "{prefix}"'
    ),
    "suffix": lambda suffix: Constraint(
        lambda value: bool(value.endswith(suffix)), f'value does not have suffix "{suffix}"'
    ),
    "contains": lambda part: Constraint(lambda value: part in value, f'value does not contain substring "{part}"'),
    "not_contains": lambda part: Constraint(lambda value: part not in value, f'value contains substring "{part}"'),
}
_NOT_INTERPRETED = frozenset({("bytes", "pattern"), ("duration", "in"), ("duration", "not_in")})


# protoc-gen-validate's patterns for `well_known_regex`; the lax one serves names and values alike.
_HEADER_NAME = r"^:?[0-9a-zA-Z!#$%&'*+-.^_|~\x60]+$"
_HEADER_VALUE = r"^[^\x00-\x08\n-\x1f\x7f]*$"
_HEADER_LAX = r"^[^\x00\n\r]*$"


def _headers(given: dict[str, Any], rules: Any) -> Iterator[Constraint]:
    """`well_known_regex` and its `strict`, which holds unless it is switched off."""
    given.pop("strict", None)
    if (regex := given.pop("well_known_regex", 0)) and isinstance(rules, StringRules):
        strict = _HEADER_NAME if regex == HTTP_HEADER_NAME else _HEADER_VALUE
        yield _pattern(strict if rules.strict else _HEADER_LAX)


def _enumerated(given: dict[str, Any], enum: EnumDescriptor | None) -> Iterator[Constraint]:
    """An enum's rules, whose lists show names for numbers."""
    if enum is None:
        return
    names = {number: value.name for number, value in enum.values_by_number.items()}
    if given.pop("defined_only", False):
        yield Constraint(names.__contains__, "value must be one of the defined enum values")
    for rule, make in (("in", _one_of), ("not_in", _none_of)):
        if values := given.pop(rule, None):
            yield make(values, _list([names.get(value, value) for value in values]))


class _Bound(NamedTuple):
    """One end of a range; `exclusive` if the value itself is outside."""

    value: Any
    text: str
    exclusive: bool

    def above(self, value: Any) -> bool:
        """Whether the value is on the upper side of this bound."""
        return bool(value > self.value if self.exclusive else value >= self.value)

    def below(self, value: Any) -> bool:
        """Whether the value is on the lower side of this bound."""
        return bool(value < self.value if self.exclusive else value <= self.value)


def _range(given: dict[str, Any], kind: str) -> Iterator[Constraint]:
    """`gt`, `gte`, `lt` and `lte`: alone, as a range, or, where the upper bound is not above the lower, as a gap."""
    low, high = _bound(given, "gt", "gte", kind), _bound(given, "lt", "lte", kind)
    if low and high:
        if low.value < high.value:
            span = f"{'(' if low.exclusive else '['}{low.text}, {high.text}{')' if high.exclusive else ']'}"
            yield Constraint(lambda value: low.above(value) and high.below(value), f"value must be inside range {span}")
        else:
            span = f"{'[' if high.exclusive else '('}{high.text}, {low.text}{']' if low.exclusive else ')'}"
            yield Constraint(lambda value: low.above(value) or high.below(value), f"value must be outside range {span}")
    elif low:
        yield Constraint(low.above, f"value must be greater than {'' if low.exclusive else 'or equal to '}{low.text}")
    elif high:
        yield Constraint(high.below, f"value must be less than {'' if high.exclusive else 'or equal to '}{high.text}")


def _bound(given: dict[str, Any], exclusive: str, inclusive: str, kind: str) -> _Bound | None:
    """Takes a bound of either name out of the rules."""
    for name in (exclusive, inclusive):
        if (value := given.pop(name, None)) is not None:
            if kind == "duration":
                text = format_duration(timedelta(microseconds=value // 1000))
            else:
                text = f"{value:.15g}" if isinstance(value, float) else str(value)
            return _Bound(value, text, name == exclusive)
    return None


def _lengths(given: dict[str, Any], kind: str) -> Iterator[Constraint]:
    """Lengths: of strings in characters, except where the rule says bytes."""
    yield from _length(given, ("len", "min_len", "max_len"), len, "bytes" if kind == "bytes" else "characters")
    yield from _length(given, ("len_bytes", "min_bytes", "max_bytes"), lambda value: len(value.encode()), "bytes")


def _length(
    given: dict[str, Any], names: tuple[str, str, str], measure: Callable[[Any], int], unit: str
) -> Iterator[Constraint]:
    exact, low, high = (given.pop(name, None) for name in names)
    if exact is not None:
        yield Constraint(lambda value: measure(value) == exact, f"value length must be {exact} {unit}")
    if low:
        yield Constraint(lambda value: measure(value) >= low, f"value length must be at least {low} {unit}")
    if high is not None:
        yield Constraint(lambda value: measure(value) <= high, f"value length must be at most {high} {unit}")


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(values: Sequence[Any]) -> str:
    return f"[{' '.join(map(_word, values))}]"
