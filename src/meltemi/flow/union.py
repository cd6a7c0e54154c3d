"""One table out of several with the same kind of rows, so that readers need not know how many there are."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from meltemi.flow.rules import AnyStore, Rule
from meltemi.flow.store import KEY
from meltemi.flow.view import Read


class Union(Rule):
    """`union`: every key of any of the tables; where they share one, the row of the table named first stands."""

    kind = "union"

    def __init__(self, parts: Mapping[str, AnyStore], *declaration: Any) -> None:
        super().__init__(*declaration)
        self.parts = parts

    def every(self) -> set[Hashable]:
        return {key for part in self.parts.values() for key in part.rows}

    def departed_or_changed(self) -> set[Hashable]:
        changes = [part.change for part in self.parts.values() if part.change is not None]
        return {key for change in changes for key in change.touched[KEY]}

    def exists(self, key: Hashable) -> bool:
        return any(key in part.rows for part in self.parts.values())

    def call(self, key: Hashable) -> Any:
        return next(part.rows[key] for part in self.parts.values() if key in part.rows)

    def primary_read(self, key: Hashable) -> tuple[Read, ...]:
        return tuple(Read(name, KEY, key) for name in self.parts)

    def example(self, key: Hashable) -> object:
        return self.call(key)
