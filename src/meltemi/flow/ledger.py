"""Every problem of every table, by the row whose transform told of it and by the object it concerns.

A row's problems live and die with its last evaluation. An object is told about once, however many rows tell of the
same thing, and whoever shows problems to users learns only of the objects whose problems are really different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from meltemi.base.problems import Problem
from meltemi.base.refs import Ref


class Ledger:
    """The problems of a graph."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, Hashable], tuple[Problem, ...]] = {}
        self._by_ref: dict[Ref, Counter[Problem]] = {}
        self._before: dict[Ref, frozenset[Problem]] = {}

    def record(self, table: str, key: Hashable, problems: tuple[Problem, ...]) -> None:
        """What the last evaluation of one row had to tell, in place of what the one before told."""
        slot = (table, key)
        held = self._held.get(slot, ())
        if held == problems:
            return
        for problem in held:
            self._remember(problem.ref)
            about = self._by_ref[problem.ref]
            about[problem] -= 1
            if not about[problem]:
                del about[problem]
            if not about:
                del self._by_ref[problem.ref]
        for problem in problems:
            self._remember(problem.ref)
            self._by_ref.setdefault(problem.ref, Counter())[problem] += 1
        if problems:
            self._held[slot] = problems
        else:
            del self._held[slot]

    def settle(self) -> frozenset[Ref]:
        """The objects whose problems differ from what they were when this was last asked."""
        changed = frozenset(ref for ref, before in self._before.items() if before != self._about(ref))
        self._before.clear()
        return changed

    def all(self) -> tuple[Problem, ...]:
        """Every problem once, sorted."""
        return tuple(sorted(problem for about in self._by_ref.values() for problem in about))

    def of(self, ref: Ref) -> tuple[Problem, ...]:
        """The problems of one object, sorted."""
        return tuple(sorted(self._about(ref)))

    def of_row(self, table: str, key: Hashable) -> tuple[Problem, ...]:
        """What the last evaluation of one row had to tell, in its order."""
        return self._held.get((table, key), ())

    def of_table(self, table: str) -> dict[Hashable, tuple[Problem, ...]]:
        """What the rows of one table have to tell, by primary key."""
        return {key: problems for (name, key), problems in self._held.items() if name == table}

    def __len__(self) -> int:
        return sum(len(about) for about in self._by_ref.values())

    def _remember(self, ref: Ref) -> None:
        if ref not in self._before:
            self._before[ref] = self._about(ref)

    def _about(self, ref: Ref) -> frozenset[Problem]:
        return frozenset(self._by_ref.get(ref, ()))
