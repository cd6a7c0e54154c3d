"""Reads files of several YAML documents (or JSON), so that every value can be led back to its line.

PyYAML's C parser composes nodes, which know where they stand; values are made of the nodes here, because Kubernetes
reads YAML as JSON: times stay texts, keys are texts, `1:30` is no number, and a key given twice is an error rather
than a choice. Each document is parsed on its own, so that a syntax error in one does not hide the others.

Invariant: nothing is raised for what a user wrote; what is wrong comes back as problems with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from meltemi.api import paths
from meltemi.api.faults import Fault
from meltemi.base.problems import Problem
from meltemi.base.refs import Origin, Ref

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_TAG = "tag:yaml.org,2002:"
_MOST_VALUES = 2_000_000
"""More values than this in one document, aliases expanded, is taken for an attack."""


class _Tree:
    """The nodes of a text. Of JSON, which is read without nodes, they are made only when someone asks for a line."""

    def __init__(self, node: yaml.Node | None, text: str = "") -> None:
        self._node = node
        self._text = text

    @property
    def ready(self) -> bool:
        return self._node is not None

    def root(self) -> yaml.Node | None:
        if self._node is None and self._text:
            text, self._text = self._text, ""
            try:
                self._node = yaml.compose(text, Loader=_LOADER)
            except yaml.YAMLError:
                return None  # JSON that YAML does not take: its first line must do
        return self._node


class Lines:
    """The line of every path of a document."""

    def __init__(self, tree: _Tree, first_line: int, prefix: str = "") -> None:
        self._tree = tree
        self._first_line = first_line
        self._prefix = prefix

    def line(self, path: str = "") -> int:
        """The line, counted from 1, of the key or item at a path; of what contains it where the path does not exist."""
        node, line = self._tree.root(), 0
        if node is not None:
            line = node.start_mark.line
            for part in paths.split(f"{self._prefix}.{path}" if self._prefix else path):
                found = _child(node, part)
                if found is None:
                    break
                line, node = found
        return self._first_line + line

    def start(self) -> int:
        """The line of the document itself; of JSON, which is not gone through for that, the first line of the text."""
        return self.line() if self._tree.ready else self._first_line

    def under(self, prefix: str) -> Lines:
        """The lines of the part at `prefix`, as a document of its own."""
        return Lines(self._tree, self._first_line, paths.below(self._prefix, prefix))


class Document(msgspec.Struct, frozen=True):
    """One document: its plain value, where it stands, the lines of its parts, and what is wrong with it as YAML."""

    data: dict[str, Any]
    origin: Origin
    lines: Lines
    faults: tuple[Fault, ...] = ()

    def place(self, path: str) -> Origin:
        """The origin of the field at a path."""
        return Origin(self.origin.file, self.lines.line(path))


class Loaded(msgspec.Struct, frozen=True):
    """The documents of a text, and what is wrong with the text outside of them."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()


def load_file(path: Path) -> Loaded:
    """The documents of a file. Raises OSError if it cannot be read."""
    raw = path.read_bytes()
    try:
        return load(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        return Loaded(problems=(_problem(str(path), line, "the file is not UTF-8", "save it in UTF-8"),))


def load(text: str, file: str = "") -> Loaded:
    """The documents of a text. `List` objects are taken apart; empty documents are passed over."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for first_line, chunk in _chunks(text):
        for document in _parsed(chunk, first_line, file, problems):
            documents.extend(_taken_apart(document, problems))
    return Loaded(tuple(documents), tuple(problems))


def _chunks(text: str) -> Iterator[tuple[int, str]]:
    """The documents' texts, each with its first line. A separator belongs to the document that it begins."""
    starts = [match.start() for match in _SEPARATOR.finditer(text)]
    if not starts or text[: starts[0]].lstrip().startswith("%"):
        starts = [0, *starts[1:]]
    elif starts[0]:
        starts.insert(0, 0)
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk = text[start:end]
        yield line, chunk
        line += chunk.count("\n")


def _parsed(chunk: str, first_line: int, file: str, problems: list[Problem]) -> Iterator[Document]:
    if chunk.lstrip()[:1] == "{":
        try:
            data, lines = msgspec.json.decode(chunk), Lines(_Tree(None, chunk), first_line)
        except msgspec.DecodeError:
            pass  # a flow mapping of YAML, or broken: the parser below tells
        else:
            yield Document(data, Origin(file, lines.start()), lines)
            return
    try:
        for node in yaml.compose_all(chunk, Loader=_LOADER):
            construction = _Construction()
            value, lines = construction.value(node, ""), Lines(_Tree(node), first_line)
            yield Document(value, Origin(file, lines.start()), lines, tuple(construction.faults))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        offset = mark.line if mark else 0
        written = "".join(chunk.splitlines()[offset : offset + 1])
        message, hint = f"this is not YAML: {_reason(error)}", _advice(error, written)
        problems.append(_problem(file, first_line + offset, message, hint))
    except yaml.YAMLError as error:
        problems.append(_problem(file, first_line, f"this is not YAML: {error}", "save the file as UTF-8 text"))


def _taken_apart(document: Document, problems: list[Problem]) -> Iterator[Document]:
    """The objects of a document: itself, or the items of a List."""
    data: Any = document.data
    if data is None:
        return
    if not isinstance(data, dict):
        file, line = document.origin.file, document.origin.line
        problems.append(_problem(file, line, "the document is not an object", "begin it with apiVersion and kind"))
        return
    items = data.get("items")
    if not (str(data.get("kind", "")).endswith("List") and isinstance(items, list)):
        yield document
        return
    for index, inner in enumerate(items):
        prefix = paths.item("items", index)
        lines = document.lines.under(prefix)
        faults = tuple(
            msgspec.structs.replace(fault, path=fault.path.removeprefix(f"{prefix}."))
            for fault in document.faults
            if fault.path.startswith(f"{prefix}.")
        )
        yield from _taken_apart(Document(inner, Origin(document.origin.file, lines.start()), lines, faults), problems)


class _Construction:
    """Makes values of nodes."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._done: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()
        self._count = 0
        self._flooded = False

    def value(self, node: yaml.Node, path: str) -> Any:
        """The plain value of a node."""
        if isinstance(node, yaml.ScalarNode):
            self._count += 1
            return self._scalar(node, path)
        made = self._done.get(id(node))
        if made is not None:
            self._count += made[1]
            if self._count > _MOST_VALUES:
                if not self._flooded:
                    self._fault(path, "aliases make this document too large", "write the values out")
                self._flooded = True
                return None
            return made[0]
        if id(node) in self._open:
            self._fault(path, "an alias contains itself", "write the value out")
            return None
        self._open.add(id(node))
        before = self._count
        if isinstance(node, yaml.SequenceNode):
            result: Any = [self.value(child, paths.item(path, i)) for i, child in enumerate(node.value)]
        else:
            result = self._mapping(node, path)
        self._count += 1
        self._open.discard(id(node))
        self._done[id(node)] = (result, self._count - before)
        return result

    def _mapping(self, node: yaml.Node, path: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else (value_node,):
                    inner = self.value(source, path)
                    merged = {**inner, **merged} if isinstance(inner, dict) else merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(path, "a key is not a text", "write the key as a plain text")
                continue
            name = key_node.value
            inner_path = paths.below(path, paths.field_path(name)) if "." not in name else paths.key(path, name)
            if name in result:
                self._fault(inner_path, f"the key {name!r} is given twice", "keep one of the two", "DuplicateKey")
            result[name] = self.value(value_node, inner_path)
        return {**merged, **result} if merged else result

    def _scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "binary", "value"):
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        if kind in ("int", "float"):
            return _number(text, kind)
        self._fault(path, f"the tag {node.tag!r} is not understood", "remove the tag")
        return text

    def _fault(self, path: str, message: str, hint: str, code: str = "InvalidYAML") -> None:
        self.faults.append(Fault(path, message, hint, code))


def _number(text: str, kind: str) -> int | float | str:
    """A number as YAML writes it; a text where YAML 1.1 sees one in base 60, which Kubernetes does not."""
    if ":" in text:
        return text
    plain = text.replace("_", "")
    if kind == "float":
        return float(plain.lower().replace(".inf", "inf").replace(".nan", "nan"))
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    if digits.lower().startswith(("0x", "0b", "0o")):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def _child(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """The line and the node of an entry or item of a node."""
    if isinstance(node, yaml.SequenceNode):
        if isinstance(part, int) and part < len(node.value):
            return node.value[part].start_mark.line, node.value[part]
        return None
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in reversed(node.value):
            if key_node.value == str(part):
                return key_node.start_mark.line, value_node
    return None


def _problem(file: str, line: int, message: str, hint: str) -> Problem:
    ref = Ref("File", "", Path(file).name or "(text)")
    return Problem(ref=ref, message=message, hint=hint, code="InvalidYAML", origin=Origin(file, line))


def _reason(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part)


def _advice(error: yaml.MarkedYAMLError, written: str) -> str:
    reason = _reason(error)
    if "cannot start any token" in reason and written.startswith("\t"):
        return "indent with spaces: YAML does not allow tabs"
    if "mapping values are not allowed" in reason:
        return "check the indentation, or put a value that contains ': ' in quotes"
    if "block end" in reason or "block collection" in reason or "block mapping" in reason:
        return "check the indentation of this line against the lines above"
    if "alias" in reason:
        return "define the anchor before it is used, or put a value that begins with '*' in quotes"
    return "check the quotes, brackets and indentation here and in the line above"
