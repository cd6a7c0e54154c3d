"""From batches of users' objects to facts: rows for the graph, secrets for the vault, and problems by object.

Objects that do not decode, and objects with fields that the mesh does not act on, have problems of their own; they are
kept here, beside those that the graph finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from meltemi.api import support
from meltemi.api.core import Secret
from meltemi.api.meta import Resource
from meltemi.base.problems import Problem
from meltemi.base.refs import Ref
from meltemi.envoy import secrets
from meltemi.envoy.resource import Resource as Finished
from meltemi.flow import Fact, Put, Remove
from meltemi.pipeline import Pipeline
from meltemi.resolve.credentials import Credential
from meltemi.sources.kubernetes import Batch, Removed
from meltemi.xds.vault import Vault


class Facts:
    """Takes in batches."""

    def __init__(self, pipeline: Pipeline, vault: Vault, put: Callable[[Iterable[Fact]], object]) -> None:
        self._pipeline = pipeline
        self._vault = vault
        self._put = put
        self.problems: dict[Ref, tuple[Problem, ...]] = {}
        self.on_problems: Callable[[set[Ref]], None] = lambda refs: None

    def take(self, batch: Batch) -> None:
        """One batch of a source."""
        found = {ref: list(problems) for ref, problems in batch.problems.items()}
        facts: list[Fact] = []
        for change in batch.changes:
            key = (change.key.namespace, change.key.name)
            if isinstance(change, Removed):
                facts += self._removed(change.kind.kind, key)
            else:
                found.setdefault(change.resource.ref, []).extend(support.unsupported(change.resource))
                facts += self._changed(change.kind.kind, key, change.resource)
        self._note(found)
        if facts:
            self._put(facts)

    def _note(self, found: dict[Ref, list[Problem]]) -> None:
        changed = {ref for ref, problems in found.items() if self.problems.get(ref, ()) != tuple(problems)}
        for ref in changed:
            if found[ref]:
                self.problems[ref] = tuple(found[ref])
            else:
                self.problems.pop(ref, None)
        if changed:
            self.on_problems(changed)

    def _removed(self, kind: str, key: tuple[str, str]) -> Iterator[Fact]:
        if kind == "Secret":
            self._keep(key, ())
            yield Remove(self._pipeline.credentials, key)
        elif (table := self._pipeline.facts.get(kind)) is not None:
            yield Remove(table, key)

    def _changed(self, kind: str, key: tuple[str, str], resource: Resource) -> Iterator[Fact]:
        if isinstance(resource, Secret):
            yield Put(self._pipeline.credentials, key, self._credential(key, resource))
        elif (table := self._pipeline.facts.get(kind)) is not None:
            yield Put(table, key, resource)

    def _credential(self, key: tuple[str, str], secret: Secret) -> Credential:
        """What everyone may know of a secret; the rest goes into the vault."""
        namespace, name = key
        values = {field: value.reveal() for field, value in secret.values.items()}
        try:
            found = secrets.of_kubernetes(namespace, name, values)
        except ValueError as error:
            self._keep(key, ())
            return Credential(namespace=namespace, name=name, problem=str(error))
        self._keep(key, found)
        own = secrets.name_of(namespace, name)
        return Credential(
            namespace=namespace,
            name=name,
            has_key=any(each.name == own for each in found),
            has_ca=any(each.name != own for each in found),
            fingerprint=":".join(each.version for each in found),
        )

    def _keep(self, key: tuple[str, str], found: Iterable[Finished]) -> None:
        by_name = {each.name: each for each in found}
        own = secrets.name_of(*key)
        for name in (own, f"{own}{secrets.CA_SUFFIX}"):
            self._vault.put(name, by_name.get(name))
