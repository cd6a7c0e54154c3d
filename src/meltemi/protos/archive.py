"""The API as data: every .proto file that the Envoy binary was built with, compressed, and found by name or by symbol.

No published package matches the Envoy release we run, and the nearest ones overwrite files of other packages. So the
descriptors come out of the binary itself (`meltemi.protos.extract`) into one FileDescriptorSet beside this module. Most
processes need few of its 560 files: the set is cut into slices without being parsed, and a file is handed to protobuf
only when somebody asks for it. Invariant: one archive, one private `pool`; nothing of ours enters protobuf's default pool.
"""

from __future__ import annotations

import functools
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

ENVOY_VERSION = "1.40.0"
"""The Envoy release whose API this is."""

ARCHIVE = Path(__file__).with_name("descriptors.binpb.xz")
"""An xz-compressed FileDescriptorSet, files in order of their names."""


@functools.cache
def files() -> Mapping[str, memoryview]:
    """Every file of the archive by its name (`envoy/config/core/v3/base.proto`): a serialised FileDescriptorProto."""
    return dict(_split(lzma.decompress(ARCHIVE.read_bytes())))


def _split(descriptor_set: bytes) -> Iterator[tuple[str, memoryview]]:
    """Cuts a serialised FileDescriptorSet (field 1, repeated) into its files, whose first field is always the name."""
    whole = memoryview(descriptor_set)
    at = 0
    while at < len(whole):
        size, start = _varint(whole, at + 1)
        name_size, name_start = _varint(whole, start + 1)
        yield str(whole[name_start : name_start + name_size], "utf-8"), whole[start : start + size]
        at = start + size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


@functools.cache
def _symbols() -> Mapping[str, str]:
    """Full name of every top-level message, enum, extension and service -> the name of its file."""
    found: dict[str, str] = {}
    for name, data in files().items():
        file = FileDescriptorProto.FromString(bytes(data))
        prefix = f"{file.package}." if file.package else ""
        for kind in (file.message_type, file.enum_type, file.extension, file.service):
            found |= {prefix + declared.name: name for declared in kind}
    return found


class _Database:
    """What a DescriptorPool asks for a file that it has not got; KeyError says that there is none."""

    def FindFileByName(self, name: str) -> FileDescriptorProto:  # noqa: N802 (protobuf's name)
        return FileDescriptorProto.FromString(bytes(files()[name]))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptorProto:  # noqa: N802 (protobuf's name)
        symbols = _symbols()
        outer = symbol
        while outer:
            if outer in symbols:
                return self.FindFileByName(symbols[outer])
            outer = outer.rpartition(".")[0]
        raise KeyError(symbol)


pool = DescriptorPool(descriptor_db=_Database())
"""All messages, enums, extensions and services of the archive; files are parsed as they are first asked for."""
