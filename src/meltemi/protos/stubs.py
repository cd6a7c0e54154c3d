"""Writes the types of the messages for type checkers: `python -m meltemi.protos.stubs`.

The modules of `meltemi.protos` exist only at run time, so mypy is given a `.pyi` file at each one's place. They are made
by protoc with mypy-protobuf's plug-in (which knows the names that `HasField` and `WhichOneof` take, and the type of each
enum) from the descriptors alone, and every import of a message module is turned to the private package. The files are
not under version control: set-up writes them.
"""

from __future__ import annotations

import lzma
import re
import sys
import tempfile
from pathlib import Path

from meltemi.protos import protoc
from meltemi.protos.archive import ARCHIVE, files
from meltemi.protos.modules import ROOT

PACKAGE = Path(__file__).parent

TYPED = (
    *("cel/", "envoy/", "google/", "io/", "istio/", "opentelemetry/"),
    *("src/proto/grpc/health/", "udpa/", "validate/", "xds/"),
)
"""Files of ours to use. What is left out are Envoy's internals and other tracers' wire formats."""

_IMPORT = re.compile(r"^(from )([\w.]+)( import \w+_pb2 as )", re.MULTILINE)


def write(target: Path) -> int:
    """Writes the stubs below `target`, in place of those that are there. Returns how many there are."""
    names = [name for name in files() if name.startswith(TYPED)]
    with tempfile.TemporaryDirectory() as folder:
        descriptors, output = Path(folder, "descriptors.binpb"), Path(folder, "stubs")
        descriptors.write_bytes(lzma.decompress(ARCHIVE.read_bytes()))
        output.mkdir()
        plugin = Path(sys.executable).with_name("protoc-gen-mypy")
        protoc.run(
            f"--descriptor_set_in={descriptors}",
            f"--plugin=protoc-gen-mypy={plugin}",
            f"--mypy_out=quiet:{output}",
            *names,
        )
        for stale in target.rglob("*_pb2.pyi"):
            stale.unlink()
        stubs = sorted(output.rglob("*_pb2.pyi"))
        for stub in stubs:
            place = target / stub.relative_to(output)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_IMPORT.sub(rf"\g<1>{ROOT}.\g<2>\g<3>", stub.read_text()))
    return len(stubs)


def main() -> int:
    """Writes the stubs beside this module."""
    write(PACKAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
