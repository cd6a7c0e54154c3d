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
from meltemi.xds.vault import PREFIX, Vault

# What a gateway asks for to check clients with, beside the credential itself (Istio's suffix).
CA_SUFFIX = "-cacert"


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
            self._keep(key, None, None)
            yield Remove(self._pipeline.credentials, key)
        elif (table := self._pipeline.facts.get(kind)) is not None:
            yield Remove(table, key)

    def _changed(self, kind: str, key: tuple[str, str], resource: Resource) -> Iterator[Fact]:
        if isinstance(resource, Secret):
            credential = self._credential(key, resource)
            if credential is not None:
                yield Put(self._pipeline.credentials, key, credential)
        elif (table := self._pipeline.facts.get(kind)) is not None:
            yield Put(table, key, resource)

    def _credential(self, key: tuple[str, str], secret: Secret) -> Credential | None:
        """What may be known of a secret by everyone; the rest goes into the vault. None: it is no credential."""
        values = {name: value.reveal() for name, value in secret.values.items()}
        chain, private = values.get("tls.crt") or values.get("cert"), values.get("tls.key") or values.get("key")
        ca = values.get("ca.crt") or values.get("cacert")
        if not (chain and private) and not ca:
            return None
        namespace, name = key
        called = f"{PREFIX}{namespace}/{name}"
        try:
            pair = secrets.key_pair(called, chain, private) if chain and private else None
            roots = secrets.roots(f"{called}{CA_SUFFIX}", ca) if ca else None
        except ValueError as error:
            return Credential(namespace=namespace, name=name, problem=str(error))
        self._keep(key, pair, roots)
        versions = ":".join(each.version for each in (pair, roots) if each is not None)
        return Credential(
            namespace=namespace, name=name, has_key=pair is not None, has_ca=roots is not None, fingerprint=versions
        )

    def _keep(self, key: tuple[str, str], pair: Finished | None, roots: Finished | None) -> None:
        called = f"{PREFIX}{key[0]}/{key[1]}"
        self._vault.put(called, pair)
        self._vault.put(f"{called}{CA_SUFFIX}", roots)
