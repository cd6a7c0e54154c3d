"""Whether Envoy's RE2 takes a regular expression.

RE2 is not at hand here, so the expression is looked through for what RE2 lacks (look-around, back references, atomic
groups) and then compiled by Python, after what only RE2 knows has been replaced by something of the same shape.
Source: RE2's syntax page.
"""

from __future__ import annotations

import re
import warnings

from meltemi.api.faults import Fault, Faults

_FOREIGN = (
    (re.compile(r"\(\?<?[=!]"), "look-around"),
    (re.compile(r"\(\?P="), "back references"),
    (re.compile(r"\(\?>"), "atomic groups"),
    (re.compile(r"\(\?\("), "conditionals"),
    (re.compile(r"\(\?#"), "comments"),
    (re.compile(r"\\[1-9]"), "back references"),
    (re.compile(r"([*+?]|\{\d+(,\d*)?\})\+"), "possessive quantifiers"),
    (re.compile(r"\\Z"), r"\Z (it is \z there)"),
)
_TRANSLATIONS = (
    (re.compile(r"\\[pP](\{\^?\w+\}|\w)"), r"\\w"),
    (re.compile(r"\[:\^?\w+:\]"), "a"),
    (re.compile(r"\(\?<(?=[A-Za-z_])"), "(?P<"),
    (re.compile(r"\(\?([a-zA-Z]*)U([a-zA-Z]*)([-:)])"), r"(?\1\2\3"),
    (re.compile(r"\(\?\)"), ""),
    (re.compile(r"\\z"), r"\\Z"),
    (re.compile(r"\\C"), "."),
)
_QUOTED = re.compile(r"\\Q.*?(\\E|$)", re.DOTALL)
_ESCAPED = re.compile(r"\\\W")
_CLASS = re.compile(r"\[\^?\]?(\[:\^?\w+:\]|[^\]])*\]")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_MOST_REPEATS = 1000
_LONGEST = 1024


def regex(path: str, value: str) -> Faults:
    """A regular expression that RE2 understands."""
    reason = _objection(value)
    if reason:
        yield Fault(path, f"{value!r} is not a regular expression of RE2: {reason}", _hint(reason), "InvalidRegex")


def _objection(value: str) -> str:
    if not value:
        return "it is empty"
    if len(value) > _LONGEST:
        return f"it is longer than {_LONGEST} characters"
    bare = _ESCAPED.sub("x", _QUOTED.sub("q", value))
    outside = _CLASS.sub("c", bare)
    for pattern, name in _FOREIGN:
        if pattern.search(outside):
            return f"RE2 has no {name}"
    for low, high in _REPEAT.findall(outside):
        if int(low) > _MOST_REPEATS or (high and int(high) > _MOST_REPEATS):
            return f"RE2 repeats at most {_MOST_REPEATS} times"
    for pattern, replacement in _TRANSLATIONS:
        bare = pattern.sub(replacement, bare)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(bare)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error)
    return ""


def _hint(reason: str) -> str:
    if "look-around" in reason:
        return "say it with several matches, or with withoutHeaders"
    if "empty" in reason:
        return "write an expression, or .* for anything"
    return "see https://github.com/google/re2/wiki/Syntax"
