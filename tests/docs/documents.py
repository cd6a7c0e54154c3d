"""The documents under test: where they are, and how their headings divide them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"


def all_documents() -> list[Path]:
    """Every page that users read: the README, the examples' READMEs, and whatever lies under `docs`."""
    return [README, *sorted(ROOT.glob("examples/*/README.md")), *sorted(DOCS.rglob("*.md"))]


def section(text: str, heading: str) -> str:
    """What stands below a heading, up to the next one of the same or a higher level. Raises ValueError if it is not there."""
    lines = text.splitlines()
    start = lines.index(heading)
    level = len(heading) - len(heading.lstrip("#"))
    for end in range(start + 1, len(lines)):
        found = re.match(r"(#+) ", lines[end])
        if found and len(found[1]) <= level:
            return "\n".join(lines[start + 1 : end])
    return "\n".join(lines[start + 1 :])
