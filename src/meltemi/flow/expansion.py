"""`expand`: many rows per row of the primary table, under keys that the transform chooses.

Two primary rows may make a row under the same key. If the rows are equal it stands as long as one of them makes it;
if they are not, that of the smallest primary key stands, and each of the others gets a problem that says so.

Invariant: `makers[key]` has exactly the primary keys whose `made` has `key`, sorted, and never is empty.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from meltemi.base.problems import Problem
from meltemi.flow.index import Values
from meltemi.flow.keys import ordered
from meltemi.flow.rules import PerRow
from meltemi.flow.transform import many, ref_of
from meltemi.flow.view import Read


class PerRowMany(PerRow):
    """The rule of `expand`."""

    kind = "expand"

    def __init__(self, *declaration: Any) -> None:
        super().__init__(*declaration)
        self.made: dict[Hashable, dict[Hashable, Any]] = {}
        self.makers: dict[Hashable, tuple[Hashable, ...]] = {}
        self._told: dict[Hashable, tuple[Problem, ...]] = {}
        self._conflicts: dict[Hashable, dict[Hashable, Problem]] = {}
        self._unsettled: set[Hashable] = set()
        self._reported: set[Hashable] = set()
        self._filed: dict[tuple[Hashable, Hashable], tuple[Values, ...]] = {}

    def take(self, key: Hashable, result: Any, problems: list[Problem]) -> bool:
        before = self.made.get(key, {})
        made: dict[Hashable, Any] = {}
        for name, row in many(result, problems):
            if name not in made:
                made[name] = row
            elif made[name] != row:
                problems.append(self._conflict(key, name, key))
        filed: dict[tuple[Hashable, Hashable], tuple[Values, ...]] = {}
        equal = len(made) == len(before)
        for name, row in made.items():
            old = before.get(name)
            if old is not None and (old is row or old == row):
                made[name] = old
            else:
                filed[key, name] = self.store.file(row)
                equal = False
        if not equal:
            self._filed.update(filed)
            self._claim(key, before, made)
        return equal

    def discard(self, key: Hashable) -> None:
        before = self.made.get(key)
        if before is not None:
            self._claim(key, before, {})

    def report(self, key: Hashable, problems: tuple[Problem, ...]) -> None:
        if problems:
            self._told[key] = problems
        else:
            self._told.pop(key, None)
        self._reported.add(key)
        self._unsettled.update(name for name in self.made.get(key, ()) if len(self.makers[name]) > 1)

    def refresh(self) -> None:
        super().refresh()
        for name in ordered(self._unsettled):
            self._settle(name)
        for key in ordered(self._reported):
            conflicts = self._conflicts.get(key, {})
            told = self._told.get(key, ())
            self.ledger.record(self.name, key, (*told, *(conflicts[name] for name in ordered(conflicts))))
        self._unsettled.clear()
        self._reported.clear()
        self._filed.clear()

    def provenance(self, key: Hashable) -> frozenset[Read]:
        row = self.store.rows.get(key)
        makers = [maker for maker in self.makers.get(key, ()) if self.made[maker][key] == row]
        return frozenset().union(*(self.provenance_of_primary(maker) for maker in makers))

    def _claim(self, key: Hashable, before: dict[Hashable, Any], made: dict[Hashable, Any]) -> None:
        makers = self.makers
        for name in before:
            if name not in made:
                self._unsettled.add(name)
                self._withdraw(key, name)
        for name, row in made.items():
            if name not in before:
                makers[name] = tuple(ordered((*makers[name], key))) if name in makers else (key,)
                self._unsettled.add(name)
            elif before[name] is not row:
                self._unsettled.add(name)
        if made:
            self.made[key] = made
        else:
            self.made.pop(key, None)

    def _withdraw(self, key: Hashable, name: Hashable) -> None:
        left = tuple(maker for maker in self.makers[name] if maker != key)
        if left:
            self.makers[name] = left
        else:
            del self.makers[name]
        self._clear_conflict(key, name)

    def _settle(self, name: Hashable) -> None:
        """Put the row of the smallest primary key in place, and tell the makers of different ones."""
        store = self.store
        old = store.rows.get(name)
        makers = self.makers.get(name)
        if makers is None:
            if old is not None:
                store.drop(name)
            return
        winner = makers[0]
        row = self.made[winner][name]
        if old is None or not (old is row or old == row):
            store.put(name, row, self._filed.get((winner, name)) or store.file(row))
        for maker in makers:
            if maker != winner and self.made[maker][name] != row:
                self._conflicts.setdefault(maker, {})[name] = self._conflict(maker, name, winner)
                self._reported.add(maker)
            else:
                self._clear_conflict(maker, name)

    def _clear_conflict(self, maker: Hashable, name: Hashable) -> None:
        conflicts = self._conflicts.get(maker)
        if conflicts is not None and conflicts.pop(name, None) is not None:
            self._reported.add(maker)
            if not conflicts:
                del self._conflicts[maker]

    def _conflict(self, maker: Hashable, name: Hashable, winner: Hashable) -> Problem:
        """The problem of a maker whose row gave way to that of `winner` (itself, if it made two)."""
        other = ref_of(self.primary_name, winner, self.primary.rows.get(winner))
        also = f"also made, differently, by {other}, which takes precedence"
        twice = "made twice and differently; the first takes precedence"
        return Problem(
            ref=ref_of(self.primary_name, maker, self.primary.rows.get(maker)),
            message=f"{self.name} {name} is {twice if maker == winner else also}",
            hint=f"let only one object define {name}",
            code="Conflict",
        )
