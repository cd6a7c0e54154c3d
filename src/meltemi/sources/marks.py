"""What is written onto objects that come from files: where they stand, and where their programs are to be found.

`meltemi.dev/origin` says file and line. `meltemi.dev/directory`, on pods and the templates of pods, is the directory of
the file: on one machine a container without a working directory runs there, as in an image whose WORKDIR it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meltemi.base.refs import Origin

ORIGIN = "meltemi.dev/origin"
DIRECTORY = "meltemi.dev/directory"

FILES_MANAGER = "meltemi-files"
"""The field manager of what is kept in effect from files. What a person applies by hand goes under another name."""

_TEMPLATES = ("Deployment", "ReplicaSet")

Obj = dict[str, Any]


def marked(obj: Obj, origin: Origin) -> Obj:
    """The object with its marks; the one given is left as it is."""
    found = _annotated(obj, ORIGIN, str(origin))
    file = Path(origin.file)
    if not origin.file or not file.is_file():
        return found
    directory = str(file.absolute().parent)
    if found.get("kind") == "Pod":
        return _annotated(found, DIRECTORY, directory)
    spec = found.get("spec")
    if found.get("kind") in _TEMPLATES and isinstance(spec, dict) and isinstance(spec.get("template"), dict):
        template = _annotated(spec["template"], DIRECTORY, directory)
        return {**found, "spec": {**spec, "template": template}}
    return found


def _annotated(obj: Obj, name: str, value: str) -> Obj:
    metadata = obj.get("metadata") or {}
    if not isinstance(metadata, dict):
        return obj
    annotations = metadata.get("annotations") or {}
    return {**obj, "metadata": {**metadata, "annotations": {**annotations, name: value}}}
