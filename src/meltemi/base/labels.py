"""Labels and the selectors that look at them (Kubernetes `LabelSelector`, Istio `WorkloadSelector`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

Labels = Mapping[str, str]

# Labels that differ between the replicas of one workload and that no selector of a mesh policy may rest on.
PER_POD = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "pod-template-generation",
        "batch.kubernetes.io/job-completion-index",
    }
)


class LabelSet(msgspec.Struct, frozen=True, order=True, gc=False):
    """Labels as a value: sorted, hashable, comparable."""

    items: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, labels: Labels) -> LabelSet:
        """The same labels, sorted by key."""
        return cls(tuple(sorted(labels.items())))

    def get(self, key: str, default: str | None = None) -> str | None:
        """The value of a label, or `default`."""
        for name, value in self.items:
            if name == key:
                return value
        return default

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    def as_dict(self) -> dict[str, str]:
        """The labels as a dictionary of their own."""
        return dict(self.items)

    def contains(self, wanted: LabelSet) -> bool:
        """Whether every label of `wanted` is here with the same value. An empty selector selects all."""
        return all(self.get(key) == value for key, value in wanted.items)

    def without(self, keys: frozenset[str]) -> LabelSet:
        """The labels but for `keys`."""
        return LabelSet(tuple(item for item in self.items if item[0] not in keys))

    def only(self, keys: frozenset[str]) -> LabelSet:
        """Those of `keys` that are here."""
        return LabelSet(tuple(item for item in self.items if item[0] in keys))
