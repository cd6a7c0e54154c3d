"""Values as JSON and YAML, stable from one run to the next: the order of fields is the API's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def as_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def as_yaml(value: Any) -> str:
    """YAML in block style; texts of several lines as literal blocks."""
    import yaml

    class Dumper(yaml.CSafeDumper):
        """YAML's safe dumper, with literal blocks and without aliases."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text.strip("\n") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=4096)).rstrip("\n")


def write(value: Any, form: str) -> None:
    """Prints a value in a form, `json` or `yaml`."""
    click.echo(as_json(value) if form == "json" else as_yaml(value))


def plural(count: int, singular: str, many: str = "") -> str:
    """`1 proxy`, `3 proxies`."""
    return f"{count} {singular if count == 1 else many or singular + 's'}"


def near(place: str) -> str:
    """A file, or a file and line, as seen from the working directory if it lies below it."""
    return place.removeprefix(f"{Path.cwd()}/")


def error(text: str) -> None:
    """Tells an error that does not end the command."""
    click.echo(f"{click.style('error', fg='red', bold=True)}: {text}", err=True)


def warning(text: str) -> None:
    """Tells a warning."""
    click.echo(f"{click.style('warning', fg='yellow')}: {text}", err=True)


def hint(text: str) -> None:
    """Tells what to do about what was told before."""
    click.echo(f"  hint: {text}", err=True)
