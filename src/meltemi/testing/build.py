"""Objects for tests, from YAML as a user would write it.

An object's age is its place in the text: later ones are younger, unless they say when they were created.
"""

from __future__ import annotations

from textwrap import dedent
from typing import Any

from meltemi.api.decoding import decode
from meltemi.api.meta import Resource
from meltemi.api.yaml import load


def resources(text: str, namespace: str = "default") -> list[Resource]:
    """The objects of a YAML text. Raises ValueError, telling every problem, if one of them cannot be decoded."""
    loaded = load(dedent(text), "test.yaml")
    problems = list(loaded.problems)
    found = []
    for position, document in enumerate(loaded.documents):
        decoded = decode(_dated(document.data, position), document.origin, document.lines, namespace)
        problems += decoded.problems
        if decoded.resource is not None:
            found.append(decoded.resource)
    if problems:
        raise ValueError("\n".join(str(problem) for problem in problems))
    return found


def _dated(data: dict[str, Any], position: int) -> dict[str, Any]:
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return data
    created = f"2026-01-01T00:{position // 60:02}:{position % 60:02}Z"
    return {**data, "metadata": {"creationTimestamp": created, **metadata}}
