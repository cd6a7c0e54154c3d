"""`*_pb2` modules without generated code: `meltemi.protos.envoy.config.core.v3.base_pb2` exists when it is imported.

protoc would write 10 MB of Python to say what the descriptors say already. Instead a finder on `sys.meta_path` answers
for the folders and files of the archive, and the module makes each message class when it is first asked for. Type
checkers see the same modules as `.pyi` files (`meltemi.protos.stubs`). Invariant: a name in a module is exactly a name
that protoc's module would have, and the class is the one that every other road to this message gives.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

from meltemi.protos.archive import ARCHIVE, files, pool

ROOT = __package__


def module_of(file: str) -> str:
    """The full name of the module of a .proto file, as protoc forms it."""
    return f"{ROOT}.{file.removesuffix('.proto').replace('-', '_').replace('/', '.')}_pb2"


@functools.cache
def _modules() -> Mapping[str, str]:
    """Full module name -> .proto file; the packages around them are there with an empty one."""
    found: dict[str, str] = {}
    for file in files() if ARCHIVE.exists() else ():  # The archive is not there yet when it is first extracted.
        name = module_of(file)
        found[name] = file
        while (name := name.rpartition(".")[0]) != ROOT:
            found.setdefault(name, "")
    return found


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the archive. Anything else under `meltemi.protos` is left to the ordinary finders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module or package made from the archive, or None."""
        if not fullname.startswith(_PREFIX) or (file := _modules().get(fullname)) is None:
            return None
        return importlib.machinery.ModuleSpec(fullname, _Loader(file), origin=file or None, is_package=not file)


_PREFIX = f"{ROOT}."


class _Loader(importlib.abc.Loader):
    def __init__(self, file: str) -> None:
        self._file = file

    def exec_module(self, module: ModuleType) -> None:
        if self._file:
            descriptor = pool.FindFileByName(self._file)
            makers = _makers(descriptor, module.__name__)
            module.__dict__["DESCRIPTOR"] = descriptor
            module.__dict__["__getattr__"] = functools.partial(_make, module, makers)
            module.__dict__["__dir__"] = lambda: sorted({*module.__dict__, *makers})


def _make(module: ModuleType, makers: Mapping[str, Callable[[], Any]], name: str) -> Any:
    """The module's `__getattr__` (PEP 562): makes a name and keeps it."""
    if name not in makers:
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)
    value = module.__dict__[name] = makers[name]()
    return value


def _makers(file: FileDescriptor, module: str) -> Mapping[str, Callable[[], Any]]:
    """Each name that the module of a file holds, and how to make it."""
    makers: dict[str, Callable[[], Any]] = {}
    for message in file.message_types_by_name.values():
        makers[message.name] = functools.partial(_message_class, message, module)
    for enum in file.enum_types_by_name.values():
        makers[enum.name] = functools.partial(EnumTypeWrapper, enum)
        makers |= {value.name: functools.partial(int, value.number) for value in enum.values}
    for extension in file.extensions_by_name.values():
        makers[extension.name] = functools.partial(_same, extension)
        makers[f"{extension.name.upper()}_FIELD_NUMBER"] = functools.partial(int, extension.number)
    return makers


def _same(value: Any) -> Any:
    return value


def _message_class(descriptor: Any, module: str) -> Any:
    message = GetMessageClass(descriptor)
    message.__module__ = module
    return message


def install() -> None:
    """Puts the finder before the others, once: the folders of the `.pyi` files would pass for empty packages."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
