"""The page on testing keeps its word: its example runs, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from meltemi.testing.mesh import Mesh

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"


def test_the_example_of_the_page_runs(mesh: Mesh) -> None:
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), names)
    (test,) = [value for name, value in names.items() if name.startswith("test_")]
    test(mesh)
