"""What create, update, patch, apply and delete mean: one request in, one stored version or one refusal out.

Every write ends in the same place, `_store`: defaults, rules, generation, managed fields, then the store. All of it
is synchronous, so a request sees one state of the world and leaves the next one.

Invariant: what is not said in the request about identity (uid, creationTimestamp, generation, status where that is
a subresource) is taken from the stored object, never from the request.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from meltemi.base.problems import Severity
from meltemi.kube.client import PatchType
from meltemi.kube.errors import Cause
from meltemi.kube.resources import Key, Obj, key_of
from meltemi.local.apiserver import addresses, admission, defaults, ownership, patches, refusals, shapes
from meltemi.local.apiserver.catalogue import Catalogue, Kind
from meltemi.local.apiserver.objects import Part, copied, dispute_cause, only_part, substance, without_revision
from meltemi.local.apiserver.ownership import Manager, Managers
from meltemi.local.apiserver.removal import DeleteOptions, Removal
from meltemi.local.apiserver.selectors import Selector
from meltemi.local.apiserver.store import Item, Store

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_MOST_EVENTS = 2000


class Options(msgspec.Struct, frozen=True):
    """How to write: only try (`dry_run`), in whose name fields are owned, and whether an apply may take them."""

    dry_run: bool = False
    manager: str = "unknown"
    force: bool = False
    part: Part = Part.MAIN


class Result(msgspec.Struct, frozen=True):
    """A successful write: the object, whether it is new, and warnings for the user."""

    item: Item
    created: bool = False
    warnings: tuple[str, ...] = ()


class Listing(msgspec.Struct, frozen=True):
    """A page of a list: objects, the revision of the list, and where the next page starts (None: no more)."""

    items: Sequence[Item]
    revision: int
    next: Key | None = None
    remaining: int = 0


class Verbs:
    """The verbs of the API on a store. `now` is the clock, `validate` the rules of the mesh's kinds, `mutate` amends new objects."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        *,
        validate: admission.Validator = admission.no_rules,
        mutate: admission.Mutator = admission.no_change,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self._validate = validate
        self._mutate = mutate
        self._now = now
        self._removal = Removal(store, catalogue, now)

    # === reading ===

    def get(self, kind: Kind, key: Key) -> Item:
        """One object. Raises NotFound."""
        item = self.store.get(kind.id, key)
        if item is None:
            raise refusals.not_found(kind, key.name)
        return item

    def list(self, kind: Kind, namespace: str, selector: Selector, limit: int = 0, after: Key | None = None) -> Listing:
        """The selected objects in the order of their keys, at most `limit` (0: all) of those after a key."""
        found = [
            item
            for item in self.store.items(kind.id, namespace)
            if (after is None or key_of(item.obj) > after) and selector.matches(item.obj)
        ]
        if limit and len(found) > limit:
            return Listing(found[:limit], self.store.revision, key_of(found[limit - 1].obj), len(found) - limit)
        return Listing(found, self.store.revision)

    # === writing ===

    def create(self, kind: Kind, namespace: str, obj: Obj, options: Options) -> Result:
        """A new object. Raises AlreadyExists, Invalid, Forbidden (namespace going), NotFound (no namespace)."""
        obj = self._owned_copy(kind, obj)
        metadata = obj["metadata"]
        if metadata.get("resourceVersion"):
            raise refusals.bad_request("resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:58] + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        self._settle_namespace(kind, namespace, metadata)
        key = key_of(obj)
        if self.store.get(kind.id, key) is not None:
            raise refusals.already_exists(kind, key.name)
        self._require_namespace(kind, key)
        self._require_account(kind, key, obj)
        managers = self._tracked(kind, {}, obj, ownership.read_managers(obj), options)
        if kind.status:
            obj.pop("status", None)
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._timestamp()
        if kind.group:
            metadata["generation"] = 1
        return self._store(kind, None, obj, managers, options)

    def update(self, kind: Kind, key: Key, obj: Obj, options: Options) -> Result:
        """Replaces an object, or its status. Raises NotFound, Conflict, Invalid."""
        before = self.get(kind, key)
        return self._replace(kind, before, self._owned_copy(kind, obj), options, apply=None)

    def patch(self, kind: Kind, key: Key, how: PatchType, patch: Any, options: Options) -> Result:
        """Changes parts of an object. A patch that names a resourceVersion is refused if that is not the current one."""
        if how is PatchType.APPLY:
            return self.apply(kind, key, patch, options)
        before = self.get(kind, key)
        try:
            after = self._patched(kind, before.obj, how, patch)
        except ValueError as error:
            cause = Cause("patch", str(error), "FieldValueInvalid")
            raise refusals.invalid(kind, key.name, [cause]) from error
        if not isinstance(after, dict):
            raise refusals.bad_request("the patch leaves something that is not an object")
        return self._replace(kind, before, self._owned_copy(kind, after), options, apply=None)

    def apply(self, kind: Kind, key: Key, config: Obj, options: Options) -> Result:
        """Server-side apply: creates the object or makes the given fields so. Raises Conflict over owned fields."""
        config = self._owned_copy(kind, config)
        if config["metadata"].get("managedFields"):
            raise refusals.bad_request("metadata.managedFields must be nil")
        self._settle_namespace(kind, key.namespace, config["metadata"])
        if config["metadata"].setdefault("name", key.name) != key.name:
            raise refusals.bad_request(
                f"the name of the object ({config['metadata']['name']}) does not match the URL's"
            )
        who = Manager(options.manager, "Apply", options.part.value)
        before = self.store.get(kind.id, key)
        if before is None:
            if options.part is not Part.MAIN:
                raise refusals.not_found(kind, key.name)
            return self._create_applied(kind, config, who, options)
        if kind.status and options.part is Part.MAIN:
            config.pop("status", None)
        elif options.part is Part.STATUS:
            config = {name: config[name] for name in ("apiVersion", "kind", "metadata", "status") if name in config}
            config["metadata"] = {"name": key.name, "namespace": key.namespace}
        outcome = ownership.apply(
            before.obj,
            config,
            ownership.read_managers(before.obj),
            who,
            self._timestamp(),
            self._shape(kind),
            force=options.force,
        )
        if outcome.disputes:
            raise refusals.disputed(kind, key.name, [dispute_cause(dispute) for dispute in outcome.disputes])
        return self._replace(kind, before, self._owned_copy(kind, outcome.obj), options, apply=outcome.managers)

    def delete(self, kind: Kind, key: Key, options: DeleteOptions) -> tuple[Item, bool]:
        """Deletes an object; tells it as it is (or was at last) and whether it is gone already."""
        item = self._removal.request(kind, self.get(kind, key), options)
        return item, not options.dry_run and self.store.get(kind.id, key) is None

    def delete_all(self, kind: Kind, namespace: str, selector: Selector, options: DeleteOptions) -> Listing:
        """Deletes the selected objects of a collection; tells them as they were."""
        listing = self.list(kind, namespace, selector)
        for item in listing.items:
            if self.store.get(kind.id, key_of(item.obj)) is not None:
                self._removal.request(kind, item, options)
        return listing

    def resume(self) -> None:
        """Finishes what a stop of the process may have interrupted. Call once, before serving."""
        self._removal.resume()

    # === steps of a write ===

    def _create_applied(self, kind: Kind, config: Obj, who: Manager, options: Options) -> Result:
        if config["metadata"].get("uid"):
            raise refusals.conflict(kind, config["metadata"]["name"], "uid mismatch: the object does not exist")
        shape = self._shape(kind)
        if kind.status:
            config.pop("status", None)
        entry = ownership.Entry(frozenset(ownership.leaves(config, shape)), config["apiVersion"], self._timestamp())
        config["metadata"]["managedFields"] = ownership.write_managers({who: entry})
        config["metadata"].pop("resourceVersion", None)
        return self.create(
            kind, config["metadata"].get("namespace", ""), config, msgspec.structs.replace(options, manager="")
        )

    def _replace(self, kind: Kind, before: Item, obj: Obj, options: Options, *, apply: Managers | None) -> Result:
        """The common way of update, patch and apply; `apply` has the managers if an apply has settled them."""
        old, new = before.obj["metadata"], obj["metadata"]
        key = key_of(before.obj)
        new.setdefault("name", key.name)
        self._settle_namespace(kind, key.namespace, new)
        if new["name"] != key.name:
            raise refusals.bad_request(f"the name of the object ({new['name']}) does not match the URL's ({key.name})")
        if new.get("uid", old["uid"]) != old["uid"]:
            raise refusals.conflict(
                kind,
                key.name,
                f"Precondition failed: UID in precondition: {new['uid']}, UID in object meta: {old['uid']}",
            )
        if new.get("resourceVersion", old["resourceVersion"]) not in ("", old["resourceVersion"]):
            raise refusals.stale(kind, key.name)
        for name in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            new.pop(name, None)
            if name in old:
                new[name] = old[name]
        obj = only_part(kind, before.obj, obj, options.part)
        managers = apply
        if managers is None:
            known = ownership.read_managers(obj if "managedFields" in new else before.obj)
            managers = self._tracked(kind, before.obj, obj, known, options)
        return self._store(kind, before, obj, managers, options)

    def _store(self, kind: Kind, before: Item | None, obj: Obj, managers: Managers, options: Options) -> Result:
        """Fills in defaults, checks the rules, and writes what has changed."""
        defaults.fill(kind.id, obj)
        if before is None:
            namespace = self.store.get("namespaces", Key("", obj["metadata"].get("namespace", "")))
            self._mutate(kind, obj, namespace.obj if namespace else None)
        if kind.id == "services":
            self._give_address(obj, before)
        warnings = self._check(kind, before, obj)
        metadata = obj["metadata"]
        if before is not None and kind.group and substance(before.obj) != substance(obj):
            metadata["generation"] = before.obj["metadata"].get("generation", 0) + 1
        metadata["managedFields"] = ownership.write_managers(ownership.present(managers, obj, self._shape(kind)))
        if before is not None and without_revision(before.obj) == without_revision(obj):
            return Result(before, warnings=warnings)
        if options.dry_run:
            metadata.setdefault("resourceVersion", before.obj["metadata"]["resourceVersion"] if before else "")
            return Result(Item(obj, msgspec.json.encode(obj), self.store.revision), before is None, warnings)
        item = self.store.put(kind.id, obj)
        if before is None:
            self._after_creation(kind, item)
        return Result(self._removal.settle(kind, item) or item, before is None, warnings)

    def _after_creation(self, kind: Kind, item: Item) -> None:
        if kind.id == "namespaces" and (accounts := self.catalogue.by_id("serviceaccounts")):
            name = item.obj["metadata"]["name"]
            account: Obj = {"metadata": {"name": "default", "namespace": name}}
            self.create(accounts, name, account, Options(manager="meltemi"))
        if kind.id == "events":
            self._forget_old_events(kind)
        self._removal.adopt(kind, item)

    def _forget_old_events(self, kind: Kind) -> None:
        """Events are a news sheet, not an archive: the oldest tenth goes when there are too many."""
        if self.store.count(kind.id) > _MOST_EVENTS:
            by_age = sorted(self.store.items(kind.id), key=lambda item: item.revision)
            for old in by_age[: _MOST_EVENTS // 10]:
                self._removal.request(kind, old)

    def _check(self, kind: Kind, before: Item | None, obj: Obj) -> tuple[str, ...]:
        """Raises Invalid with every cause at once; returns the warnings."""
        causes = [*admission.metadata_causes(kind, obj), *admission.core_causes(kind, obj)]
        if before is not None:
            causes += admission.change_causes(kind, before.obj, obj)
        problems = list(self._validate(kind, obj)) if before is None or substance(before.obj) != substance(obj) else []
        causes += [admission.cause_of(problem) for problem in problems if problem.severity is Severity.ERROR]
        if causes:
            raise refusals.invalid(kind, obj["metadata"].get("name", ""), causes)
        return tuple(f"{problem.path}: {problem.message}" for problem in problems)

    def _tracked(self, kind: Kind, before: Obj, obj: Obj, known: Managers, options: Options) -> Managers:
        if not options.manager:
            return known
        who = Manager(options.manager, "Update", options.part.value)
        return ownership.updated(before, obj, known, who, self._timestamp(), self._shape(kind))

    def _patched(self, kind: Kind, obj: Obj, how: PatchType, patch: Any) -> Any:
        if how is PatchType.JSON:
            return patches.json_patch(obj, patch)
        if how is PatchType.MERGE:
            return patches.merge(obj, patch)
        if not shapes.has_strategic_merge(kind.group):
            raise refusals.unsupported_media(how, [PatchType.JSON, PatchType.MERGE, PatchType.APPLY])
        return patches.strategic(obj, patch, self._shape(kind))

    def _give_address(self, obj: Obj, before: Item | None) -> None:
        """Cluster IPs: kept if there was one, `None` for headless services, else chosen."""
        spec = obj["spec"]
        if spec.get("type") == "ExternalName":
            for name in ("clusterIP", "clusterIPs"):
                spec.pop(name, None)
            return
        kept = (before.obj.get("spec") or {}).get("clusterIP") if before else None
        if not spec.get("clusterIP"):
            taken = {(item.obj.get("spec") or {}).get("clusterIP", "") for item in self.store.items("services")}
            spec["clusterIP"] = kept or addresses.choose(key_of(obj), taken)
        spec["clusterIPs"] = [spec["clusterIP"]]

    def _settle_namespace(self, kind: Kind, namespace: str, metadata: Obj) -> None:
        if not kind.namespaced:
            metadata.pop("namespace", None)
        elif (metadata.get("namespace") or namespace) != namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        else:
            metadata["namespace"] = namespace

    def _require_namespace(self, kind: Kind, key: Key) -> None:
        if not kind.namespaced:
            return
        spaces = self.catalogue.by_id("namespaces")
        namespace = self.store.get("namespaces", Key("", key.namespace))
        if namespace is None and spaces is not None:
            raise refusals.not_found(spaces, key.namespace)
        if namespace is not None and namespace.obj["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            raise refusals.forbidden(why, kind, key.name, [Cause("metadata.namespace", why, "NamespaceTerminating")])

    def _require_account(self, kind: Kind, key: Key, obj: Obj) -> None:
        """A pod's service account is its identity: it must exist first."""
        if kind.id != "pods":
            return
        spec = obj.get("spec") if isinstance(obj.get("spec"), dict) else {}
        name = (spec or {}).get("serviceAccountName") or (spec or {}).get("serviceAccount") or "default"
        if self.store.get("serviceaccounts", Key(key.namespace, str(name))) is None:
            why = f'error looking up service account {key.namespace}/{name}: serviceaccount "{name}" not found'
            raise refusals.forbidden(why, kind, key.name)

    def _owned_copy(self, kind: Kind, obj: Any) -> Obj:
        """A copy that is ours to amend, of the stored version, without nulls. Raises BadRequest for what is no object."""
        if not isinstance(obj, dict):
            raise refusals.bad_request("the body is not an object")
        given = (obj.get("apiVersion"), obj.get("kind"))
        if any(given) and self.catalogue.of_object(obj) is not kind:
            raise refusals.bad_request(
                f"the object provided is a {given[1]} of {given[0]}, which is not what the URL names ({kind.kind})"
            )
        copy = copied(obj)
        copy["apiVersion"], copy["kind"] = kind.api_version(), kind.kind
        if not isinstance(copy.setdefault("metadata", {}), dict):
            raise refusals.bad_request("metadata is not an object")
        defaults.normalise(kind.id, copy)
        return copy

    def _shape(self, kind: Kind) -> shapes.Shape:
        return shapes.shape_of(kind.group, kind.kind)

    def _timestamp(self) -> str:
        return self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
