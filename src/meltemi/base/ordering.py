"""Every order that the mesh promises, in one place. Ties go to the older, then to the name: never to who came first."""

from __future__ import annotations

from typing import Protocol


class Dated(Protocol):
    """Whatever has an age and a name."""

    @property
    def created(self) -> str:
        """When it was made, in RFC 3339 with Z (sorts as text)."""

    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...


def seniority(item: Dated) -> tuple[str, str, str]:
    """The older first; among those of one age by namespace and name (Istio sorts so by creation time)."""
    return (item.created, item.namespace, item.name)
