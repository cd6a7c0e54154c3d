"""Every command that a page shows does what the page says, on a real mesh."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .console import Console, Step, Written, blocks, missing, parts
from .documents import ROOT, all_documents

# Commands that are shown and not run, and why.
NOT_RUN = {
    "make test": "the test would run itself",
}
# Commands that are run in another way: their set-up has been done by whoever runs the tests.
STANDS_FOR = {"make demo": "make -o setup -o .venv/.ready demo"}

MADE = {"cli.md", "compatibility.md"}
_STARTS = re.compile(r"^(meltemi up|make demo)")


def steps(page: Path) -> list[Step | Written]:
    """What is to be done on a page."""
    return [part for part in parts(page.read_text()) if not (isinstance(part, Step) and part.command in NOT_RUN)]


def commands(page: Path) -> list[str]:
    return [part.command for part in parts(page.read_text()) if isinstance(part, Step)]


def brings_its_own_mesh(page: Path) -> bool:
    return any(_STARTS.match(command) for command in commands(page))


PAGES = [page for page in all_documents() if any(isinstance(part, Step) for part in steps(page))]
ON_THEIR_OWN = [page for page in PAGES if brings_its_own_mesh(page)]
ON_A_SHARED_MESH = [page for page in PAGES if not brings_its_own_mesh(page)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def follow(page: Path, console: Console) -> None:
    """Do what a page says, from top to bottom."""
    for part in steps(page):
        if isinstance(part, Written):
            console.write(part)
            continue
        program = part.command.split()[0]
        if program == "kubectl" and shutil.which(program) is None and not os.environ.get("CI"):
            continue
        difference = console.run(part._replace(command=STANDS_FOR.get(part.command, part.command)))
        assert difference is None, f"{name(page)}:{part.line}: $ {part.command}\n{difference}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with Console(tmp_path_factory.mktemp("shared")) as console:
        up = Step(0, "meltemi up -d examples/bookshop", ("reachable", "ready after"), frozenset())
        assert console.run(up) is None
        yield console


@pytest.mark.e2e
@pytest.mark.parametrize("page", ON_THEIR_OWN, ids=name)
def test_a_page_that_starts_a_mesh_does_what_it_says(page: Path, tmp_path: Path) -> None:
    with Console(tmp_path) as console:
        follow(page, console)


@pytest.mark.e2e
@pytest.mark.parametrize("page", ON_A_SHARED_MESH, ids=name)
def test_a_page_that_takes_a_mesh_for_granted_does_what_it_says(page: Path, shared: Console) -> None:
    follow(page, shared)


@pytest.mark.parametrize("page", [page for page in all_documents() if page.name not in MADE], ids=name)
def test_commands_stand_in_console_blocks_where_they_are_run(page: Path) -> None:
    for block in blocks(page.read_text()):
        if block.info.split()[:1] != ["console"]:
            shown = [line for line in block.lines if re.match(r"\s*(\$ |meltemi |make |kubectl |curl )", line)]
            assert not shown, f"{name(page)}:{block.line}: {shown[0]} is never run"
            assert block.info.split()[:1] not in (["sh"], ["bash"], ["shell"]), f"{name(page)}:{block.line}"


def test_commands_that_are_not_run_are_really_shown_somewhere() -> None:
    shown = {command for page in all_documents() for command in commands(page)}
    assert NOT_RUN.keys() | STANDS_FOR.keys() <= shown


PAGE = """
```console
$ echo one; echo two   three
one
two ...
$ cat <<END
> hello
> END
hello
```

```yaml title=a.yaml
kind: Pod
```

```console fails
$ false
```
"""


def test_a_page_is_read_as_commands_with_what_they_print_and_files() -> None:
    assert list(parts(PAGE)) == [
        Step(3, "echo one; echo two   three", ("one", "two ..."), frozenset()),
        Step(6, "cat <<END\nhello\nEND", ("hello",), frozenset()),
        Written("a.yaml", "kind: Pod\n"),
        Step(17, "false", (), frozenset({"fails"})),
    ]


def test_lines_are_found_in_order_with_anything_for_dots_and_any_blanks() -> None:
    assert missing(("a ... d", "e"), "a b   c d\nx\n  e\n") is None
    assert missing(("e", "a ... d"), "a b c d\ne\n") == "a ... d"


def test_a_console_tells_what_differs_from_the_page(tmp_path: Path) -> None:
    with Console(tmp_path) as console:
        outcomes = [console.run(part) for part in parts(PAGE) if isinstance(part, Step)]
        assert outcomes == [None, None, None]
        wrong = console.run(Step(1, "echo yes; exit 3", ("no",), frozenset()))
        assert wrong is not None
        assert "no line 'no'" in wrong
        assert "exit status is 3" in str(console.run(Step(1, "exit 3", (), frozenset())))
