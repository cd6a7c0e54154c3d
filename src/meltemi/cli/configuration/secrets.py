"""Secrets: which ones a proxy has asked for. Their content is shown nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from meltemi.cli.configuration.rows import Row
from meltemi.cli.meshapi import ResourceRow

HEADERS = ("Name", "Version", "Bytes", "Source")
WIDE = frozenset[str]()


def rows(resources: Sequence[ResourceRow], wide: bool) -> list[Row]:
    """A row per secret."""
    return [Row((each.name, each.version, str(each.size)), each.sources) for each in resources]
